//! One run as it is kept: a line of `runs.jsonl`, written the moment the run ends. Failures are records too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Allocator, AllocatorAnswer, AllocatorStats, Done, LibcAnswer, ProcessFact, Purge, SCHEMA, Settings, Snapshot,
};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum RunStatus {
    /// All figures are there.
    Ok,
    /// No figure may be used.
    Failed(Failure),
}

/// Why a run has no figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Class.
    pub kind: FailureKind,
    /// What happened and what to do next.
    pub reason: String,
}

/// Class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The worker could not be started.
    Spawn,
    /// The allocator named is not the one in place.
    NotInPlace,
    /// A setting of the cell was not taken, or was overridden in the process.
    SettingIgnored,
    /// The worker died by a signal or left without a last word.
    Crashed,
    /// It took longer than the limit.
    TimedOut,
    /// It passed the memory guard, or the system ran out.
    OutOfMemory,
    /// A block's tag was damaged.
    Corruption,
    /// Ops, live bytes or checksum differ from the other allocators' for the same seed.
    Disagrees,
    /// The worker said no: bad specification, bad trace.
    Refused,
    /// A server did not get ready.
    NotReady,
    /// A figure that was asked for is not in the output.
    NoFigure,
    /// A command ended with another status than 0, or what prepares or loads it did.
    ExitStatus,
    /// The user stopped it.
    Interrupted,
}

/// What a caution is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CautionKind {
    /// Other processes took much of a core.
    ForeignCpu,
    /// The hypervisor took much of the processor time.
    Steal,
    /// Watching took more than it should.
    SamplerCost,
    /// The recording's time does not reach the allocator.
    ClockUnread,
    /// What a setting does besides, or does not do.
    Setting,
    /// The allocator complained while it ran.
    Complaint,
    /// Processes were left over and were ended.
    Leftovers,
    /// The allocator was not in place in some process.
    NotInPlace,
    /// The program has set parameters of malloc itself.
    OwnMallopt,
    /// The program has another allocator built in, under names of its own.
    BuiltIn,
    /// It had to be ended by force.
    Forced,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

impl CautionKind {
    /// The name it has in JSON.
    pub fn name(self) -> &'static str {
        match self {
            CautionKind::ForeignCpu => "foreign_cpu",
            CautionKind::Steal => "steal",
            CautionKind::SamplerCost => "sampler_cost",
            CautionKind::ClockUnread => "clock_unread",
            CautionKind::Setting => "setting",
            CautionKind::Complaint => "complaint",
            CautionKind::Leftovers => "leftovers",
            CautionKind::NotInPlace => "not_in_place",
            CautionKind::OwnMallopt => "own_mallopt",
            CautionKind::BuiltIn => "built_in",
            CautionKind::Forced => "forced",
            CautionKind::Unknown => "unknown",
        }
    }
}

/// Something a reader of the run's figures must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caution {
    /// What it is about.
    pub kind: CautionKind,
    /// What was seen and what to do.
    pub text: String,
}

/// What the machine did besides the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineLoad {
    /// Share of all CPU time stolen by the hypervisor.
    pub steal_ratio: Option<f64>,
    /// CPU time of other processes as a share of the run's wall time (1 = one core).
    pub foreign_cpu_ratio: Option<f64>,
    /// Mean frequency of the cores, Hz, where the kernel tells.
    pub cpu_hz: Option<f64>,
}

/// A phase as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Its name.
    pub name: String,
    /// Start on the clock of the samples.
    pub start_ns: u64,
    /// End of its work on the same clock.
    pub end_ns: u64,
    /// The barrier's snapshot.
    pub snapshot: Snapshot,
    /// The allocator's own statistics, where they were asked for.
    pub stats: Option<AllocatorStats>,
    /// The purge made at the end of this phase, if one was.
    pub purge: Option<Purge>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`crate::SCHEMA`].
    pub schema: u32,
    /// Position in the plan's list (not in time).
    pub run: u32,
    /// Workload's name.
    pub workload: String,
    /// Allocator's name.
    pub allocator: String,
    /// Its settings.
    pub settings: Settings,
    /// Repetition, from 0. The A/A copy of the baseline counts its own.
    pub repetition: u32,
    /// Name of the recording it replayed, where the workload has several of one load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// Whether this is the baseline's second copy, run only to know the noise floor.
    pub aa: bool,
    /// How it ended.
    #[serde(flatten)]
    pub status: RunStatus,
    /// Seconds since the epoch at its start.
    pub started_unix_s: u64,
    /// Which attempt this is, from 1; a contaminated run is repeated once.
    pub attempt: u32,
    /// Command line and variables that repeat it by hand (`FRAGBENCH_PAD` left out).
    pub environment: BTreeMap<String, String>,
    /// Proof of placement.
    pub proof: Option<AllocatorAnswer>,
    /// The C library it ran on; not in records of earlier versions.
    #[serde(default)]
    pub libc: Option<LibcAnswer>,
    /// Processes of a command, by program; empty for a worker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessFact>,
    /// Figures by metric name (see [`crate::METRICS`]); a missing one could not be had.
    pub metrics: BTreeMap<String, f64>,
    /// Phases in order.
    pub phases: Vec<PhaseRecord>,
    /// The worker's last word.
    pub done: Option<Done>,
    /// What the machine did besides.
    pub load: MachineLoad,
    /// CPU time of the sampler as a share of a core.
    pub sampler_cpu_ratio: Option<f64>,
    /// File with the samples, relative to the result directory.
    pub samples: Option<String>,
    /// What a reader must know.
    pub cautions: Vec<Caution>,
}

impl RunRecord {
    /// The record of a run that begins under `allocator`: what is known of it before anything came of it. Its place in a plan
    /// is its caller's to fill in.
    pub fn begin(workload: String, allocator: &Allocator, started_unix_s: u64) -> Self {
        Self {
            schema: SCHEMA,
            run: 0,
            workload,
            allocator: allocator.name.clone(),
            settings: allocator.settings.clone(),
            repetition: 0,
            recording: None,
            aa: false,
            status: RunStatus::Ok,
            started_unix_s,
            attempt: 1,
            environment: BTreeMap::new(),
            proof: None,
            libc: None,
            processes: Vec::new(),
            metrics: BTreeMap::new(),
            phases: Vec::new(),
            done: None,
            load: MachineLoad::default(),
            sampler_cpu_ratio: None,
            samples: None,
            cautions: Vec::new(),
        }
    }

    /// Whether its figures may be used.
    pub fn is_ok(&self) -> bool {
        self.status == RunStatus::Ok
    }
}
