//! The machine as a whole: CPU time by owner, memory available, and the settings that decide what a figure means.

use std::path::Path;

use procfs::{FromBufReadSI, KernelStats};

use crate::cgroup::{CgroupLimits, cgroup_limits};
use crate::error::{ProcError, read};

/// CPU time of the whole machine since boot, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTotals {
    /// Everything but idle, waiting for I/O and stolen.
    pub busy_ns: u64,
    /// Stolen by the hypervisor.
    pub steal_ns: u64,
    /// All states.
    pub total_ns: u64,
}

/// Settings and sizes that are part of a result's conditions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineFacts {
    /// `model name` of `/proc/cpuinfo`.
    pub cpu: Option<String>,
    /// Whether the CPU reports a hypervisor.
    pub virtualised: Option<bool>,
    /// `MemTotal`.
    pub memory_bytes: Option<u64>,
    /// The bracketed word of `transparent_hugepage/enabled`.
    pub thp: Option<String>,
    /// The bracketed word of `transparent_hugepage/defrag`.
    pub thp_defrag: Option<String>,
    /// CPUs online.
    pub cpus_online: Option<u32>,
    /// `vm.overcommit_memory`.
    pub overcommit: Option<u32>,
    /// Limits of the control groups that hold this process.
    pub cgroup: CgroupLimits,
    /// Frequency governor of the first CPU.
    pub governor: Option<String>,
    /// `PRETTY_NAME` of `/etc/os-release`.
    pub os: Option<String>,
    /// `/proc/sys/kernel/osrelease`.
    pub kernel: Option<String>,
}

/// CPU time of the machine, from `ROOT/proc/stat`.
///
/// # Errors
/// [`ProcError`] when it cannot be read or understood.
pub fn cpu_totals(root: &Path) -> Result<CpuTotals, ProcError> {
    let path = root.join("proc/stat");
    let stats = KernelStats::from_buf_read(&read(&path)?[..], procfs::current_system_info())
        .map_err(|e| ProcError::parse(&path, e))?;
    let t = stats.total;
    let tick_ns = 1_000_000_000 / procfs::ticks_per_second();
    let busy = t.user + t.nice + t.system + t.irq.unwrap_or(0) + t.softirq.unwrap_or(0);
    let steal = t.steal.unwrap_or(0);
    Ok(CpuTotals {
        busy_ns: busy * tick_ns,
        steal_ns: steal * tick_ns,
        total_ns: (busy + steal + t.idle + t.iowait.unwrap_or(0)) * tick_ns,
    })
}

/// Mean frequency of the CPUs in hertz, from `cpufreq`, else from `/proc/cpuinfo`; `None` where neither tells.
pub fn cpu_hz(root: &Path) -> Option<f64> {
    let cpus: Vec<f64> = std::fs::read_dir(root.join("sys/devices/system/cpu"))
        .into_iter()
        .flatten()
        .filter_map(|cpu| std::fs::read_to_string(cpu.ok()?.path().join("cpufreq/scaling_cur_freq")).ok())
        .filter_map(|khz| khz.trim().parse::<f64>().ok().map(|khz| khz * 1e3))
        .collect();
    let cpus = if cpus.is_empty() {
        let info = std::fs::read_to_string(root.join("proc/cpuinfo")).ok()?;
        lines_of(&info, "cpu MHz").filter_map(|mhz| mhz.parse::<f64>().ok().map(|mhz| mhz * 1e6)).collect()
    } else {
        cpus
    };
    (!cpus.is_empty()).then(|| cpus.iter().sum::<f64>() / cpus.len() as f64)
}

/// `MemAvailable` in bytes.
pub fn available_bytes(root: &Path) -> Option<u64> {
    kib_of(&std::fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemAvailable")
}

/// Settings and sizes; what this machine does not tell stays `None`.
pub fn machine_facts(root: &Path) -> MachineFacts {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let info = text("proc/cpuinfo").unwrap_or_default();
    MachineFacts {
        cpu: lines_of(&info, "model name").next().map(str::to_owned),
        virtualised: lines_of(&info, "flags").next().map(|flags| flags.split(' ').any(|f| f == "hypervisor")),
        memory_bytes: text("proc/meminfo").and_then(|t| kib_of(&t, "MemTotal")),
        thp: text("sys/kernel/mm/transparent_hugepage/enabled").and_then(chosen),
        thp_defrag: text("sys/kernel/mm/transparent_hugepage/defrag").and_then(chosen),
        cpus_online: text("sys/devices/system/cpu/online").and_then(|t| count_of_list(t.trim())),
        overcommit: text("proc/sys/vm/overcommit_memory").and_then(|t| t.trim().parse().ok()),
        cgroup: cgroup_limits(root, None),
        governor: text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").map(|t| t.trim().to_owned()),
        os: text("etc/os-release").and_then(|t| {
            let line = t.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="))?;
            Some(line.trim_matches('"').to_owned())
        }),
        kernel: text("proc/sys/kernel/osrelease").map(|t| t.trim().to_owned()),
    }
}

/// The word in brackets, of those that may be chosen.
fn chosen(words: String) -> Option<String> {
    Some(words.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// How many numbers a list of processors such as `0-3,8` has; `None` for what is no such list.
pub fn count_of_list(list: &str) -> Option<u32> {
    list.split(',')
        .map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            (to.parse::<u32>().ok()?).checked_sub(from.parse().ok()?)?.checked_add(1)
        })
        .sum()
}

fn lines_of<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn kib_of(meminfo: &str, key: &str) -> Option<u64> {
    lines_of(meminfo, key).next()?.strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_are_counted() {
        assert_eq!(count_of_list("0-3,8"), Some(5));
        assert_eq!(count_of_list("0"), Some(1));
        assert_eq!(count_of_list(""), None);
        assert_eq!(count_of_list("3-1"), None);
    }

    #[test]
    fn a_captured_machine_is_read_and_what_it_lacks_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/meminfo", "MemTotal:       24576000 kB\nMemAvailable:   20000000 kB\n");
        write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        write("proc/stat", "cpu  10 1 5 100 2 0 3 7 0 0\ncpu0 10 1 5 100 2 0 3 7 0 0\nctxt 1\nbtime 1\nprocesses 1\n");
        let facts = machine_facts(dir.path());
        assert_eq!(facts.memory_bytes, Some(24576000 * 1024));
        assert_eq!(facts.thp.as_deref(), Some("madvise"));
        assert_eq!(facts.cgroup, CgroupLimits::default());
        assert_eq!((facts.cpu, facts.overcommit, facts.governor), (None, None, None));
        assert_eq!(available_bytes(dir.path()), Some(20000000 * 1024));
        assert_eq!(cpu_hz(dir.path()), None);
        let totals = cpu_totals(dir.path()).unwrap();
        let tick = 1_000_000_000 / procfs::ticks_per_second();
        assert_eq!((totals.busy_ns, totals.steal_ns, totals.total_ns), (19 * tick, 7 * tick, 128 * tick));
    }
}
