//! One program in the command's tree, from exec to the end of the last process that runs it: who it is, what it held of the
//! tree's memory, and what is known of its environment. Processes that were forked without an exec share it, and with it
//! their proof.

use std::path::{Path, PathBuf};

use fragbench_proc::{CpuTimes, Process};

use super::asked::Answer;

/// Share of the command's memory from which on a program has to prove its environment.
pub(super) const RELEVANT: f64 = 0.05;
/// Memory from which on a program is looked at anew at every sample, and below which one that ended unseen is passed over.
pub(super) const NOTABLE_BYTES: u64 = 1 << 20;
/// Longest command line shown.
const SHOWN: usize = 120;

/// Which program run it is. The stack's place is chosen anew at each exec and stays over a fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageId {
    pub(super) program: PathBuf,
    stack: u64,
    /// Where the place of the stack may not be read, each process is one of its own.
    pid: Option<u32>,
}

impl ImageId {
    /// That of a process now; `None` while a program is being put in place, or when the process has ended.
    pub(super) fn of(pid: u32, process: &Process, times: &CpuTimes) -> Option<Self> {
        let program = process.program().unwrap_or_default();
        let stack = times.start_stack;
        Some(Self { program, stack, pid: (stack == 0).then_some(pid) })
    }
}

/// What is known of its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Not looked at, still being loaded, or not to be told; with the reason where one is known.
    Open(Option<String>),
    Proved,
    Wrong(Fault),
}

/// What is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) next: &'static str,
}

/// Memory over the samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) peak: u64,
    /// Sum over all samples: with that of the tree it gives the share of the mean.
    pub(super) sum: u64,
    /// At the last sample.
    pub(super) last: u64,
}

impl Held {
    pub(super) fn add(&mut self, bytes: u64) {
        self.peak = self.peak.max(bytes);
        self.sum += bytes;
        self.last = bytes;
    }

    /// The share of its mean in another's.
    pub(super) fn mean_share(&self, of: &Held) -> f64 {
        self.sum as f64 / of.sum.max(1) as f64
    }

    /// The greatest of its shares: of the peak, the mean and the last sample.
    pub(super) fn share(&self, of: &Held) -> f64 {
        let last = self.last as f64 / of.last.max(1) as f64;
        self.mean_share(of).max(self.peak as f64 / of.peak.max(1) as f64).max(last)
    }
}

/// A program run.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) id: ImageId,
    /// The first process seen with it.
    pub(super) pid: u32,
    command: String,
    /// It is what we started, with the environment we gave it, before any exec.
    pub(super) started: bool,
    /// It is in the process that was started, or of the command's own program: what is wrong there ends the run at once.
    pub(super) central: bool,
    /// Its environment when it was first seen: servers that change their title write over it later.
    pub(super) environment: Option<Vec<String>>,
    pub(super) state: State,
    pub(super) held: Held,
    pub(super) processes: u32,
    /// What malloc's own parameters said when last asked.
    pub(super) answer: Option<Answer>,
    /// Code of an allocator in the program, under names of its own.
    pub(super) holds: Option<String>,
}

impl Image {
    pub(super) fn new(id: ImageId, pid: u32, process: &Process, started: bool, central: bool) -> Self {
        // Empty while the program is still being put in place.
        let environment = process.environment().ok().flatten().filter(|e| !e.is_empty());
        let command = process.command_line().unwrap_or_default();
        Self {
            id,
            pid,
            command,
            started,
            central,
            environment,
            state: State::Open(None),
            held: Held::default(),
            processes: 0,
            answer: None,
            holds: None,
        }
    }

    /// Whether it is about the program that runs there now.
    pub(super) fn is_of(&self, pid: u32, process: &Process) -> bool {
        process.times().ok().and_then(|times| ImageId::of(pid, process, &times)).is_some_and(|id| id == self.id)
    }

    /// Name, number and command line, for a message.
    pub(super) fn shown(&self) -> String {
        let name = self.id.program.file_name().unwrap_or(Path::new("?").as_os_str()).to_string_lossy();
        let cut: String = self.command.chars().take(SHOWN).collect();
        let more = if cut.len() < self.command.len() { "…" } else { "" };
        format!("{name} (process {}, `{cut}{more}`)", self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_the_greatest_of_peak_mean_and_end() {
        let of = |bytes: &[u64]| {
            let mut held = Held::default();
            bytes.iter().for_each(|b| held.add(*b));
            held
        };
        let tree = of(&[10, 100, 100, 10]);
        assert_eq!(of(&[0, 40, 0, 0]).share(&tree), 0.4);
        assert_eq!(of(&[0, 0, 0, 5]).share(&tree), 0.5, "what stays counts for idle memory");
        assert!(of(&[0, 4, 4, 0]).share(&tree) < RELEVANT);
        assert_eq!(of(&[]).share(&of(&[])), 0.0);
    }
}
