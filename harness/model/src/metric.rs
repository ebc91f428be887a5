//! The one table of metrics: name, unit, which direction is better, meaning, how it is obtained. It feeds the
//! JSON, the tables, the plots and the documentation.

use serde::{Deserialize, Serialize};

/// Unit of a metric; its name's last word says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes; shown in binary units.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Nanoseconds.
    Nanoseconds,
    /// Calls a second.
    PerSecond,
    /// A number of things.
    Count,
    /// A ratio without unit.
    Ratio,
}

impl Unit {
    /// The unit that the last word of a metric's name says; a count where it says none.
    pub fn of_name(name: &str) -> Unit {
        let endings = [
            ("_per_s", Unit::PerSecond),
            ("_bytes", Unit::Bytes),
            ("_ratio", Unit::Ratio),
            ("_ms", Unit::Milliseconds),
            ("_ns", Unit::Nanoseconds),
            ("_s", Unit::Seconds),
        ];
        endings.iter().find(|(ending, _)| name.ends_with(ending)).map_or(Unit::Count, |(_, unit)| *unit)
    }
}

/// Which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Less is better.
    Less,
    /// More is better.
    More,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name, as in `summary.json`.
    pub name: &'static str,
    /// Unit.
    pub unit: Unit,
    /// Better direction; `None` for figures that only describe.
    pub better: Option<Better>,
    /// One line.
    pub meaning: &'static str,
    /// How it is obtained.
    pub how: &'static str,
}

/// Looks a metric up by name.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|m| m.name == name)
}

/// How a figure of a command is obtained, which is read from outside, of all its processes together; `None` where commands
/// have no such figure.
pub fn how_of_command(name: &str) -> Option<&'static str> {
    COMMAND_HOW.iter().find(|(names, _)| names.contains(&name)).map(|(_, how)| *how)
}

/// Names of a command's figures with how they are obtained.
pub const COMMAND_HOW: &[(&[&str], &str)] = &[
    (&["wall_s"], "from the start of the program to its end, of a server from the start of its load to the load's end"),
    (&["runs_per_s"], "one over wall_s"),
    (
        &["cpu_s"],
        "utime + stime of all processes, those that were waited for included, over the same time; tick resolution",
    ),
    (&["minor_faults_count"], "minflt of all processes over the same time"),
    (&["major_faults_count"], "majflt of all processes over the same time"),
    (
        &["heap_rss_peak_bytes"],
        "highest sampled sum over all processes of anonymous memory less stacks, what a fork left shared counted once; from \
         the start of the program on",
    ),
    (&["heap_rss_mean_bytes"], "time-weighted mean of the same sum over the time of wall_s"),
    (&["heap_rss_end_bytes"], "the same sum when the load has ended; of a program that ends by itself its last sample"),
    (&["heap_rss_idle_bytes"], "the same sum after the quiet stretch that follows a server's load"),
    (&["rss_peak_bytes"], "highest sampled sum of resident pages over all processes"),
    (&["vm_peak_bytes"], "highest sampled sum of address space over all processes"),
    (
        &["stack_rss_peak_bytes", "stack_rss_mean_bytes", "stack_rss_end_bytes", "stack_rss_idle_bytes"],
        "smaps of all processes: main stacks, and mappings that hold a thread's stack pointer",
    ),
    (
        &["shared_rss_peak_bytes", "shared_rss_mean_bytes", "shared_rss_end_bytes", "shared_rss_idle_bytes"],
        "smaps of all processes: proportional share of shared mappings without a file on disk",
    ),
    (
        &["file_rss_peak_bytes", "file_rss_mean_bytes", "file_rss_end_bytes", "file_rss_idle_bytes"],
        "smaps of all processes: proportional share of pages of mapped files",
    ),
];

macro_rules! metrics {
    ($($name:ident $unit:ident $better:tt $meaning:literal $how:literal)*) => {
        &[$(Metric {
            name: stringify!($name), unit: Unit::$unit, better: metrics!(@ $better), meaning: $meaning, how: $how,
        }),*]
    };
    (@ less) => { Some(Better::Less) };
    (@ more) => { Some(Better::More) };
    (@ none) => { None };
}

/// Every metric, in the order of the documentation.
pub const METRICS: &[Metric] = metrics! {
    wall_s Seconds less "time the work took" "sum over the phases of the work, barriers and epilogue excluded, by the worker's monotonic clock"
    cpu_s Seconds less "CPU time the work took" "utime + stime of /proc/PID/stat at the end of the work less that at its start; tick resolution"
    ops_per_s PerSecond more "calls of the malloc API a second" "completed calls over wall_s"
    runs_per_s PerSecond more "runs of the command a second" "one over wall_s"
    malloc_p50_ns Nanoseconds less "median latency of an allocation" "one call in N timed; the timer's own cost is included and stated"
    malloc_p99_ns Nanoseconds less "99th percentile latency of an allocation" "as malloc_p50_ns"
    malloc_p999_ns Nanoseconds less "99.9th percentile latency of an allocation" "as malloc_p50_ns"
    malloc_max_ns Nanoseconds less "longest allocation timed" "as malloc_p50_ns"
    free_p99_ns Nanoseconds less "99th percentile latency of a free" "as malloc_p50_ns"
    minor_faults_count Count less "page faults served without I/O during the work" "minflt of /proc/PID/stat, end less start of the work"
    major_faults_count Count less "page faults that needed I/O during the work" "majflt of /proc/PID/stat, end less start of the work"
    heap_rss_peak_bytes Bytes less "most heap memory resident at one time" "highest sampled resident less shared pages of /proc/PID/statm"
    heap_rss_mean_bytes Bytes less "heap memory resident, mean over time" "time-weighted mean of the samples during the work"
    heap_rss_end_bytes Bytes less "heap memory resident when the work has ended" "RssAnon at the last barrier of the work"
    heap_rss_idle_bytes Bytes less "idle, untouched: heap memory resident after a quiet stretch in which nobody calls" "RssAnon after the idle stretch that follows the work"
    heap_rss_polled_bytes Bytes less "idle, polled: heap memory resident after another quiet stretch in which only a monitor calls" "RssAnon after as long again, in which a thread of its own makes the calls of one query a second (--monitor)"
    rss_peak_bytes Bytes less "most memory resident at one time, of all kinds" "highest sampled resident pages of /proc/PID/statm, harness included"
    vm_peak_bytes Bytes less "most address space at one time" "highest sampled size of /proc/PID/statm less the harness's own mappings"
    stack_rss_peak_bytes Bytes less "most stacks of threads resident at one time" "smaps: the main stack, and mappings that hold a thread's stack pointer"
    stack_rss_mean_bytes Bytes less "stacks of threads resident, mean over time" "smaps: the main stack, and mappings that hold a thread's stack pointer"
    stack_rss_end_bytes Bytes less "stacks of threads resident when the work has ended" "smaps: the main stack, and mappings that hold a thread's stack pointer"
    stack_rss_idle_bytes Bytes less "stacks of threads resident after a quiet stretch" "smaps: the main stack, and mappings that hold a thread's stack pointer"
    shared_rss_peak_bytes Bytes less "most shared memory resident at one time" "proportional share of shared mappings without a file on disk, smaps"
    shared_rss_mean_bytes Bytes less "shared memory resident, mean over time" "proportional share of shared mappings without a file on disk, smaps"
    shared_rss_end_bytes Bytes less "shared memory resident when the work has ended" "proportional share of shared mappings without a file on disk, smaps"
    shared_rss_idle_bytes Bytes less "shared memory resident after a quiet stretch" "proportional share of shared mappings without a file on disk, smaps"
    file_rss_peak_bytes Bytes less "most mapped files resident at one time" "proportional share of pages of mapped files, smaps"
    file_rss_mean_bytes Bytes less "mapped files resident, mean over time" "proportional share of pages of mapped files, smaps"
    file_rss_end_bytes Bytes less "mapped files resident when the work has ended" "proportional share of pages of mapped files, smaps"
    file_rss_idle_bytes Bytes less "mapped files resident after a quiet stretch" "proportional share of pages of mapped files, smaps"
    live_peak_bytes Bytes none "most bytes asked for and not yet freed" "highest sum of the worker's counters at a sample"
    live_end_bytes Bytes none "bytes not freed when the work has ended" "sum of the worker's counters at the last barrier of the work"
    rss_over_live_at_live_peak_ratio Ratio less "heap RSS over live bytes at the moment of most live bytes" "Johnstone and Wilson 1998, measure 2"
    rss_peak_over_live_peak_ratio Ratio less "highest heap RSS over highest live bytes" "Johnstone and Wilson 1998, measure 4"
    rss_mean_over_live_mean_ratio Ratio less "mean heap RSS over mean live bytes" "Johnstone and Wilson 1998, measure 1"
    rss_over_live_at_rss_peak_ratio Ratio less "heap RSS over live bytes at the moment of highest heap RSS" "Johnstone and Wilson 1998, measure 3"
    arena_count Count none "arenas in existence when the work has ended" "heaps in malloc_info; initialised arenas of jemalloc"
    heap_segment_count Count none "heap segments below the arenas when the work has ended" "subheaps of malloc_info plus the main heap"
    allocator_free_bytes Bytes less "bytes the allocator itself counts as free" "sum of fast and rest of malloc_info, flag bits cleared; active less allocated of jemalloc"
    purge_ms Milliseconds less "duration of the first purge" "monotonic clock around malloc_trim(0), arena.4096.purge after thread.tcache.flush, or mi_collect(true)"
    purge_second_ms Milliseconds less "duration of a second purge with nothing new to give back" "as purge_ms"
    purge_released_bytes Bytes more "heap memory the first purge gave back" "RssAnon before less after"
    purge_stall_max_ns Nanoseconds less "longest allocation of a thread that works during a purge" "every malloc+free pair of the main thread timed while another thread purges"
    heap_rss_after_purge_bytes Bytes less "heap memory resident after the first purge" "RssAnon"
    vm_after_purge_bytes Bytes less "address space after the first purge" "VmSize less the harness's own mappings"
    refault_count Count less "page faults when work resumes after the purge" "minflt during the resume phase"
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_end_in_their_unit() {
        let mut seen = std::collections::BTreeSet::new();
        for m in METRICS {
            assert!(seen.insert(m.name), "{} stands twice", m.name);
            let suffix = match m.unit {
                Unit::Bytes => "_bytes",
                Unit::PerSecond => "_per_s",
                Unit::Seconds => "_s",
                Unit::Milliseconds => "_ms",
                Unit::Nanoseconds => "_ns",
                Unit::Count => "_count",
                Unit::Ratio => "_ratio",
            };
            assert!(m.name.ends_with(suffix), "{} does not end in {suffix}", m.name);
        }
        assert_eq!(metric("purge_ms").map(|m| m.unit), Some(Unit::Milliseconds));
        assert_eq!(metric("nothing"), None);
    }
}
