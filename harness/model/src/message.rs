//! What parent and worker say to each other: one JSON value a line, [`Message`] on the worker's standard
//! output, [`Command`] on its standard input. Workloads themselves print nothing.
//!
//! Course of a run: the parent writes the [`crate::RunSpec`]; the worker answers [`Message::Hello`] and waits;
//! after every phase it sends [`Message::Barrier`] and waits; at a barrier the parent may ask for
//! [`Command::Stats`] or [`Command::Purge`] any number of times before it says [`Command::Continue`].

use std::collections::BTreeMap;

use fragbench_glibc::{Arena, MallocInfo};
use serde::{Deserialize, Serialize};

use crate::{AllocatorAnswer, LibcAnswer};

/// Parent to worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum Command {
    /// Go on with what follows the barrier.
    Continue,
    /// Ask the allocator for its statistics.
    Stats,
    /// Ask the allocator to give back what it can, timed. With `stall`, while the main thread goes on
    /// allocating and its longest call is measured.
    Purge {
        /// Measure the longest call of a concurrently working thread.
        stall: bool,
    },
}

/// Worker to parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "message")]
pub enum Message {
    /// First message: who is in place; the worker then waits for `continue`.
    Hello(Hello),
    /// A phase begins now.
    Phase {
        /// Its name.
        name: String,
        /// `CLOCK_MONOTONIC` in nanoseconds.
        at_ns: u64,
    },
    /// The phase has ended, all threads are quiet, the worker waits.
    Barrier {
        /// Name of the phase that ended.
        name: String,
        /// `CLOCK_MONOTONIC` in nanoseconds when the work of the phase ended.
        at_ns: u64,
    },
    /// Answer to [`Command::Stats`].
    Stats(AllocatorStats),
    /// Answer to [`Command::Purge`].
    Purged(Purge),
    /// Last message of a run that succeeded.
    Done(Done),
    /// Last message of a run that failed.
    Error(WorkerError),
}

/// The worker introduces itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::SCHEMA`] of the worker.
    pub schema: u32,
    /// Its process id.
    pub pid: u32,
    /// Which allocator answered.
    pub allocator: AllocatorAnswer,
    /// Which C library is in place.
    pub libc: LibcAnswer,
    /// Address space the harness itself has mapped in the worker; subtracted from VIRT. Grows with
    /// stacks; the last value is in [`Done`].
    pub harness_vm_bytes: u64,
    /// Cost of one reading of the clock that latency sampling uses.
    pub timer_ns: f64,
    /// Threads the run will use at the most.
    pub threads: u32,
}

/// What the allocator says of itself, at a barrier. Fields an allocator does not have are `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AllocatorStats {
    /// Arenas in existence (glibc: `malloc_info` heaps; jemalloc: initialised arenas; mimalloc: heaps/threads where known).
    pub arena_count: Option<u64>,
    /// Heap segments below the arenas (glibc: 64 MiB sub-heaps plus the main heap).
    pub heap_segment_count: Option<u64>,
    /// Bytes obtained from the system and not given back by unmapping (glibc: sum of `system current` plus mmapped).
    pub system_bytes: Option<u64>,
    /// Bytes the allocator counts as free inside what it holds.
    pub free_bytes: Option<u64>,
    /// Bytes in chunks it mapped one by one (glibc `mmap` total).
    pub mmapped_bytes: Option<u64>,
    /// Free bytes of each arena, in the allocator's own order (glibc only).
    pub arena_free_bytes: Vec<u64>,
    /// Bytes obtained by each arena, in the same order (glibc only).
    pub arena_system_bytes: Vec<u64>,
    /// The allocator's further figures under its own names (`stats.active`, `committed`, …), in bytes or counts.
    pub own: BTreeMap<String, u64>,
}

/// Summed over all arenas and for each one.
impl From<MallocInfo> for AllocatorStats {
    fn from(info: MallocInfo) -> Self {
        if info.arenas.is_empty() {
            return Self::default();
        }
        let sum = |of: fn(&Arena) -> u64| info.arenas.iter().map(of).sum::<u64>();
        let free = |arena: &Arena| arena.fast_bytes + arena.rest_bytes;
        let own = [("fast", sum(|a| a.fast_bytes)), ("rest", sum(|a| a.rest_bytes))].into_iter();
        let own = own.chain(info.mmap_count.map(|count| ("mmap_count", count)));
        Self {
            arena_count: Some(info.arenas.len() as u64),
            heap_segment_count: Some(sum(|a| a.segments)),
            system_bytes: info.mmapped_bytes.map(|mmapped| mmapped + sum(|a| a.system_bytes)),
            free_bytes: Some(info.arenas.iter().map(free).sum()),
            mmapped_bytes: info.mmapped_bytes,
            arena_free_bytes: info.arenas.iter().map(free).collect(),
            arena_system_bytes: info.arenas.iter().map(|a| a.system_bytes).collect(),
            own: own.map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
        }
    }
}

/// Cost of one purge: `malloc_trim(0)`; jemalloc `thread.tcache.flush` and `arena.4096.purge`; `mi_collect(true)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Purge {
    /// What was called.
    pub call: String,
    /// Duration of the call.
    pub duration_ns: u64,
    /// Longest single malloc+free pair of the working thread during the call; only with `stall`.
    pub stall_max_ns: Option<u64>,
    /// `false` when this allocator offers no purge: nothing was done.
    pub supported: bool,
}

/// Percentiles of one kind of call, in nanoseconds, the timer's own cost included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Calls timed.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Longest call timed.
    pub max: u64,
}

/// Latencies sampled in a run; `None` where no call of the kind was timed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// malloc, calloc and aligned allocation.
    pub malloc: Option<Percentiles>,
    /// free.
    pub free: Option<Percentiles>,
    /// realloc.
    pub realloc: Option<Percentiles>,
}

/// Name of the fact ([`Done::facts`]) that says how much processor time the server used whose work this is, in seconds: of a
/// replay the recorded process's, of a model the sum of its statements' service times.
pub const SERVER_CPU_S: &str = "server_cpu_s";
/// Name of the fact that says in which time it did, in seconds.
pub const SERVER_SPAN_S: &str = "server_span_s";

/// A run that succeeded, as the worker saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Completed calls of the malloc API during the work (epilogue excluded). Equal across allocators for one seed.
    pub ops: u64,
    /// Live bytes at the end of the work. Equal across allocators for one seed.
    pub live_end_bytes: u64,
    /// Order-independent checksum over sizes and identities of all blocks ever made. Equal across allocators for one seed.
    pub checksum: u64,
    /// Whether the workload plans by what the allocator answers (addresses, refusals), as adversaries do: then the three above are
    /// not compared across allocators.
    #[serde(default)]
    pub adaptive: bool,
    /// Wall time of the work (phases only, barriers excluded), nanoseconds.
    pub work_ns: u64,
    /// Threads that were started.
    pub threads_started: u64,
    /// Address space the harness itself has mapped in the worker at the end.
    pub harness_vm_bytes: u64,
    /// Latencies.
    pub latency: LatencySummary,
    /// Further facts of the workload by name (replay: `skipped_unseen_frees`, `live_peak_error_ratio`, …).
    pub facts: BTreeMap<String, f64>,
}

/// What kind of fault ended a worker's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerErrorKind {
    /// The run specification asks for what it cannot do.
    BadSpec,
    /// A block did not hold what was written to it.
    Corruption,
    /// The allocator refused memory.
    OutOfMemory,
    /// The trace is damaged.
    BadTrace,
    /// The machine or its kernel lacks what it needs.
    Unsupported,
    /// The worker itself failed.
    Internal,
}

/// A run that failed, as the worker saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerError {
    /// What kind.
    pub kind: WorkerErrorKind,
    /// What was wrong and what to do next; corruption names block, size and thread.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_comes_back_whole() {
        let message = Message::Barrier { name: "steady\nstate".into(), at_ns: u64::MAX };
        let line = serde_json::to_string(&message).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Message>(&line).unwrap(), message);
        assert_eq!(
            serde_json::from_str::<Command>(r#"{"command":"purge","stall":true}"#).unwrap(),
            Command::Purge { stall: true }
        );
    }
}
