//! Limits of the control groups that hold a process: processor time, processors, memory. Both hierarchies are read, the
//! unified one and the older one with a tree for each controller; a limit is the least from the process's own group up to
//! the root of what is mounted here.
//!
//! It refuses to guess: what is limited outside of what this process sees (a container's own view ends at its group's
//! root) stays unknown.
//!
//! Source: Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/{cpusets,memory}.rst, scheduler/sched-bwc.rst;
//! cgroups(7), cgroup_namespaces(7), proc_pid_mountinfo(5).

use std::path::{Component, Path, PathBuf};

/// What the groups of a process allow it; `None` where there is no limit, or none that can be seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CgroupLimits {
    /// Processors' worth of time (`cpu.max`: quota over period), 1.5 for one and a half. It takes no processor away: what
    /// counts them counts all.
    pub cpu_quota: Option<f64>,
    /// Numbers and ranges of the processors it may run on (`cpuset.cpus.effective`), where a group names some.
    pub cpuset: Option<String>,
    /// Bytes at which the kernel ends a process of the group (`memory.max`).
    pub memory_max_bytes: Option<u64>,
    /// Bytes above which the group is slowed down and its pages are taken back (`memory.high`).
    pub memory_high_bytes: Option<u64>,
    /// What is free below the nearest `memory.max`, bytes: the group's own use counts cached pages of files, too.
    pub memory_headroom_bytes: Option<u64>,
}

/// Memory limits of the older hierarchy from which on there is none: the largest count of pages, and what rounds to it.
const UNLIMITED: u64 = 1 << 62;

/// The limits of a process of that number, or of this one; `root` is `/` or a captured copy of it.
pub fn cgroup_limits(root: &Path, pid: Option<u32>) -> CgroupLimits {
    let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let lossy = |path: PathBuf| {
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    };
    let groups = lossy(root.join("proc").join(process).join("cgroup"));
    let mounts = lossy(root.join("proc/self/mountinfo"));
    let dirs = |controller: &str| directories(root, &groups, &mounts, controller);
    let (cpu, cpuset, memory) = (dirs("cpu"), dirs("cpuset"), dirs("memory"));
    let number = |dir: &Path, file: &str| text(dir, file)?.parse::<u64>().ok().filter(|n| *n < UNLIMITED);
    let max = |dir: &Path| number(dir, "memory.max").or_else(|| number(dir, "memory.limit_in_bytes"));
    let used = |dir: &Path| number(dir, "memory.current").or_else(|| number(dir, "memory.usage_in_bytes"));
    CgroupLimits {
        cpu_quota: cpu.iter().filter_map(|dir| cpu_quota(dir)).reduce(f64::min),
        cpuset: cpuset
            .iter()
            .find_map(|dir| text(dir, "cpuset.cpus.effective").or_else(|| text(dir, "cpuset.effective_cpus")))
            // All that there are is no limit.
            .filter(|list| !list.is_empty() && Some(list) != text(root, "sys/devices/system/cpu/online").as_ref()),
        memory_max_bytes: memory.iter().filter_map(|dir| max(dir)).min(),
        memory_high_bytes: memory.iter().filter_map(|dir| number(dir, "memory.high")).min(),
        memory_headroom_bytes: memory.iter().filter_map(|dir| Some(max(dir)?.saturating_sub(used(dir)?))).min(),
    }
}

/// The value of a file of a group, blanks left out.
fn text(dir: &Path, file: &str) -> Option<String> {
    Some(std::fs::read_to_string(dir.join(file)).ok()?.trim().to_owned())
}

/// Processors' worth of time of one group.
fn cpu_quota(dir: &Path) -> Option<f64> {
    let (quota, period) = match text(dir, "cpu.max") {
        Some(both) => {
            let (quota, period) = both.split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (text(dir, "cpu.cfs_quota_us")?, text(dir, "cpu.cfs_period_us")?),
    };
    // `max`, and -1 of the older hierarchy, are no numbers above zero.
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// The directories of a process's group for one controller, its own first, the mounted root last; none where the group
/// lies outside of what is mounted.
fn directories(root: &Path, groups: &str, mounts: &str, controller: &str) -> Vec<PathBuf> {
    let of_group = |line: &str, named: bool| -> Option<PathBuf> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let own = if named { controllers.split(',').any(|c| c == controller) } else { controllers.is_empty() };
        own.then(|| PathBuf::from(path))
    };
    // A controller is either mounted in a tree of its own or belongs to the unified one.
    [true, false]
        .into_iter()
        .find_map(|named| {
            let group = groups.lines().find_map(|line| of_group(line, named))?;
            let (mount, top) = mounts.lines().find_map(|line| mounted(line, named.then_some(controller)))?;
            let below = group.strip_prefix(&top).ok()?;
            if below.components().any(|part| part == Component::ParentDir) {
                return None;
            }
            let mount = root.join(mount.strip_prefix("/").unwrap_or(&mount));
            let own = mount.join(below);
            Some(own.ancestors().take_while(|dir| dir.starts_with(&mount)).map(Path::to_owned).collect())
        })
        .unwrap_or_default()
}

/// Where a line of `mountinfo` mounts the tree of a controller, or the unified one, and which group is its root.
fn mounted(line: &str, controller: Option<&str>) -> Option<(PathBuf, PathBuf)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let (filesystem, options) = (kind.next()?, kind.nth(1)?);
    let fits = match controller {
        Some(name) => filesystem == "cgroup" && options.split(',').any(|option| option == name),
        None => filesystem == "cgroup2",
    };
    let mut place = place.split(' ').skip(3);
    let (top, mount) = (place.next()?, place.next()?);
    fits.then(|| (PathBuf::from(mount), PathBuf::from(top)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_least_of_a_group_and_those_above_it_holds() {
        let dir = machine(&[
            ("proc/self/mountinfo", UNIFIED),
            ("proc/7/cgroup", "0::/service/worker\n"),
            ("sys/devices/system/cpu/online", "0-63\n"),
            ("sys/fs/cgroup/service/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/service/memory.max", "3000\n"),
            ("sys/fs/cgroup/service/memory.current", "2900\n"),
            ("sys/fs/cgroup/service/worker/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/service/worker/cpuset.cpus.effective", "0-3,8\n"),
            ("sys/fs/cgroup/service/worker/memory.max", "4000\n"),
            ("sys/fs/cgroup/service/worker/memory.high", "2000\n"),
            ("sys/fs/cgroup/service/worker/memory.current", "1000\n"),
        ]);
        let limits = CgroupLimits {
            cpu_quota: Some(1.5),
            cpuset: Some("0-3,8".into()),
            memory_max_bytes: Some(3000),
            memory_high_bytes: Some(2000),
            memory_headroom_bytes: Some(100),
        };
        assert_eq!(cgroup_limits(dir.path(), Some(7)), limits);
        assert_eq!(cgroup_limits(dir.path(), Some(8)), CgroupLimits::default(), "no such process");
    }

    #[test]
    fn a_tree_for_each_controller_is_read_too() {
        let mounts = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      33 30 0:29 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      34 30 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
        let dir = machine(&[
            ("proc/self/mountinfo", mounts),
            ("proc/self/cgroup", "8:cpuset:/\n4:memory:/box/a\n2:cpu,cpuacct:/a\n0::/\n"),
            ("sys/devices/system/cpu/online", "0-63\n"),
            ("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "0-63\n"),
            ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "200000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        let limits = CgroupLimits { cpu_quota: Some(2.0), memory_max_bytes: Some(5000), ..CgroupLimits::default() };
        assert_eq!(cgroup_limits(dir.path(), None), limits);
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_unknown() {
        let dir = machine(&[
            ("proc/self/mountinfo", UNIFIED),
            ("proc/7/cgroup", "0::/../other\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
        ]);
        assert_eq!(cgroup_limits(dir.path(), Some(7)), CgroupLimits::default());
    }
}
