//! One run as the worker is told it: read as one line of JSON from its standard input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{CommandSpec, HugePages, SCHEMA};

/// What the driver writes into a block it was given. Printed with every result: it decides how many pages
/// become resident.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Touch {
    /// Nothing: only the allocator's own writes make pages resident.
    None,
    /// The first 16 bytes, which hold the block's tag.
    Header,
    /// The tag and one byte in every page (of a replayed block: of the part that was resident in the recording).
    #[default]
    Page,
    /// Every byte.
    Full,
}

/// Which clock the work goes by, and which one the allocator reads.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Pace {
    /// As fast as possible, under the wall's clock; threads stay within the skew of each other. Results of versions that
    /// knew no other pace mean this one.
    #[default]
    Fast,
    /// As fast as possible, while the allocator's readings of the clock and its timed waits are answered in recorded time.
    Virtual,
    /// The recorded gaps, divided by `speed`, under the wall's clock.
    Recorded {
        /// 1 is the recording's own speed, 2 twice as fast.
        speed: f64,
    },
}

/// The work of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum WorkloadSpec {
    /// A workload compiled into the worker, by name, with its parameters as text.
    Named {
        /// For instance `mysql/oltp-read-write`.
        name: String,
        /// Parameters that differ from the defaults; the workload checks names and values.
        parameters: BTreeMap<String, String>,
        /// The clock of its work.
        #[serde(default)]
        pace: Pace,
    },
    /// A recorded trace.
    Replay {
        /// Trace file.
        trace: PathBuf,
        /// How the recording's clock is followed.
        pace: Pace,
        /// How far, in microseconds of recorded time, a thread may run ahead of the others; 0 asks for the default.
        skew_us: u64,
        /// Copies of the trace replayed side by side; at least 1.
        threads_scale: u32,
        /// Further recordings of the same load, by which the repetitions go in turn; a run of the worker has one recording.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        same_load: Vec<PathBuf>,
    },
    /// Work generated from a statistical profile. The parent has generated it, as a trace, for the threads, scale and
    /// seed of the run; it is replayed as recordings are.
    Profile {
        /// Profile, TOML.
        profile: PathBuf,
        /// The trace generated from it.
        trace: PathBuf,
        /// How the generated work's clock is followed.
        #[serde(default)]
        pace: Pace,
    },
    /// A command of the user's. It is not the worker's to run.
    Command {
        /// The command.
        command: CommandSpec,
    },
}

impl std::fmt::Display for Pace {
    /// As on the command line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pace::Fast => f.write_str("fast"),
            Pace::Virtual => f.write_str("virtual"),
            Pace::Recorded { speed: 1.0 } => f.write_str("recorded"),
            Pace::Recorded { speed } => write!(f, "recorded×{speed}"),
        }
    }
}

impl WorkloadSpec {
    /// The command, if it is one.
    pub fn command(&self) -> Option<&CommandSpec> {
        match self {
            WorkloadSpec::Command { command } => Some(command),
            _ => None,
        }
    }

    /// Whether its runs have a quiet stretch after the work: a command that ends by itself has none.
    pub fn idles(&self) -> bool {
        self.command().is_none_or(|command| command.server.is_some())
    }

    /// The clock of its work; `None` for a command, which has the wall's.
    pub fn pace(&self) -> Option<Pace> {
        match self {
            WorkloadSpec::Named { pace, .. }
            | WorkloadSpec::Replay { pace, .. }
            | WorkloadSpec::Profile { pace, .. } => Some(*pace),
            WorkloadSpec::Command { .. } => None,
        }
    }

    /// The same work by another clock.
    #[must_use]
    pub fn at_pace(mut self, chosen: Pace) -> Self {
        if let WorkloadSpec::Named { pace, .. }
        | WorkloadSpec::Replay { pace, .. }
        | WorkloadSpec::Profile { pace, .. } = &mut self
        {
            *pace = chosen;
        }
        self
    }

    /// Recordings by which the repetitions go in turn; empty for work that is not recorded.
    pub fn recordings(&self) -> Vec<&Path> {
        match self {
            WorkloadSpec::Replay { trace, same_load, .. } => {
                std::iter::once(trace).chain(same_load).map(PathBuf::as_path).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The recording of a repetition, where there are several: every cell of a block has the same one.
    pub fn recording_of(&self, repetition: u32) -> Option<&Path> {
        let recordings = self.recordings();
        (recordings.len() > 1).then(|| recordings[repetition as usize % recordings.len()])
    }

    /// The work of a repetition: of several recordings of one load the one whose turn it is.
    #[must_use]
    pub fn of_repetition(&self, repetition: u32) -> Self {
        let mut work = self.clone();
        if let (Some(turn), WorkloadSpec::Replay { trace, same_load, .. }) = (self.recording_of(repetition), &mut work)
        {
            *trace = turn.to_owned();
            same_load.clear();
        }
        work
    }

    /// Name shown in tables: the workload's own, or the file name of the trace or profile without its ending.
    pub fn name(&self) -> String {
        match self {
            WorkloadSpec::Named { name, .. } => name.clone(),
            WorkloadSpec::Replay { trace, .. } => format!("replay/{}", stem(trace)),
            WorkloadSpec::Profile { profile, .. } => format!("profile/{}", stem(profile)),
            WorkloadSpec::Command { command } => command.name.clone(),
        }
    }
}

/// A recording's name: that of its file without the ending.
pub fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

/// What all runs of a plan have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Common {
    /// Seed of every random choice of the first repetition; each further one adds one.
    pub seed: u64,
    /// Milliseconds of quiet: of a worker between the end of the work and the purge, of a server between load and stop.
    pub idle_ms: u64,
    /// How the worker works; `None` for commands, which work as they please.
    #[serde(flatten)]
    pub driver: Option<Driver>,
}

impl Common {
    /// The specification of a run of the worker; `None` where it is commands that are run.
    pub fn spec(&self, workload: &WorkloadSpec, seed: u64) -> Option<RunSpec> {
        let driver = self.driver.clone()?;
        Some(RunSpec { schema: SCHEMA, workload: workload.clone(), seed, idle_ms: self.idle_ms, driver })
    }
}

/// How the worker works, whatever the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// Threads of a named workload; `None` asks for its default. A replay uses the recorded threads.
    pub threads: Option<u32>,
    /// Factor on the length of a named workload's phases; 1 is the quick profile.
    pub scale: f64,
    /// What is written into blocks.
    pub touch: Touch,
    /// Transparent huge pages of workers, where the cell does not say otherwise.
    pub thp: HugePages,
    /// One call in this many is timed; 0 times none.
    pub latency_every: u32,
    /// Allocations a second that a monitor makes in the second stretch of quiet; 0: there is no such stretch.
    #[serde(default)]
    pub monitor_calls: u32,
    /// Whether the epilogue (idle, purge, resume, stall) is run after the work.
    pub epilogue: bool,
}

impl Default for Driver {
    fn default() -> Self {
        Self {
            threads: None,
            scale: 1.0,
            touch: Touch::Page,
            thp: HugePages::Off,
            latency_every: 97,
            monitor_calls: 0,
            epilogue: true,
        }
    }
}

/// Everything the worker needs to do one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// [`crate::SCHEMA`] of the sender.
    pub schema: u32,
    /// The work.
    pub workload: WorkloadSpec,
    /// Seed of every random choice.
    pub seed: u64,
    /// Milliseconds of quiet between the end of the work and the purge.
    pub idle_ms: u64,
    /// How it is done.
    pub driver: Driver,
}

/// A parameter a workload takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Named as the server names its variable.
    pub name: String,
    /// Other names it answers to: of older versions, or of the other flavor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Value when not given.
    pub default: String,
    /// What it takes: `1024 to 4294967296`, `ON, OFF`; empty where the workload says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub range: String,
    /// One line.
    pub meaning: String,
}

/// What `fragbench list workloads` and `fragbench-worker --describe` say of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadFact {
    /// Name on the command line.
    pub name: String,
    /// One line.
    pub summary: String,
    /// `modelled`, `calibrated on a recording` or `recorded`.
    pub fidelity: String,
    /// Parameters of `--set`.
    pub parameters: Vec<Parameter>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(same_load: &[&str]) -> WorkloadSpec {
        WorkloadSpec::Replay {
            trace: "/t/a.fbt".into(),
            pace: Pace::Virtual,
            skew_us: 0,
            threads_scale: 1,
            same_load: same_load.iter().map(PathBuf::from).collect(),
        }
    }

    #[test]
    fn recordings_of_one_load_take_turns_under_one_name() {
        let load = replay(&["/t/b.fbt", "/u/c.fbt"]);
        let turns: Vec<String> = (0..5).map(|r| stem(load.recording_of(r).unwrap())).collect();
        assert_eq!(turns, ["a", "b", "c", "a", "b"]);
        assert_eq!(load.name(), "replay/a");
        assert_eq!(load.of_repetition(4).recordings(), [Path::new("/t/b.fbt")], "a run has one");
        assert_eq!(load.of_repetition(3), replay(&[]));
        assert_eq!((replay(&[]).recording_of(7), replay(&[]).of_repetition(7)), (None, replay(&[])));
    }

    #[test]
    fn a_single_recording_is_written_as_before() {
        let text = serde_json::to_string(&replay(&[])).unwrap();
        assert!(!text.contains("same_load"), "{text}");
        assert_eq!(serde_json::from_str::<WorkloadSpec>(&text).unwrap(), replay(&[]));
    }
}
