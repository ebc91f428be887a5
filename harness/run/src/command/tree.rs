//! The processes of a command: the one started and its descendants, read from outside.
//!
//! Fast readings add up `statm`; what that cannot tell (stacks, pages that a fork left shared, files, shared memory) comes
//! from `smaps`, read anew when the tree changes and otherwise so seldom that it takes 2 % of the time at most. It walks page
//! tables: 15 to 25 ms a resident GiB.
//!
//! A process is taken in when it is a descendant of the command's, or was handed to this process when its parent left
//! (`PR_SET_CHILD_SUBREAPER`), as daemons are: whatever is a child of ours, was none before the run, and is not of what we
//! start beside it (`--load`), which carries a mark in its environment. So nothing is lost that clears its environment or
//! begins a session of its own, and no control group is needed, which only root could make.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fragbench_model::Sample;
use fragbench_proc::{AnonymousMemory, CpuTimes, Process, StatmReader};

use super::inside::Inside;
use super::{ASIDE, MARK};
use crate::session::Abort;
use crate::sys::Usage;

/// Share of the time that slow readings may take.
const SLOW_SHARE: u32 = 50;
/// Time from a change of the tree to the next slow reading; it doubles with each, up to the longest.
const SLOW_FIRST: Duration = Duration::from_millis(20);
/// Longest time between two slow readings that cost next to nothing.
const SLOW_LONGEST: Duration = Duration::from_millis(200);
/// Longest time that ending what is left may take: one in an uninterruptible wait does not go.
const END_LONGEST: Duration = Duration::from_secs(5);
/// Longest time from giving its memory back to the end of a process that is waited for.
const SETTLE_LONGEST: Duration = Duration::from_secs(1);
/// Shortest time between two looks for new processes.
const LOOK_LEAST: Duration = Duration::from_millis(20);

struct Member {
    process: Process,
    statm: StatmReader,
    start_ticks: u64,
    /// As of the last slow reading.
    parts: AnonymousMemory,
    /// The program that runs in it.
    image: usize,
}

/// CPU time and faults of a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) cpu_ns: u64,
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
}

impl Spent {
    pub(super) fn add_usage(&mut self, usage: &Usage) {
        self.cpu_ns += usage.cpu_ns;
        self.minor_faults += usage.minor_faults;
        self.major_faults += usage.major_faults;
    }

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
    inside: Inside<'a>,
    members: BTreeMap<u32, Member>,
    /// Members that were handed to us.
    handed: BTreeSet<u32>,
    /// Children of this process that are no part of the command.
    foreign: BTreeSet<u32>,
    /// What those took that were handed to us and have ended.
    ended: Spent,
    /// How many those are.
    waited_for: u64,
    /// How one of those ended that was ended by a signal of somebody else's.
    crashed: Option<String>,
    looked: Option<Instant>,
    look_cost: Duration,
    slow: Option<Instant>,
    slow_cost: Duration,
    slow_pause: Duration,
}

/// Children of this process, those that have ended and were not waited for included.
pub(super) fn own_children() -> Vec<u32> {
    Process::live(std::process::id()).child_numbers().unwrap_or_default()
}

impl<'a> Tree<'a> {
    /// The tree of a process; `before` are the children this process had before it was started.
    pub(super) fn new(root: u32, before: Vec<u32>, inside: Inside<'a>) -> Self {
        Self {
            root,
            inside,
            members: BTreeMap::new(),
            handed: BTreeSet::new(),
            foreign: before.into_iter().collect(),
            ended: Spent::default(),
            waited_for: 0,
            crashed: None,
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
        let mut held: BTreeMap<usize, u64> = BTreeMap::new();
        for (pid, member) in &self.members {
            let Ok(statm) = member.statm.read() else {
                ended.push(*pid);
                continue;
            };
            let p = &member.parts;
            let heap = statm.anon_bytes.saturating_sub(p.stack_bytes + p.elsewhere_bytes);
            sample.vm_bytes += statm.vm_bytes;
            sample.heap_rss_bytes += heap;
            *held.entry(member.image).or_default() += heap;
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
        self.inside.held(&held);
        let urgent: Vec<u32> =
            self.members.iter().filter(|(_, m)| self.inside.is_urgent(m.image)).map(|(p, _)| *p).collect();
        for pid in urgent {
            let member = &self.members[&pid];
            self.inside.look(member.image, pid, &member.process);
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

    /// CPU time and faults so far, of all that are there and the children they waited for, and of those that were handed to
    /// us and have ended.
    pub(super) fn spent(&self) -> Spent {
        let mut spent = self.ended;
        for member in self.members.values() {
            if let Ok(times) = member.process.times() {
                spent.add(&times);
            }
        }
        spent
    }

    /// Looks until nothing moves: those that were handed to us and are about to end have ended, and what they took is known.
    /// A process that is forked and handed to us while its parent ends is in neither's list of children: the next look has it.
    fn settle(&mut self) {
        let until = Instant::now() + SETTLE_LONGEST;
        loop {
            let before = self.waited_for;
            self.look(true);
            let still = before == self.waited_for && self.handed.iter().all(|pid| self.members.contains_key(pid));
            if still || Instant::now() > until {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
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

    /// Processes of the command that were handed to us. Those that have ended are waited for.
    fn orphans(&mut self) -> Vec<u32> {
        let aside = format!("{MARK}={ASIDE}");
        let mut handed = BTreeSet::new();
        for pid in own_children() {
            if pid == self.root || self.foreign.contains(&pid) {
                continue;
            }
            let environment = || Process::live(pid).environment().ok().flatten();
            if !self.handed.contains(&pid) && environment().is_some_and(|e| e.contains(&aside)) {
                self.foreign.insert(pid);
            } else if self.reaped(pid) {
                self.members.remove(&pid);
            } else {
                handed.insert(pid);
            }
        }
        self.handed = handed;
        self.handed.iter().copied().collect()
    }

    /// Whether one that was handed to us has ended; then takes note of how.
    fn reaped(&mut self, pid: u32) -> bool {
        let Some((status, usage)) = crate::sys::reap(pid) else { return false };
        self.ended.add_usage(&usage);
        self.waited_for += 1;
        if std::os::unix::process::ExitStatusExt::signal(&status).is_some() {
            self.crashed = Some(format!("process {pid} of it: {}", crate::sys::describe_exit(&status)));
        }
        true
    }

    /// Whether it is new, or a new program in a known process.
    fn take_in(&mut self, pid: u32) -> bool {
        let process = Process::live(pid);
        let Ok(times) = process.times() else { return false };
        if let Some(member) = self.members.get(&pid).filter(|m| m.start_ticks == times.start_ticks) {
            if self.inside.is_of(member.image, pid, &process) {
                return false;
            }
            self.part_with(pid);
        }
        let Ok(statm) = process.statm() else { return false };
        if statm.read().is_err() {
            return false;
        }
        let Some(image) = self.inside.image(pid, &process, &times, pid == self.root) else { return false };
        let parts = AnonymousMemory::default();
        self.members.insert(pid, Member { process, statm, start_ticks: times.start_ticks, parts, image });
        true
    }

    fn part_with(&mut self, pid: u32) {
        self.members.remove(&pid);
    }

    fn slow_is_due(&self) -> bool {
        self.slow.is_none_or(|at| at.elapsed() >= self.slow_pause.max(self.slow_cost * SLOW_SHARE))
    }

    /// Parts of every process's memory, and whether the environment holds in it.
    fn read_slowly(&mut self) {
        let begun = crate::sys::thread_cpu_ns();
        for (pid, member) in &mut self.members {
            if let Ok(parts) = member.process.anonymous_memory() {
                member.parts = parts;
            }
            self.inside.look(member.image, *pid, &member.process);
        }
        self.slow_cost = Duration::from_nanos(crate::sys::thread_cpu_ns() - begun);
        self.slow_pause = (self.slow_pause * 2).min(SLOW_LONGEST);
        self.slow = Some(Instant::now());
    }

    /// What is wrong inside the program that was started, if that is known by now.
    pub(super) fn wrong(&self) -> Option<Abort> {
        self.inside.wrong()
    }

    /// Processes beside the one that was started which hold a share of the memory that matters: what a daemon's launcher
    /// leaves behind. Where none is known it is looked for.
    pub(super) fn going_on(&mut self) -> Vec<u32> {
        let known = self.that_matter();
        if !known.is_empty() {
            return known;
        }
        self.settle();
        self.that_matter()
    }

    fn that_matter(&self) -> Vec<u32> {
        let matters = |(pid, member): (&u32, &Member)| {
            let heap = member.statm.read().ok()?.anon_bytes.saturating_sub(member.parts.stack_bytes);
            (*pid != self.root && self.inside.matters(member.image, heap)).then_some(*pid)
        };
        self.members.iter().filter_map(matters).collect()
    }

    /// Name and number of a process, for a message.
    pub(super) fn shown(&self, pid: u32) -> String {
        let name = Process::live(pid).name().unwrap_or_default();
        format!("{} (process {pid})", name.to_string_lossy().escape_debug())
    }

    /// How one ended that was handed to us, where it was a signal that ended it and not ours.
    pub(super) fn crashed(&self) -> Option<&str> {
        self.crashed.as_deref()
    }

    /// Asks those that were handed to us to end.
    pub(super) fn ask_to_end(&self) {
        for pid in &self.handed {
            crate::sys::signal(*pid, libc::SIGTERM);
        }
    }

    /// Ends what is left of it, each process only if it still is the one we know, until there is none. Their number.
    pub(super) fn end_leftovers(&mut self) -> usize {
        let mut ended = BTreeSet::new();
        let until = Instant::now() + END_LONGEST;
        loop {
            self.settle();
            let mut left = false;
            for (pid, member) in &self.members {
                let same = member.process.times().is_ok_and(|t| t.start_ticks == member.start_ticks);
                if same && *pid != self.root && member.process.status().is_ok() {
                    crate::sys::signal(*pid, libc::SIGKILL);
                    ended.insert((*pid, member.start_ticks));
                    left = true;
                }
            }
            if !left || Instant::now() > until {
                return ended.len();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Hands over what was found inside.
    pub(super) fn finish(mut self) -> Inside<'a> {
        self.orphans();
        self.inside
    }
}
