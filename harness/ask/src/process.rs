//! State of a process and of its threads as the kernel shows it: stopped, traced, where each thread is.
//!
//! Source: proc_pid_status(5), proc_pid_syscall(5).

use std::path::{Path, PathBuf};

/// A thread and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thread {
    pub(crate) id: u32,
    /// Number of the system call it is in; `None` outside one.
    pub(crate) system_call: Option<u64>,
    pub(crate) stack_pointer: u64,
    pub(crate) program_counter: u64,
}

/// What `status` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The letter of its state.
    pub(crate) letter: char,
    /// Who traces it; 0 for nobody.
    pub(crate) tracer: u32,
}

fn dir(pid: u32) -> PathBuf {
    PathBuf::from("/proc").join(pid.to_string())
}

/// `None` when the process is not there.
pub(crate) fn state(pid: u32) -> Option<State> {
    let text = lossy(&dir(pid).join("status"))?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(State { letter: field("State:")?.chars().next()?, tracer: field("TracerPid:")?.parse().ok()? })
}

/// Whether a filter of system calls is on, as `status` says: 0 none, 1 strict, 2 a filter.
pub(crate) fn seccomp(pid: u32) -> Option<u32> {
    let text = lossy(&dir(pid).join("status"))?;
    text.lines().find_map(|line| line.strip_prefix("Seccomp:"))?.trim().parse().ok()
}

/// Name of a process or thread.
pub(crate) fn name(pid: u32) -> Option<String> {
    Some(lossy(&dir(pid).join("comm"))?.trim_end().to_owned())
}

/// A file of the kernel's as text: a name in it need not be UTF-8.
fn lossy(path: &Path) -> Option<String> {
    Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned())
}

/// Threads that are not running, and where they are. A stopped process has no other.
pub(crate) fn threads(pid: u32) -> Vec<Thread> {
    let Ok(tasks) = std::fs::read_dir(dir(pid).join("task")) else { return Vec::new() };
    let parsed = tasks.flatten().filter_map(|task| {
        let id = task.file_name().to_str()?.parse().ok()?;
        thread(id, &std::fs::read_to_string(task.path().join("syscall")).ok()?)
    });
    parsed.collect()
}

/// A line of `syscall`: `NR ARG0 … ARG5 SP PC`, or `-1 SP PC` outside a system call; `running` says nothing.
fn thread(id: u32, line: &str) -> Option<Thread> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [number, .., stack, counter] = fields[..] else { return None };
    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    Some(Thread { id, system_call: number.parse().ok(), stack_pointer: hex(stack)?, program_counter: hex(counter)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_inside_and_outside_of_system_calls() {
        let inside = thread(7, "202 0x1 0x0 0x2 0x0 0x0 0x3 0x7ffe1f3ef7a0 0x7feeed44826f\n").unwrap();
        assert_eq!((inside.system_call, inside.program_counter), (Some(202), 0x7fee_ed44_826f));
        let outside = thread(7, "-1 0x7ffe1f3ef7a0 0x7feeed44826f\n").unwrap();
        assert_eq!((outside.system_call, outside.stack_pointer), (None, 0x7ffe_1f3e_f7a0));
        assert_eq!(thread(7, "running\n"), None);
        assert_eq!(thread(7, ""), None);
    }

    #[test]
    fn this_process_runs_and_nobody_traces_it() {
        let state = state(std::process::id()).unwrap();
        assert!(matches!(state.letter, 'R' | 'S') && state.tracer == 0, "{state:?}");
        assert_eq!(super::state(999_999_999), None);
    }
}
