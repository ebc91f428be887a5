//! What the parent saw of the worker from outside.

use serde::{Deserialize, Serialize};

/// One reading while the worker runs: `/proc/PID/statm` and the counter page in the same instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Nanoseconds since the worker was told to start its first phase.
    pub at_ns: u64,
    /// Recorded time to which the work had come, in nanoseconds; `None` where it goes by no such clock.
    #[serde(default)]
    pub recorded_ns: Option<u64>,
    /// Address space less the harness's own share.
    pub vm_bytes: u64,
    /// Resident memory of all kinds (anonymous, file, shared).
    pub rss_bytes: u64,
    /// Anonymous resident memory: the heap under test.
    pub heap_rss_bytes: u64,
    /// Bytes asked for and not yet freed; `None` for a command, which does not tell.
    pub live_bytes: Option<i64>,
    /// Blocks not yet freed.
    pub live_blocks: Option<i64>,
    /// Completed calls.
    pub ops: Option<u64>,
    /// Stacks of threads; of a command's processes only, as what follows.
    #[serde(default)]
    pub stack_bytes: Option<u64>,
    /// Shared memory.
    #[serde(default)]
    pub shared_bytes: Option<u64>,
    /// Mapped files.
    #[serde(default)]
    pub file_bytes: Option<u64>,
    /// Processes.
    #[serde(default)]
    pub processes: Option<u32>,
}

/// One full reading at a barrier, of a process that is not moving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Phase that has just ended, or the moment's name (`start`, `idle`, `purged`, `purged_again`, `resumed`).
    pub name: String,
    /// The same clock as [`Sample::at_ns`].
    pub at_ns: u64,
    /// As in [`Sample`], from `/proc/PID/status`.
    pub vm_bytes: u64,
    /// As in [`Sample`].
    pub rss_bytes: u64,
    /// `RssAnon`.
    pub heap_rss_bytes: u64,
    /// Anonymous memory in huge pages (`smaps_rollup`), `None` when it could not be read.
    pub anon_huge_bytes: Option<u64>,
    /// Swapped out bytes.
    pub swap_bytes: u64,
    /// As in [`Sample`].
    pub live_bytes: i64,
    /// As in [`Sample`].
    pub live_blocks: i64,
    /// As in [`Sample`].
    pub ops: u64,
    /// Minor faults since the process began.
    pub minor_faults: u64,
    /// Major faults since the process began.
    pub major_faults: u64,
    /// User and system CPU time since the process began, nanoseconds (tick resolution, usually 10 ms).
    pub cpu_ns: u64,
    /// Mappings in `/proc/PID/maps`.
    pub mappings: u64,
    /// Private dirty memory of its child processes (`smaps_rollup`), `None` while it has none.
    pub children_private_bytes: Option<u64>,
}
