//! Processes by number, by name, or by cgroup.
//!
//! Source: proc_pid_comm(5), proc_pid_cgroup(5), cgroups(7).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fragbench_model::text_of;

/// Which processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Select {
    /// By number.
    pub pids: Vec<u32>,
    /// By name, as `ps -C` compares it: the whole of it, at most 15 bytes as the kernel keeps it.
    pub names: Vec<OsString>,
    /// By a cgroup they are in, or below: `/system.slice/mariadb.service`, or the end of it.
    pub cgroups: Vec<String>,
}

/// The numbers of those that are there now, below `proc` (`/proc`), ascending.
pub fn discover(proc: &Path, select: &Select) -> Vec<u32> {
    let mut found: BTreeSet<u32> =
        select.pids.iter().copied().filter(|pid| proc.join(pid.to_string()).exists()).collect();
    if !select.names.is_empty() || !select.cgroups.is_empty() {
        let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
        found.extend(entries.filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            // Names and paths are bytes, not always text.
            let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
            let comm = read("comm");
            let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
            let named = !comm.is_empty() && select.names.iter().any(|name| meant(name, comm));
            let grouped = || {
                let cgroup = String::from_utf8_lossy(&read("cgroup")).into_owned();
                let paths: Vec<&str> = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
                select.cgroups.iter().any(|group| paths.iter().any(|path| within(path, group)))
            };
            (named || grouped()).then_some(pid)
        }));
    }
    found.into_iter().collect()
}

/// Whether a name is that of a process: as the kernel keeps it (`TASK_COMM_LEN` is 16 with the NUL, so that a longer one
/// is cut, in the middle of a letter too), or as it is shown when it is not text.
fn meant(name: &OsStr, comm: &[u8]) -> bool {
    let bytes = name.as_bytes();
    &bytes[..bytes.len().min(15)] == comm || bytes == text_of(comm).as_bytes()
}

/// Whether a cgroup is the one meant, or below it: by whole parts of its path.
fn within(path: &str, group: &str) -> bool {
    let group = group.trim_matches('/');
    !group.is_empty() && format!("{path}/").contains(&format!("/{group}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_number_name_and_cgroup() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: u32, comm: &[u8], cgroup: &str| {
            let dir = proc.path().join(pid.to_string());
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("comm"), [comm, b"\n"].concat()).unwrap();
            std::fs::write(dir.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        };
        process(10, b"mariadbd", "/system.slice/mariadb.service");
        process(20, b"a-very-long-nam", "/system.slice/mariadb.service-2");
        process(30, b"sh", "/user.slice/1/job");
        process(40, b"caf\xe9", "/");
        process(50, &"vierzehnzeichenä".as_bytes()[..15], "/");
        std::fs::create_dir(proc.path().join("sys")).unwrap();
        let by = |pids: &[u32], names: &[&str], cgroups: &[&str]| {
            let names = names.iter().map(|w| (*w).into()).collect();
            let cgroups = cgroups.iter().map(|w| (*w).to_owned()).collect();
            discover(proc.path(), &Select { pids: pids.to_vec(), names, cgroups })
        };
        assert_eq!(by(&[], &["caf\\xe9"], &[]), [40], "as it is shown");
        assert_eq!(by(&[], &["vierzehnzeichenäöü"], &[]), [50], "as it was given");
        assert_eq!(by(&[30, 99], &[], &[]), [30]);
        assert_eq!(by(&[30], &["mariadbd"], &[]), [10, 30]);
        assert_eq!(by(&[], &["maria"], &[]), [0; 0], "part of a name is none");
        assert_eq!(by(&[], &["a-very-long-name-of-a-program"], &[]), [20]);
        assert_eq!(by(&[], &[], &["mariadb.service"]), [10]);
        assert_eq!(by(&[], &[], &["/user.slice"]), [30]);
        assert_eq!(by(&[], &[], &["/"]), [0; 0]);
    }
}
