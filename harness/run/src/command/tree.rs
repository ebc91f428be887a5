//! The processes of a command: the one started and its descendants, read from outside.
//!
//! Fast readings add up `statm`; what that cannot tell (stacks, pages that a fork left shared, files, shared memory) comes
//! from `smaps`, read anew when the tree changes and otherwise so seldom that it takes 2 % of the time at most. It walks page
//! tables: 15 to 25 ms a resident GiB.
//!
//! A process is taken in when it is a descendant of the command's, or was handed to this process when its parent left
//! (`PR_SET_CHILD_SUBREAPER`) and carries the run's mark in its environment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fragbench_model::Sample;
use fragbench_proc::{AnonymousMemory, CpuTimes, Process, StatmReader};

use super::inside::{Inside, Proof};

/// Share of the time that slow readings may take.
const SLOW_SHARE: u32 = 50;
/// Time from a change of the tree to the next slow reading; it doubles with each, up to the longest.
const SLOW_FIRST: Duration = Duration::from_millis(20);
/// Longest time between two slow readings that cost next to nothing.
const SLOW_LONGEST: Duration = Duration::from_millis(200);
/// Shortest time between two looks for new processes.
const LOOK_LEAST: Duration = Duration::from_millis(20);

struct Member {
    process: Process,
    statm: StatmReader,
    start_ticks: u64,
    /// As of the last slow reading.
    parts: AnonymousMemory,
    proof: Proof,
}

/// CPU time and faults of a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) cpu_ns: u64,
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
}

impl Spent {
    fn add(&mut self, times: &CpuTimes) {
        self.cpu_ns += times.cpu_ns + times.children_cpu_ns;
        self.minor_faults += times.minor_faults + times.children_minor_faults;
        self.major_faults += times.major_faults + times.children_major_faults;
    }

    pub(super) fn since(&self, before: &Spent) -> Spent {
        Spent {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            minor_faults: self.minor_faults.saturating_sub(before.minor_faults),
            major_faults: self.major_faults.saturating_sub(before.major_faults),
        }
    }
}

/// The tree.
pub(super) struct Tree<'a> {
    root: u32,
    mark: String,
    inside: Inside<'a>,
    members: BTreeMap<u32, Member>,
    /// Children of this process that are no part of the command.
    foreign: BTreeSet<u32>,
    looked: Option<Instant>,
    look_cost: Duration,
    slow: Option<Instant>,
    slow_cost: Duration,
    slow_pause: Duration,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: u32, mark: String, inside: Inside<'a>) -> Self {
        Self {
            root,
            mark,
            inside,
            members: BTreeMap::new(),
            foreign: BTreeSet::new(),
            looked: None,
            look_cost: Duration::ZERO,
            slow: None,
            slow_cost: Duration::ZERO,
            slow_pause: SLOW_FIRST,
        }
    }

    /// A child of this process that is not to be taken in.
    pub(super) fn leave_out(&mut self, pid: u32) {
        self.foreign.insert(pid);
    }

    /// One reading at `at_ns`; `exact` asks for a slow one. `None` when no process is left.
    pub(super) fn sample(&mut self, at_ns: u64, exact: bool) -> Option<Sample> {
        let changed = self.look(exact);
        if changed {
            self.slow_pause = SLOW_FIRST;
        }
        if changed || exact || self.slow_is_due() {
            self.read_slowly();
        }
        let mut sample = Sample { at_ns, ..Sample::default() };
        let (mut stack, mut shared, mut file) = (0, 0, 0);
        let mut ended = Vec::new();
        for (pid, member) in &self.members {
            let Ok(statm) = member.statm.read() else {
                ended.push(*pid);
                continue;
            };
            let p = &member.parts;
            let heap = statm.anon_bytes.saturating_sub(p.stack_bytes + p.elsewhere_bytes);
            sample.vm_bytes += statm.vm_bytes;
            sample.heap_rss_bytes += heap;
            sample.rss_bytes += heap + p.stack_bytes + p.shared_bytes + p.file_bytes;
            stack += p.stack_bytes;
            shared += p.shared_bytes;
            file += p.file_bytes;
        }
        if !ended.is_empty() {
            // What it shared is whole again elsewhere.
            self.slow = None;
        }
        for pid in ended {
            self.part_with(pid);
        }
        if self.members.is_empty() {
            return None;
        }
        sample.stack_bytes = Some(stack);
        sample.shared_bytes = Some(shared);
        sample.file_bytes = Some(file);
        sample.processes = Some(self.members.len() as u32);
        Some(sample)
    }

    /// CPU time and faults so far, of all that are there and the children they waited for.
    pub(super) fn spent(&self) -> Spent {
        let mut spent = Spent::default();
        for member in self.members.values() {
            if let Ok(times) = member.process.times() {
                spent.add(&times);
            }
        }
        spent
    }

    /// Takes in new processes, at the pace that looking for them allows. Whether the tree has changed.
    fn look(&mut self, now: bool) -> bool {
        let pause = LOOK_LEAST.max(self.look_cost * SLOW_SHARE);
        if !now && self.looked.is_some_and(|at| at.elapsed() < pause) {
            return false;
        }
        let begun = crate::sys::thread_cpu_ns();
        let mut changed = false;
        let mut found = BTreeSet::new();
        let mut queue = vec![self.root];
        queue.extend(self.orphans());
        while let Some(pid) = queue.pop() {
            if found.insert(pid) {
                queue.extend(Process::live(pid).child_numbers().unwrap_or_default());
            }
        }
        for pid in found {
            changed |= self.take_in(pid);
        }
        self.look_cost = Duration::from_nanos(crate::sys::thread_cpu_ns() - begun);
        self.looked = Some(Instant::now());
        changed
    }

    /// Processes of the command that were handed to us.
    fn orphans(&self) -> Vec<u32> {
        let own = Process::live(std::process::id()).child_numbers().unwrap_or_default();
        own.into_iter()
            .filter(|pid| *pid != self.root && !self.foreign.contains(pid))
            .filter(|pid| {
                self.members.contains_key(pid)
                    || Process::live(*pid).environment().is_ok_and(|e| e.is_some_and(|e| e.contains(&self.mark)))
            })
            .collect()
    }

    /// Whether it is new, or a new program in a known process.
    fn take_in(&mut self, pid: u32) -> bool {
        let process = Process::live(pid);
        let Ok(times) = process.times() else { return false };
        if let Some(member) = self.members.get(&pid).filter(|m| m.start_ticks == times.start_ticks) {
            if member.proof.is_of(&process) {
                return false;
            }
            self.part_with(pid);
        }
        let Ok(statm) = process.statm() else { return false };
        if statm.read().is_err() {
            return false;
        }
        let proof = Proof::new(&process, pid == self.root);
        let parts = AnonymousMemory::default();
        self.members.insert(pid, Member { process, statm, start_ticks: times.start_ticks, parts, proof });
        true
    }

    fn part_with(&mut self, pid: u32) {
        if let Some(member) = self.members.remove(&pid) {
            self.inside.keep(member.proof);
        }
    }

    fn slow_is_due(&self) -> bool {
        self.slow.is_none_or(|at| at.elapsed() >= self.slow_pause.max(self.slow_cost * SLOW_SHARE))
    }

    /// Parts of every process's memory, and whether the environment holds in it.
    fn read_slowly(&mut self) {
        let begun = crate::sys::thread_cpu_ns();
        for member in self.members.values_mut() {
            if let Ok(parts) = member.process.anonymous_memory() {
                member.parts = parts;
            }
            self.inside.look(&mut member.proof, &member.process);
        }
        self.slow_cost = Duration::from_nanos(crate::sys::thread_cpu_ns() - begun);
        self.slow_pause = (self.slow_pause * 2).min(SLOW_LONGEST);
        self.slow = Some(Instant::now());
    }

    /// What is wrong inside a process, if that is known by now.
    pub(super) fn wrong(&self) -> Option<String> {
        self.inside.wrong(self.members.values().map(|m| &m.proof))
    }

    /// Ends what is left of it, each process only if it still is the one we know. Their number.
    pub(super) fn end_leftovers(&mut self) -> usize {
        self.look(true);
        let mut ended = 0;
        for (pid, member) in &self.members {
            let same = member.process.times().is_ok_and(|t| t.start_ticks == member.start_ticks);
            if same && member.process.status().is_ok() {
                crate::sys::signal(*pid, libc::SIGKILL);
                ended += 1;
            }
        }
        ended
    }

    /// Hands over what was found inside, and forgets children of ours that have ended.
    pub(super) fn finish(mut self) -> Inside<'a> {
        for pid in self.members.keys().copied().collect::<Vec<_>>() {
            crate::sys::reap(pid);
            self.part_with(pid);
        }
        self.inside
    }
}
