//! What the groups and the processors of a process allow it, as an inspection shows it.

use std::path::Path;

use fragbench_model::{GlibcVersion, ProcessLimits};
use fragbench_proc::{CgroupLimits, Process, cgroup_limits, count_of_list};

/// The limits of a process that runs, `glibc` being the version that its malloc is of.
pub(crate) fn limits_of(pid: u32, glibc: Option<&str>) -> ProcessLimits {
    let allowed = Process::live(pid).grants().ok().and_then(|grants| grants.cpus);
    limits(cgroup_limits(Path::new("/"), Some(pid)), allowed.as_deref().and_then(count_of_list), glibc)
}

fn limits(groups: CgroupLimits, processors: Option<u32>, glibc: Option<&str>) -> ProcessLimits {
    let version: Option<GlibcVersion> = glibc.and_then(|version| version.parse().ok());
    ProcessLimits {
        cpu_quota: groups.cpu_quota,
        processors,
        default_arena_limit: version.zip(processors).map(|(version, n)| version.default_arena_limit(n)),
        memory_max_bytes: groups.memory_max_bytes,
        memory_high_bytes: groups.memory_high_bytes,
        memory_headroom_bytes: groups.memory_headroom_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arenas_follow_processors_and_release_and_not_the_quota() {
        let groups =
            || CgroupLimits { cpu_quota: Some(2.0), memory_max_bytes: Some(1 << 30), ..CgroupLimits::default() };
        let of = |glibc| limits(groups(), Some(64), glibc);
        assert_eq!(of(Some("2.36")).default_arena_limit, Some(512));
        assert_eq!(of(Some("2.44")).default_arena_limit, Some(64));
        assert_eq!(of(None).default_arena_limit, None);
        assert_eq!((of(None).cpu_quota, of(None).memory_max_bytes), (Some(2.0), Some(1 << 30)));
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(limits_of(std::process::id(), Some("2.36")).default_arena_limit.unwrap() >= 8);
    }
}
