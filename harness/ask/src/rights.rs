//! Whether a process can be traced at all, and the one command that helps where it cannot.
//!
//! Source: ptrace(2), "Ptrace access mode checking"; Documentation/admin-guide/LSM/Yama.rst; proc_pid_status(5).

use crate::AskError;
use crate::process::{name, state};

/// Refuses a process that is stopped, traced by somebody else, or this one.
pub(crate) fn check_free(pid: u32) -> Result<(), AskError> {
    let not_free = |state: String, fix: String| Err(AskError::NotFree { pid, state, fix });
    let Some(state) = state(pid) else { return Ok(()) };
    if pid == std::process::id() {
        return not_free("this very program".into(), "name another one".into());
    }
    if state.tracer != 0 {
        let tracer = name(state.tracer).unwrap_or_default();
        return not_free(format!("traced by {tracer} ({})", state.tracer), "end that first".into());
    }
    if matches!(state.letter, 'T' | 't') {
        return not_free("stopped".into(), format!("kill -CONT {pid}"));
    }
    Ok(())
}

/// Why the kernel said no, as far as it can be told, and what helps.
pub(crate) fn forbidden(pid: u32) -> AskError {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let (why, fix) = explain(scope.trim().parse().unwrap_or(0), is_root(), &command);
    AskError::Forbidden { pid, why, fix }
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.is_some_and(|uids| uids.split_ascii_whitespace().nth(1) == Some("0"))
}

fn explain(yama_scope: u32, root: bool, command: &str) -> (String, String) {
    match (yama_scope, root) {
        (3, _) => (
            "Yama allows no tracing until the next boot (kernel.yama.ptrace_scope=3)".into(),
            "reboot without it".into(),
        ),
        (_, true) => (
            "this root lacks CAP_SYS_PTRACE, as in a container".into(),
            "start the container with --cap-add=SYS_PTRACE, or run this on the host".into(),
        ),
        (0, false) => ("it belongs to another user or has changed its user".into(), format!("sudo {command}")),
        (scope, false) => (
            format!("Yama lets only root trace others' children (kernel.yama.ptrace_scope={scope})"),
            format!("sudo {command}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lack_has_its_own_remedy() {
        assert!(explain(0, false, "fragbench trim 7").1.contains("sudo fragbench trim 7"));
        assert!(explain(1, false, "").0.contains("ptrace_scope=1"));
        assert!(explain(1, true, "").1.contains("SYS_PTRACE"));
        assert!(explain(3, true, "").1.contains("reboot"));
    }

    #[test]
    fn a_process_does_not_trace_itself() {
        assert!(matches!(check_free(std::process::id()), Err(AskError::NotFree { .. })));
    }
}
