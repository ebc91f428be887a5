//! strace: the command line, and what it writes with `-f -ttt`, with and without `-k`.
//!
//! Source: strace(1).

use std::collections::HashMap;
use std::ffi::OsString;

use crate::call::{Call, Frame, Name};

/// Arguments of strace, without what is to be recorded.
pub(crate) fn arguments(output: &std::path::Path, stacks: bool) -> Vec<OsString> {
    let names: Vec<&str> = Name::ALL.iter().map(|name| name.text()).collect();
    let mut arguments: Vec<OsString> = ["-f", "-q", "-ttt", "-o"].map(OsString::from).to_vec();
    arguments.push(output.into());
    // What starts threads says which process a thread belongs to; not every machine has each of them (`?`).
    arguments.extend(["-e".into(), format!("trace={},?clone,?clone3", names.join(",")).into()]);
    if stacks {
        arguments.push("-k".into());
    }
    arguments
}

/// Reads what strace wrote. Calls shorter than `min_bytes` are left out, but for `brk`.
pub(crate) fn parse(text: &str, min_bytes: u64) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    // Beginnings of calls that others interrupted.
    let mut begun: HashMap<u32, String> = HashMap::new();
    let mut starter: HashMap<u32, u32> = HashMap::new();
    let mut stack_of: Option<usize> = None;
    for line in text.lines() {
        if let Some(frame) = line.strip_prefix(" > ") {
            if let (Some(call), Some(frame)) = (stack_of, frame_of(frame)) {
                let call: &mut Call = &mut calls[call];
                call.stack.push(frame);
            }
            continue;
        }
        stack_of = None;
        let Some((thread, rest)) = line.trim_start().split_once(' ') else { continue };
        let Some((time, event)) = rest.trim_start().split_once(' ') else { continue };
        let (Ok(thread), Ok(at_s)) = (thread.parse(), time.parse()) else { continue };
        if let Some(beginning) = event.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, beginning.to_owned());
            continue;
        }
        let joined = event.strip_prefix("<... ").and_then(|rest| {
            let (_, end) = rest.split_once(" resumed>")?;
            Some(begun.remove(&thread)? + end)
        });
        let event = joined.as_deref().unwrap_or(event);
        if event.starts_with("clone") && event.contains("CLONE_THREAD") {
            let started = event.rsplit_once(" = ").and_then(|(_, id)| id.trim().parse().ok());
            starter.extend(started.map(|id| (id, thread)));
        }
        if let Some(call) = call_of(event, thread, at_s)
            && (call.name == Name::Brk || call.bytes >= min_bytes)
        {
            stack_of = Some(calls.len());
            calls.push(call);
        }
    }
    for call in &mut calls {
        while let Some(by) = starter.get(&call.pid).filter(|by| **by != call.pid) {
            call.pid = *by;
        }
    }
    // A call that was interrupted stands where it ended.
    calls.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    calls
}

/// `mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f58926fe000`.
fn call_of(text: &str, thread: u32, at_s: f64) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let name = Name::of(name)?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments: Vec<&str> = arguments.trim_end().trim_end_matches(')').split(", ").collect();
    let argument = |i: usize| arguments.get(i).copied().unwrap_or("");
    let result = match result.split_whitespace().next()? {
        // An error number follows by name: `-1 ENOMEM (Cannot allocate memory)`.
        "-1" => Some(u64::MAX),
        text => number(text),
    };
    let length = match name {
        Name::Brk => None,
        Name::Mremap => Some(2),
        _ => Some(1),
    };
    Some(Call {
        at_s,
        pid: thread,
        thread,
        thread_name: String::new(),
        name,
        address: number(argument(0))?,
        bytes: length.map_or(Some(0), |i| number(argument(i)))?,
        access: if matches!(name, Name::Mmap | Name::Mprotect) { access(argument(2)) } else { 0 },
        flags: if name == Name::Mmap { flags(argument(3)) } else { 0 },
        result,
        stack: Vec::new(),
    })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        _ if text == "NULL" => Some(0),
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn named(text: &str, names: &[(&str, i32)]) -> u64 {
    let bits = text.split('|').filter_map(|word| names.iter().find(|(name, _)| *name == word));
    bits.map(|(_, bit)| bit.cast_unsigned() as u64).fold(0, |all, bit| all | bit)
}

fn access(text: &str) -> u64 {
    named(text, &[("PROT_READ", libc::PROT_READ), ("PROT_WRITE", libc::PROT_WRITE), ("PROT_EXEC", libc::PROT_EXEC)])
}

fn flags(text: &str) -> u64 {
    named(
        text,
        &[
            ("MAP_PRIVATE", libc::MAP_PRIVATE),
            ("MAP_SHARED", libc::MAP_SHARED),
            ("MAP_ANONYMOUS", libc::MAP_ANONYMOUS),
            ("MAP_NORESERVE", libc::MAP_NORESERVE),
            ("MAP_STACK", libc::MAP_STACK),
            ("MAP_FIXED", libc::MAP_FIXED),
        ],
    )
}

/// `/usr/lib/libc.so.6(__mmap+0x13) [0x101a33]`; the symbol is missing where there is none.
fn frame_of(text: &str) -> Option<Frame> {
    let (place, address) = text.rsplit_once(" [")?;
    let (object, symbol) = place.rsplit_once('(').unwrap_or((place, ""));
    let symbol = symbol.trim_end_matches(')');
    let name = symbol.rsplit_once("+0x").map_or(symbol, |(name, _)| name);
    let function = if name.is_empty() { address.trim_end_matches(']').to_owned() } else { name.to_owned() };
    Some(Frame { function, object: object.rsplit('/').next().unwrap_or(object).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
11031 1795432583.817869 brk(NULL)       = 0x560cc9d5c000
11031 1795432583.819599 mmap(NULL, 8392704, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_STACK, -1, 0) = 0x7f58926fe000
 > /usr/lib/x86_64-linux-gnu/libc.so.6(pthread_create+0x97c) [0x89c2c]
 > /srv/a(b)/server() [0x11f2]
11032 1795432583.82 mmap(NULL, 134217728, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0 <unfinished ...>
11031 1795432583.821 clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x7f58926fe000} => {parent_tid=[11032]}, 88) = 11032
11031 1795432583.83 munmap(0x7f58926fe000, 4096) = 0
11032 1795432583.84 <... mmap resumed>) = 0x7f5880000000
11032 1795432583.85 mmap(NULL, 99999999999999, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = -1 ENOMEM (Cannot allocate memory)
11032 1795432583.86 +++ exited with 0 +++
";

    #[test]
    fn calls_whole_and_in_two_parts() {
        let calls = parse(TEXT, 0);
        let names: Vec<Name> = calls.iter().map(|c| c.name).collect();
        assert_eq!(names, [Name::Brk, Name::Mmap, Name::Munmap, Name::Mmap, Name::Mmap]);
        assert_eq!((calls[0].address, calls[0].result), (0, Some(0x560c_c9d5_c000)));
        assert!(calls.iter().all(|call| call.pid == 11031), "threads are their process's");
        assert_eq!(calls[1].flags & libc::MAP_STACK as u64, libc::MAP_STACK as u64);
        let frames: Vec<(&str, &str)> =
            calls[1].stack.iter().map(|f| (f.function.as_str(), f.object.as_str())).collect();
        assert_eq!(frames, [("pthread_create", "libc.so.6"), ("0x11f2", "server")]);
        assert_eq!((calls[3].thread, calls[3].bytes, calls[3].result), (11032, 128 << 20, Some(0x7f58_8000_0000)));
        assert!(calls[4].failed() && !calls[3].failed());
        assert_eq!(parse(TEXT, 60_000_000).len(), 3, "short ones are left out");
    }
}
