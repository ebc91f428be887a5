//! Which right is missing to read a process, and the one thing that gives it.
//!
//! Source: ptrace(2) "Ptrace access mode checking", Documentation/admin-guide/LSM/Yama.rst, capabilities(7).

use fragbench_proc::Rights;

/// Why a process may not be read, and how to get the right to; empty when nothing known stands in the way.
pub fn advice(pid: u32, rights: &Rights) -> Vec<String> {
    let Rights { own, target, dumpable, yama_scope } = rights;
    let mut lines = Vec::new();
    // What is mapped and what is in it the one capability opens; which pages are in memory stands in a file that only its
    // owner may open, and that is root of a process that is not dumpable.
    if own.may_trace && !own.may_read && (own.uid != target.uid || !dumpable) {
        lines.push(format!(
            "this process has CAP_SYS_PTRACE, but /proc/{pid}/pagemap may be opened by its owner only: CAP_DAC_READ_SEARCH is \
             needed as well, `sudo setcap cap_sys_ptrace,cap_dac_read_search+ep $(command -v fragbench)`"
        ));
        return lines;
    }
    if own.may_trace {
        lines.push(format!(
            "this process has CAP_SYS_PTRACE and is refused all the same: a security module (SELinux, AppArmor), a seccomp \
             filter, or a user namespace in which the capability does not count for process {pid}; run it on the host, as root"
        ));
        return lines;
    }
    if own.uid != target.uid {
        lines.push(format!(
            "process {pid} runs as user {}, this one as user {}: run `sudo -u '#{}' fragbench inspect {pid}`, or as root",
            target.uid, own.uid, target.uid
        ));
    }
    if !dumpable {
        lines.push(format!(
            "process {pid} has changed its user or runs a file with capabilities, so the kernel shuts it to its own user: \
             CAP_SYS_PTRACE is needed, `sudo fragbench inspect {pid}`"
        ));
    }
    match yama_scope {
        Some(1) => lines.push(
            "kernel.yama.ptrace_scope is 1, which lets a process read its own children only: run as root, or \
             `sudo sysctl kernel.yama.ptrace_scope=0` for the time of the inspection"
                .into(),
        ),
        Some(2) => lines.push("kernel.yama.ptrace_scope is 2: only CAP_SYS_PTRACE may read others, run as root".into()),
        Some(3) => {
            lines.push(
                "kernel.yama.ptrace_scope is 3: nobody may read others until the machine is started again".into(),
            );
        }
        _ => {}
    }
    if own.namespaces > 1 {
        lines.push(
            "this process runs in a container: start it with `--cap-add SYS_PTRACE --pid container:NAME` (Kubernetes: \
             shareProcessNamespace: true and SYS_PTRACE in the sidecar), or inspect from the host by the host's pid"
                .into(),
        );
    }
    if !lines.is_empty() {
        lines.push(
            "as a systemd service the rights are `AmbientCapabilities=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH`; for this program \
             alone `sudo setcap cap_sys_ptrace,cap_dac_read_search+ep $(command -v fragbench)`"
                .into(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_proc::User;

    #[test]
    fn each_obstacle_is_named_with_what_removes_it() {
        let user = |uid| User { uid, may_trace: false, may_read: false, namespaces: 1 };
        let free = Rights { own: user(1000), target: user(1000), dumpable: true, yama_scope: Some(0) };
        assert!(advice(42, &free).is_empty());
        let says = |rights: Rights, word: &str| {
            let text = advice(42, &rights).join("\n");
            assert!(text.contains(word), "{word} is missing: {text}");
        };
        says(Rights { target: user(107), ..free }, "sudo -u '#107' fragbench inspect 42");
        says(Rights { dumpable: false, ..free }, "CAP_SYS_PTRACE is needed");
        says(Rights { yama_scope: Some(1), ..free }, "ptrace_scope=0");
        says(Rights { yama_scope: Some(2), ..free }, "ptrace_scope is 2");
        says(Rights { yama_scope: Some(3), ..free }, "started again");
        says(Rights { own: User { namespaces: 2, ..user(1000) }, ..free }, "--cap-add SYS_PTRACE");
        let traces = User { may_trace: true, ..user(7) };
        says(Rights { own: traces, target: user(5), ..free }, "cap_sys_ptrace,cap_dac_read_search+ep");
        says(Rights { own: User { may_read: true, ..traces }, target: user(5), ..free }, "security module");
        says(Rights { target: user(107), ..free }, "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH");
    }
}
