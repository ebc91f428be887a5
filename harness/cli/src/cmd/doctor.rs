//! `fragbench doctor`: what this machine allows, and the one command that fixes each lack. Changes nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::Args;
use fragbench_run::{WorkerBinary, places};
use serde::Serialize;

use crate::options::Format;
use crate::{Outcome, companions, sys};

/// Say what this machine allows, and the one command that fixes each lack
///
/// Nothing is changed and no other process is touched. Exit status 1 when something is lacking.
///
/// Example: fragbench doctor
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    /// What was found.
    found: String,
    /// Which commands need it.
    needed_by: &'static str,
    /// The command that fixes it, where it is lacking.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

impl Doctor {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let caps = capabilities(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let checks = vec![
            glibc(&sys::libc_version()),
            worker(),
            preloads()?,
            memory(number("/proc/sys/kernel/yama/ptrace_scope"), caps),
            in_path("gdb", "trim, inspect --freeze and --malloc-info", "gdb"),
            tracing(number("/proc/sys/kernel/perf_event_paranoid"), caps, find("perf"), find("strace")),
            huge_pages(std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok().as_deref()),
            cgroups(Path::new("/sys/fs/cgroup")),
        ];
        let report = Report { ok: checks.iter().all(|check| check.ok), checks };
        match self.format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&report)?),
            Format::Text => put!("{}", text(&report.checks)),
        }
        Ok(if report.ok { Outcome::Success } else { Outcome::FellShort })
    }
}

fn text(checks: &[Check]) -> String {
    let mut out = String::new();
    for check in checks {
        let mark = if check.ok { "ok     " } else { "lacking" };
        out += &format!("{mark}  {:<22} {}\n", check.name, check.found);
        if let Some(fix) = &check.fix {
            out += &format!("         {:<22} needed by {}\n         {:<22} $ {fix}\n", "", check.needed_by, "");
        }
    }
    out
}

/// Effective capabilities of `/proc/PID/status`; none where it does not say.
fn capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

fn has(caps: u64, capability: u32) -> bool {
    caps >> capability & 1 == 1
}

/// A number in a file of the kernel's; `None` when there is no such file.
fn number(path: &str) -> Option<i64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}

fn glibc(version: &str) -> Check {
    let minor: Option<u32> = version.strip_prefix("2.").and_then(|rest| rest.split('.').next()?.parse().ok());
    Check {
        name: "C library",
        ok: minor.is_some_and(|minor| minor >= 28),
        found: format!("glibc {version}"),
        needed_by: "everything: 2.28 or newer",
        fix: minor.is_none_or(|minor| minor < 28).then(|| "sudo apt full-upgrade".to_owned()),
    }
}

/// Runs the worker.
fn worker() -> Check {
    let answer = WorkerBinary::beside_this_program().and_then(|worker| {
        let output = Command::new(worker.path()).arg("--describe").output()?;
        anyhow::ensure!(output.status.success(), "{} cannot be run here: {}", worker.path().display(), output.status);
        Ok(worker.path().display().to_string())
    });
    from("worker", answer, "run, replay, badcase, tune")
}

/// Puts each library under a program and reads whether the loader refused it.
fn preloads() -> Result<Check> {
    let mut found = Vec::new();
    let mut broken = Vec::new();
    for name in ["recorder", "jemalloc", "mimalloc", "null", "trim"] {
        let file = format!("libfragbench_{name}.so");
        let path = places::libraries(&file)?.join(&file);
        let output = Command::new("/bin/true").env("LD_PRELOAD", &path).output();
        let taken = output.is_ok_and(|output| output.status.success() && output.stderr.is_empty());
        if path.is_file() && taken {
            found.push(name);
        } else {
            broken.push(path.display().to_string());
        }
    }
    let answer = if broken.is_empty() {
        Ok(found.join(", "))
    } else {
        Err(anyhow::anyhow!("cannot be preloaded: {}", broken.join(", ")))
    };
    Ok(from("preload libraries", answer, "record (recorder), run, replay, compare and tune (the others)"))
}

fn from(name: &'static str, answer: Result<String>, needed_by: &'static str) -> Check {
    let fix = "cargo build --release".to_owned();
    match answer {
        Ok(found) => Check { name, ok: true, found, needed_by, fix: None },
        Err(error) => Check { name, ok: false, found: format!("{error:#}"), needed_by, fix: Some(fix) },
    }
}

/// `ptrace(2)`, "ptrace access mode checking" and `/proc/sys/kernel/yama/ptrace_scope`: the same rule governs
/// `process_vm_readv` and `/proc/PID/pagemap`. CAP_SYS_PTRACE is number 19.
fn memory(scope: Option<i64>, caps: u64) -> Check {
    let privileged = has(caps, 19);
    let (ok, found) = match scope {
        _ if scope == Some(3) => {
            (false, "no process may read another's (ptrace_scope 3 until the next boot)".to_owned())
        }
        _ if privileged => (true, "of every process (CAP_SYS_PTRACE)".to_owned()),
        None | Some(0) => (true, "of your own processes; of other users' by root".to_owned()),
        Some(scope) => (false, format!("of none but your children (ptrace_scope {scope}, no CAP_SYS_PTRACE)")),
    };
    let fix = match scope {
        Some(3) => "sudo reboot",
        _ => "sudo setcap cap_sys_ptrace+ep \"$(command -v fragbench)\"",
    };
    Check {
        name: "reading memory",
        ok,
        found,
        needed_by: "inspect, watch, trim of a process (ptrace, process_vm_readv)",
        fix: (!ok).then(|| fix.to_owned()),
    }
}

fn in_path(name: &'static str, needed_by: &'static str, package: &str) -> Check {
    let found = find(name);
    Check {
        name,
        ok: found.is_some(),
        fix: found.is_none().then(|| format!("sudo apt install {package}")),
        found: found.map_or("not in PATH".to_owned(), |path| path.display().to_string()),
        needed_by,
    }
}

/// perf reads system calls' tracepoints for all at paranoid -1, else for CAP_PERFMON (38) or CAP_SYS_ADMIN (21);
/// strace needs no more than ptrace.
fn tracing(paranoid: Option<i64>, caps: u64, perf: Option<PathBuf>, strace: Option<PathBuf>) -> Check {
    let allowed = has(caps, 38) || has(caps, 21) || paranoid.is_some_and(|level| level < 0);
    let (ok, found) = match (&perf, &strace, allowed) {
        (Some(perf), _, true) => (true, perf.display().to_string()),
        (_, Some(strace), _) => (true, format!("{}; perf would be cheaper", strace.display())),
        (Some(_), None, false) => {
            (false, format!("perf is not allowed here (perf_event_paranoid {})", paranoid.unwrap_or(0)))
        }
        (None, None, _) => (false, "neither perf nor strace in PATH".to_owned()),
    };
    Check {
        name: "perf or strace",
        ok,
        found,
        needed_by: "syscalls",
        fix: (!ok).then(|| "sudo apt install strace".to_owned()),
    }
}

fn huge_pages(enabled: Option<&str>) -> Check {
    let mode = enabled.and_then(|text| text.split_once('[')?.1.split_once(']').map(|(mode, _)| mode.to_owned()));
    let ok = mode.as_deref() != Some("always");
    Check {
        name: "huge pages",
        ok,
        found: match &mode {
            None => "the kernel has no transparent huge pages".to_owned(),
            Some(mode) if ok => format!("transparent huge pages: {mode}"),
            Some(mode) => format!("transparent huge pages: {mode}; a heap may hold 2 MiB for each page touched"),
        },
        needed_by: "small heaps: workers are run without unless --thp is given, other programs as they are",
        fix: (!ok).then(|| "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled".to_owned()),
    }
}

fn cgroups(root: &Path) -> Check {
    let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).ok();
    let ok = controllers.as_deref().is_some_and(|all| all.split_whitespace().any(|name| name == "memory"));
    let found = match controllers {
        None => "no cgroup v2".to_owned(),
        Some(all) if ok => format!("v2: {}", all.trim()),
        Some(_) => "v2 without the memory controller".to_owned(),
    };
    let fix = "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' /etc/default/grub && \
               sudo update-grub  # from the next boot on; in a container it is the host's to do";
    Check { name: "cgroups", ok, found, needed_by: "export --cgroup", fix: (!ok).then(|| fix.to_owned()) }
}

/// What `fragbench --version --verbose` prints: this program, the worker, each library, with build ids.
///
/// # Errors
/// When this program's own path cannot be read.
pub(crate) fn versions() -> Result<String> {
    let mut files = vec![std::env::current_exe()?];
    files.extend(WorkerBinary::beside_this_program().ok().map(|worker| worker.path().to_owned()));
    files.extend(companions::recorder().ok());
    for name in ["jemalloc", "mimalloc", "mimalloc_3_6", "null", "trim"] {
        let file = format!("libfragbench_{name}.so");
        files.push(places::libraries(&file)?.join(file));
    }
    let mut out = format!("fragbench {}\n", env!("CARGO_PKG_VERSION"));
    if let Some(revision) = option_env!("FRAGBENCH_REVISION") {
        out += &format!("revision {revision}\n");
    }
    out += &format!("C library glibc {}\n", sys::libc_version());
    for file in files.iter().filter(|file| file.is_file()) {
        let bytes = std::fs::read(file)?;
        let id = fragbench_allocators::elf::parse(&bytes).ok().and_then(|elf| elf.build_id);
        out += &format!("build id {:<40} {}\n", id.as_deref().unwrap_or("none"), file.display());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTRACE: u64 = 1 << 19;

    #[test]
    fn every_lack_has_one_command() {
        let lacking = [
            glibc("2.27"),
            glibc("musl"),
            memory(Some(1), 0),
            memory(Some(3), PTRACE),
            tracing(Some(2), 0, Some("/usr/bin/perf".into()), None),
            tracing(Some(2), 0, None, None),
            huge_pages(Some("[always] madvise never")),
            cgroups(Path::new("/nowhere")),
            from("worker", Err(anyhow::anyhow!("gone")), "run"),
            in_path("no-such-program", "nothing", "none"),
        ];
        for check in &lacking {
            assert!(!check.ok && check.fix.as_ref().is_some_and(|fix| !fix.contains('\n')), "{check:?}");
        }
        assert!(text(&lacking[2..3]).contains("$ sudo setcap cap_sys_ptrace+ep"));
    }

    #[test]
    fn what_is_allowed_lacks_nothing() {
        let fine = [
            glibc("2.28"),
            glibc("2.41"),
            memory(Some(1), PTRACE),
            memory(Some(0), 0),
            memory(None, 0),
            tracing(Some(2), 0, None, Some("/usr/bin/strace".into())),
            tracing(Some(-1), 0, Some("/usr/bin/perf".into()), None),
            tracing(Some(3), 1 << 38, Some("/usr/bin/perf".into()), None),
            huge_pages(Some("always [madvise] never")),
            huge_pages(None),
        ];
        for check in &fine {
            assert!(check.ok && check.fix.is_none(), "{check:?}");
        }
    }

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        assert_eq!(capabilities("Name:\tx\nCapEff:\t0000000000080000\n"), PTRACE);
        assert_eq!(capabilities("Name:\tx\n"), 0);
    }
}
