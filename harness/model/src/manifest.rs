//! Under which conditions a result was obtained: `manifest.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Distances, HugePagesFact, Machine, Part, Plan, Settings, Shape};

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// `uname -srm`.
    pub kernel: String,
    /// `PRETTY_NAME` of `/etc/os-release`.
    pub os: Option<String>,
    /// CPU model.
    pub cpu: Option<String>,
    /// CPUs this process may use.
    pub cpus: u32,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// Memory available at the start.
    pub available_bytes: Option<u64>,
    /// `/sys/kernel/mm/transparent_hugepage/enabled`, the bracketed word.
    pub thp: Option<String>,
    /// Processors that are online: what glibc's arena limit goes by, whatever the process may use of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online_cpus: Option<u32>,
    /// `vm.overcommit_memory`.
    pub overcommit: Option<u32>,
    /// Whether a hypervisor is reported by the CPU.
    pub virtualised: Option<bool>,
    /// cgroup memory limit, if one holds.
    pub cgroup_memory_limit_bytes: Option<u64>,
    /// `memory.high` of the cgroup, if one holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_memory_high_bytes: Option<u64>,
    /// Processors' worth of time the cgroup is allowed (`cpu.max`), if it is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_cpu_quota: Option<f64>,
    /// Processors the cgroup may run on (`0-3,8`), where it names some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_cpuset: Option<String>,
    /// Frequency governor.
    pub governor: Option<String>,
    /// `RLIMIT_AS`, if one holds.
    pub address_space_limit_bytes: Option<u64>,
}

/// A library or program that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryFact {
    /// Allocator's name, `worker`, `libc`.
    pub name: String,
    /// File name (not the whole path: results travel).
    pub file: String,
    /// Version where it says one.
    pub version: Option<String>,
    /// GNU build id in hexadecimal, where the file has one.
    pub build_id: Option<String>,
}

/// Spread of the baseline against itself in one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AaSpread {
    /// Workload's name.
    pub workload: String,
    /// Metric name → ratio of the two copies' medians.
    pub ratio: BTreeMap<String, f64>,
}

/// Work generated from a profile, measured on the very trace that was replayed, beside the recording it was distilled
/// from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfileFact {
    /// Workload's name.
    pub workload: String,
    /// Shape of the recording, as its profile tells.
    pub recording: Shape,
    /// Shape of the generated work.
    pub generated: Shape,
    /// How far the latter is from the former.
    pub distances: Distances,
}

/// What a result is about, which says how it is concluded and rendered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultKind {
    /// Allocators and settings side by side: `run`, `replay`, `compare`.
    #[default]
    Comparison,
    /// Bad cases and their remedies.
    Badcase,
    /// A search for settings.
    Tuning,
}

/// How far a search has come: what `--resume` goes on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchState {
    /// Rung, from 0.
    pub rung: u32,
    /// Cells that are alive.
    pub live: Vec<usize>,
    /// Time it has taken so far, seconds.
    pub spent_s: f64,
}

/// Memory of a recorded server, from its trace: what a replay of it can be held against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingFact {
    /// Workload's name.
    pub workload: String,
    /// Name of the recording, where the workload has several of one load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// Allocator of the cell that runs what was recorded.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
    /// Greatest heap of the server, bytes: anonymous memory without stacks and written data of files.
    pub heap_peak_bytes: u64,
    /// Mean over the recording, bytes.
    pub heap_mean_bytes: u64,
    /// At the recording's end, bytes.
    pub heap_end_bytes: u64,
    /// Recorded time in microseconds and heap in bytes, in order of time.
    pub samples: Vec<(u64, u64)>,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`crate::SCHEMA`].
    pub schema: u32,
    /// The command line.
    pub command: Vec<String>,
    /// fragbench's version.
    pub version: String,
    /// Git revision it was built from, where known.
    pub revision: Option<String>,
    /// Seconds since the epoch at the start.
    pub started_unix_s: u64,
    /// Seconds since the epoch at the end; `None` while partial.
    pub ended_unix_s: Option<u64>,
    /// The machine; of a merged result the first of `machines`.
    pub host: Host,
    /// Libraries and programs.
    pub libraries: Vec<LibraryFact>,
    /// Interval of the sampler.
    pub sample_interval_ns: u64,
    /// Memory guard.
    pub mem_limit_bytes: u64,
    /// Seconds a run may take.
    pub timeout_s: u64,
    /// Profile's name.
    pub profile: String,
    /// What the result is about; not in results of earlier versions, see [`Manifest::kind`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ResultKind>,
    /// How far a search has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchState>,
    /// Of a search, the metric of memory that is to be less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Of bad cases, the remedies that were asked for; empty asks for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<String>,
    /// What all runs have in common.
    pub common: crate::Common,
    /// Share from which on a difference counts as relevant.
    #[serde(default = "crate::summary::default_relevant")]
    pub relevant: f64,
    /// The plan.
    pub plan: Plan,
    /// Noise of the baseline against itself.
    pub aa: Vec<AaSpread>,
    /// Huge pages of each workload's runs; where a workload is missing, those of `common`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub huge_pages: Vec<HugePagesFact>,
    /// What each recorded server held while it was recorded, where its trace says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recordings: Vec<RecordingFact>,
    /// Work generated from profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<ProfileFact>,
    /// What this result is a shard of; the plan is then the shard's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// What of the caller's own settings of allocators was left out of which cells, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Where a merged result was measured; empty for any other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<Machine>,
}

impl Manifest {
    /// Transparent huge pages of the workers' runs, where all had the same; `None` of commands, which have their own.
    pub fn same_huge_pages(&self) -> Option<crate::HugePages> {
        let common = self.common.driver.as_ref()?.thp;
        let first = self.huge_pages.first().map_or(common, |fact| fact.used);
        self.huge_pages.iter().all(|fact| fact.used == first).then_some(first)
    }

    /// What the result is about. Results of earlier versions say it by their profile's name.
    pub fn kind(&self) -> ResultKind {
        self.kind.unwrap_or(match self.profile.as_str() {
            "badcase" => ResultKind::Badcase,
            "tune" => ResultKind::Tuning,
            _ => ResultKind::Comparison,
        })
    }
}
