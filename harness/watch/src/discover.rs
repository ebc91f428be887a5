//! Processes by number, by name, or by cgroup.
//!
//! Source: proc_pid_comm(5), proc_pid_cgroup(5), cgroups(7).

use std::collections::BTreeSet;
use std::path::Path;

/// Which processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Select {
    /// By number.
    pub pids: Vec<u32>,
    /// By name, as `ps -C` compares it: the whole of it, at most 15 bytes as the kernel keeps it.
    pub names: Vec<String>,
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
            let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let named = select.names.iter().any(|name| cut(name) == read("comm").trim_end());
            let grouped = || {
                let cgroup = read("cgroup");
                let paths: Vec<&str> = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
                select.cgroups.iter().any(|group| paths.iter().any(|path| within(path, group)))
            };
            (named || grouped()).then_some(pid)
        }));
    }
    found.into_iter().collect()
}

/// A name as the kernel keeps it (`TASK_COMM_LEN` is 16 with the NUL).
fn cut(name: &str) -> &str {
    let mut end = name.len().min(15);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
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
        let process = |pid: u32, comm: &str, cgroup: &str| {
            let dir = proc.path().join(pid.to_string());
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("comm"), format!("{comm}\n")).unwrap();
            std::fs::write(dir.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        };
        process(10, "mariadbd", "/system.slice/mariadb.service");
        process(20, "a-very-long-nam", "/system.slice/mariadb.service-2");
        process(30, "sh", "/user.slice/1/job");
        std::fs::create_dir(proc.path().join("sys")).unwrap();
        let by = |pids: &[u32], names: &[&str], cgroups: &[&str]| {
            let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
            discover(proc.path(), &Select { pids: pids.to_vec(), names: words(names), cgroups: words(cgroups) })
        };
        assert_eq!(by(&[30, 99], &[], &[]), [30]);
        assert_eq!(by(&[30], &["mariadbd"], &[]), [10, 30]);
        assert_eq!(by(&[], &["maria"], &[]), [0; 0], "part of a name is none");
        assert_eq!(by(&[], &["a-very-long-name-of-a-program"], &[]), [20]);
        assert_eq!(by(&[], &[], &["mariadb.service"]), [10]);
        assert_eq!(by(&[], &[], &["/user.slice"]), [30]);
        assert_eq!(by(&[], &[], &["/"]), [0; 0]);
    }
}
