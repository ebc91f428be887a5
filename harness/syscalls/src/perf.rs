//! perf's tracepoints: the command line, and what `perf script` prints.
//!
//! Source: perf-record(1), perf-script(1); the fields are those of `events/syscalls/*/format` in tracefs.

use std::collections::HashMap;
use std::ffi::OsString;

use crate::call::{Call, Frame, Name};

/// Bytes of stack kept a call; deeper stacks are cut.
const STACK_BYTES: u32 = 8_192;
/// Buffers of all processors together: what perf does not fetch in time is lost, and a call with its stack takes 9 KiB.
const BUFFERS_KIB: usize = 64 << 10;

/// Arguments of `perf record`, without what is to be recorded.
pub(crate) fn arguments(output: &std::path::Path, min_bytes: u64, stacks: bool) -> Vec<OsString> {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get().next_power_of_two());
    let buffer = format!("{}K", (BUFFERS_KIB / processors).max(512));
    let mut arguments: Vec<OsString> = ["record", "-q", "-m", &buffer, "-o"].map(OsString::from).to_vec();
    arguments.push(output.into());
    if stacks {
        arguments.extend(["--call-graph".into(), format!("dwarf,{STACK_BYTES}").into()]);
    }
    for name in Name::ALL {
        arguments.extend(["-e".into(), format!("syscalls:sys_enter_{}", name.text()).into()]);
        let length = match name {
            Name::Mremap => "new_len",
            Name::Madvise => "len_in",
            _ => "len",
        };
        if name != Name::Brk && min_bytes > 0 {
            arguments.extend(["--filter".into(), format!("{length} >= {min_bytes}").into()]);
        }
    }
    for name in [Name::Mmap, Name::Mremap, Name::Brk] {
        arguments.extend(["-e".into(), format!("syscalls:sys_exit_{}/call-graph=no/", name.text()).into()]);
    }
    arguments
}

/// Arguments of `perf script` for [`parse`].
pub(crate) const SCRIPT: [&str; 6] =
    ["script", "--show-lost-events", "--ns", "-F", "comm,pid,tid,time,event,trace,ip,sym,dso", "-i"];

/// Reads what `perf script` printed. A call whose end was not recorded has no result.
pub(crate) fn parse(text: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    // The last call of each thread that is waited for.
    let mut open: HashMap<u32, usize> = HashMap::new();
    let mut stack_of: Option<usize> = None;
    for line in text.lines() {
        if line.starts_with(['\t', ' ']) && !line.contains("syscalls:sys_") {
            if let (Some(call), Some(frame)) = (stack_of, frame(line)) {
                let stack: &mut Vec<Frame> = &mut calls[call].stack;
                // An inlined function is shown once for itself and once for what it is in.
                if stack.last() != Some(&frame) {
                    stack.push(frame);
                }
            }
            continue;
        }
        stack_of = None;
        let Some((thread, event)) = header(line) else { continue };
        match event {
            Event::Enter(call) => {
                open.insert(thread, calls.len());
                stack_of = Some(calls.len());
                calls.push(call);
            }
            Event::Exit(name, result) => {
                if let Some(call) = open.remove(&thread).and_then(|i| calls.get_mut(i)).filter(|c| c.name == name) {
                    call.result = Some(result);
                }
            }
        }
    }
    calls.iter_mut().for_each(|call| settle_inlined(&mut call.stack));
    calls
}

/// An inlined function is in the object of the function it is inlined into.
fn settle_inlined(stack: &mut [Frame]) {
    let mut object = None;
    for frame in stack.iter_mut().rev() {
        match &object {
            Some(object) if frame.object == "inlined" => frame.object = String::clone(object),
            _ => object = Some(frame.object.clone()),
        }
    }
}

/// Events that perf could not keep up with.
pub(crate) fn lost(text: &str) -> u64 {
    let lines = text.lines().filter_map(|line| line.split_once("PERF_RECORD_LOST"));
    lines.filter_map(|(_, rest)| rest.split_whitespace().last()?.parse::<u64>().ok()).sum()
}

enum Event {
    Enter(Call),
    Exit(Name, u64),
}

/// `comm pid/tid time: syscalls:sys_enter_mmap: addr: 0x…, len: 0x…, …`.
fn header(line: &str) -> Option<(u32, Event)> {
    let (before, event) = line.split_once("syscalls:sys_")?;
    let (before, time) = before.trim().trim_end_matches(':').rsplit_once(' ')?;
    let (comm, ids) = before.trim().rsplit_once(' ').unwrap_or(("", before.trim()));
    let (pid, thread) = ids.split_once('/')?;
    let (pid, thread) = (pid.parse().ok()?, thread.parse().ok()?);
    let (direction, event) = event.split_once('_')?;
    let (name, fields) = event.split_once(':')?;
    let name = Name::of(name)?;
    if direction == "exit" {
        // What follows is the stack's first function, where one was recorded all the same.
        return Some((thread, Event::Exit(name, number(fields.split_whitespace().next()?)?)));
    }
    let field = |wanted: &str| {
        fields.split(',').find_map(|field| {
            let (name, value) = field.split_once(':')?;
            (name.trim() == wanted).then(|| number(value))?
        })
    };
    let (address, length) = match name {
        Name::Brk => ("brk", ""),
        Name::Munmap => ("addr", "len"),
        Name::Mmap => ("addr", "len"),
        Name::Mprotect => ("start", "len"),
        Name::Madvise => ("start", "len_in"),
        Name::Mremap => ("addr", "new_len"),
    };
    let call = Call {
        at_s: time.trim().parse().ok()?,
        pid,
        thread,
        thread_name: comm.trim().to_owned(),
        name,
        address: field(address)?,
        bytes: if name == Name::Brk { 0 } else { field(length)? },
        access: field("prot").unwrap_or(0),
        flags: field("flags").unwrap_or(0),
        result: None,
        stack: Vec::new(),
    };
    Some((thread, Event::Enter(call)))
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `95614 alloc_new_heap (/usr/lib/libc.so.6)`, or `(inlined)` in place of the object.
fn frame(line: &str) -> Option<Frame> {
    let (address, rest) = line.trim().split_once(' ')?;
    let (function, object) = rest.rsplit_once(" (")?;
    let object = object.trim_end_matches(')');
    let function = if function == "[unknown]" { format!("0x{address}") } else { function.to_owned() };
    let object = object.rsplit('/').next().unwrap_or(object).to_owned();
    Some(Frame { function, object })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
my server 19670/19671 24884.278016627:     syscalls:sys_enter_mmap: addr: 0x00000000, len: 0x08000000, prot: 0x00000000, flags: 0x00004022, fd: 0xffffffff, off: 0x00000000
\t          1019b3 __GI___mmap64 (inlined)
\t          1019b3 __GI___mmap64 (inlined)
\t           95614 alloc_new_heap (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t            11c8 std::work(int, char) (/srv/my server)
\t            0 [unknown] ([unknown])

my server 19670/19671 24884.278116627:      syscalls:sys_exit_mmap: 0x7f36d4000000     7f99e2767ca3 mmap64 (/usr/lib/ld.so)
my server 19670/19672 24884.3:     syscalls:sys_enter_munmap: addr: 0x7f36d8000000, len: 0x04000000
my server 19670/19672 24884.4:     syscalls:sys_enter_brk: brk: 0x562413c05000
my server 19670/19672 24884.5:     syscalls:sys_exit_mmap: 0xfffffffffffffff4
";

    #[test]
    fn calls_their_results_and_their_stacks() {
        let calls = parse(SCRIPT);
        assert_eq!(calls.iter().map(|c| c.name).collect::<Vec<_>>(), [Name::Mmap, Name::Munmap, Name::Brk]);
        let mmap = &calls[0];
        assert_eq!((mmap.pid, mmap.thread, mmap.thread_name.as_str()), (19670, 19671, "my server"));
        assert_eq!((mmap.bytes, mmap.access, mmap.flags, mmap.result), (128 << 20, 0, 0x4022, Some(0x7f36_d400_0000)));
        let frames: Vec<(&str, &str)> = mmap.stack.iter().map(|f| (f.function.as_str(), f.object.as_str())).collect();
        assert_eq!(
            frames,
            [
                ("__GI___mmap64", "libc.so.6"),
                ("alloc_new_heap", "libc.so.6"),
                ("std::work(int, char)", "my server"),
                ("0x0", "[unknown]"),
            ]
        );
        assert_eq!(lost(SCRIPT), 0);
        assert_eq!(lost("a 1/1 2.3: PERF_RECORD_LOST lost 12\nb 1/1 2.4: PERF_RECORD_LOST_SAMPLES lost 3\n"), 15);
        assert_eq!((calls[1].address, calls[1].bytes), (0x7f36_d800_0000, 64 << 20));
        assert_eq!(
            (calls[2].address, calls[2].result),
            (0x5624_13c0_5000, None),
            "an end of another call is not its end"
        );
    }

    #[test]
    fn lines_that_are_not_understood_are_passed_over() {
        assert_eq!(
            parse("# comment\n\nx 1/2 3.4: syscalls:sys_enter_read: fd: 0x1\nx: syscalls:sys_enter_mmap: \n"),
            []
        );
    }

    #[test]
    fn every_event_but_brk_is_filtered_by_length_in_the_kernel() {
        let text: Vec<String> =
            arguments("/out".as_ref(), 4096, true).iter().map(|a| a.to_string_lossy().into_owned()).collect();
        assert_eq!(text.iter().filter(|a| a.ends_with(">= 4096")).count(), Name::ALL.len() - 1);
        assert!(!arguments("/out".as_ref(), 0, false).iter().any(|a| a == "--filter" || a == "--call-graph"));
    }
}
