//! Blocks that were never freed while a trace was recorded: by size, by thread, by age, by call stack where stacks were
//! recorded, and when in the recording they were made. One pass in recorded order, memory bounded by the live blocks.
//!
//! It refuses to call a block lost: a trace holds no pointers, so whether the program could still reach it is not known.
//! What it can tell is how such blocks came about: once at the start, evenly all the time, or just now.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fragbench_model::SCHEMA;
use serde::Serialize;

use crate::bins::Bins;
use crate::observe::{Observer, observe};
use fragbench_trace::Trace;
use fragbench_trace::stacks::Stacks;
use fragbench_trace::{Before, Event, EventKind};

/// Stretches the recording is cut into.
pub const STRETCHES: usize = 20;
/// Share of the blocks that makes a pattern.
const MOST: f64 = 0.8;
/// Stretches that must have made some of the blocks for [`Pattern::Steady`].
const STEADY_STRETCHES: usize = 15;
/// Fewer blocks make no pattern.
const FEW: u64 = 20;

/// How blocks that stay came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// In at least 15 of 20 stretches of the recording, and none of them made half: as a leak does, or growth.
    Steady,
    /// Four in five in the first tenth of the recording: what a program sets up once.
    Startup,
    /// Four in five in the last tenth: in use when the recording ended.
    Recent,
    /// None of these, or fewer than 20 blocks.
    Mixed,
}

/// Blocks of one size class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeakSize {
    /// Least size, bytes.
    pub from_bytes: u64,
    /// First size past the class; exact below 1 KiB.
    pub to_bytes: u64,
    /// Blocks never freed.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks of the class ever made, by their last size.
    pub made: u64,
    /// How they came about.
    pub pattern: Pattern,
    /// Blocks never freed by the twentieth of the recording in which they were made.
    pub born: [u64; STRETCHES],
    /// Threads that made them.
    pub threads: u64,
    /// The one that made most.
    pub most_thread: u32,
    /// How many it made.
    pub most_thread_blocks: u64,
}

/// Blocks of one thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeakThread {
    /// Thread, numbered in order of starting.
    pub thread: u32,
    /// Whether it had ended when the recording did.
    pub ended: bool,
    /// Blocks never freed.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Blocks of one age.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeakAge {
    /// Least age when the recording ended, seconds.
    pub from_s: f64,
    /// First age past it, seconds.
    pub to_s: f64,
    /// Blocks never freed.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A frame of a call stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeakFrame {
    /// Name of the function; `None` where the file had no symbols.
    pub function: Option<String>,
    /// Source file; `None` where the file had no line numbers.
    pub file: Option<String>,
    /// Line in it, from 1.
    pub line: Option<u32>,
    /// Path of the program or library; `None` for code outside all files.
    pub module: Option<String>,
    /// Offset of the call in the module as its symbols count; without a module its address.
    pub offset: u64,
    /// Whether the compiler put the function into the one of the next frame.
    pub inlined: bool,
}

/// Blocks that one call stack made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeakStack {
    /// Blocks never freed.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Age of the oldest when the recording ended, seconds.
    pub oldest_s: f64,
    /// Age of the youngest, seconds.
    pub youngest_s: f64,
    /// How they came about.
    pub pattern: Pattern,
    /// Blocks never freed by the twentieth of the recording in which they were made.
    pub born: [u64; STRETCHES],
    /// Threads that made them.
    pub threads: u64,
    /// The one that made most.
    pub most_thread: u32,
    /// How many it made.
    pub most_thread_blocks: u64,
    /// Who made them, innermost first; empty for blocks whose stack is not known.
    pub frames: Vec<LeakFrame>,
}

/// Blocks never freed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leaks {
    /// [`fragbench_model::SCHEMA`].
    pub schema: u32,
    /// Length of the recording, seconds.
    pub duration_s: f64,
    /// Whether the trace is whole; of one that is not, blocks may have been freed where it is cut or damaged.
    pub complete: bool,
    /// Blocks never freed.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// By size, most bytes first.
    pub sizes: Vec<LeakSize>,
    /// By thread, most bytes first.
    pub threads: Vec<LeakThread>,
    /// By age, oldest first; ages by octave of a millisecond.
    pub ages: Vec<LeakAge>,
    /// By call stack, most bytes first; `None` when stacks were not recorded or are damaged.
    pub stacks: Option<Vec<LeakStack>>,
}

/// Blocks of one size class or stack while they are counted.
#[derive(Default)]
struct Class {
    blocks: u64,
    bytes: u64,
    born: [u64; STRETCHES],
    threads: BTreeMap<u32, u64>,
    /// When the oldest and the youngest were made, µs.
    lived_us: Option<(u64, u64)>,
}

impl Class {
    fn add(&mut self, block: &Before, end_us: u64) {
        self.blocks += 1;
        self.bytes += block.size;
        self.born[((block.born_us * STRETCHES as u64) / (end_us + 1)) as usize] += 1;
        *self.threads.entry(block.thread).or_default() += 1;
        let (first, last) = self.lived_us.unwrap_or((block.born_us, block.born_us));
        self.lived_us = Some((first.min(block.born_us), last.max(block.born_us)));
    }

    /// The thread that made most, and how many.
    fn most(&self) -> (u32, u64) {
        let most = self.threads.iter().max_by_key(|(thread, n)| (**n, std::cmp::Reverse(**thread)));
        most.map_or((0, 0), |(thread, n)| (*thread, *n))
    }
}

/// Counts what is made and who ends; what is left the reader knows.
struct Made {
    bins: Bins,
    /// By bin of the size.
    made: Vec<u64>,
    ended: BTreeSet<u32>,
    last_us: u64,
}

impl Made {
    #[inline]
    fn of(&mut self, size: u64) -> &mut u64 {
        let bin = self.bins.bin(size);
        if self.made.len() <= bin {
            self.made.resize(bin + 1, 0);
        }
        &mut self.made[bin]
    }
}

impl Observer for Made {
    #[inline]
    fn event(&mut self, event: &Event) {
        self.last_us = self.last_us.max(event.at_us);
        match event.kind {
            EventKind::Malloc | EventKind::Calloc | EventKind::Aligned(_) | EventKind::Realloc { .. } => {
                *self.of(event.size) += 1;
                if let Some(before) = event.before {
                    let count = self.of(before.size);
                    *count = count.saturating_sub(1);
                }
            }
            EventKind::ThreadExit => drop(self.ended.insert(event.thread)),
            EventKind::Free | EventKind::ThreadStart | EventKind::System { .. } => {}
        }
    }
}

/// What was never freed. Damaged blocks of the file are passed over.
pub fn leaks(trace: &Trace) -> Leaks {
    let info = trace.info();
    let mut seen = Made { bins: Bins::of_sizes(), made: Vec::new(), ended: BTreeSet::new(), last_us: 0 };
    let events = observe(trace, &mut seen);
    let Made { bins, made, ended, last_us } = seen;
    let made: HashMap<u64, u64> = made.iter().enumerate().map(|(bin, n)| (bins.from(bin), *n)).collect();
    let held: Vec<((u32, u32), Before)> = events.live().collect();
    let end_us = last_us.max((info.duration_s * 1e6) as u64);
    let (sizes, threads, ages) = tables(held.iter().map(|(_, block)| block), &bins, &made, &ended, end_us);
    let stacks = trace.stacks().ok().flatten().map(|stacks| {
        let of = stacks.blocks.iter().map(|(lane, slot, stack)| ((*lane, *slot), *stack)).collect();
        by_stack(&stacks, &held, &of, end_us)
    });
    Leaks {
        schema: SCHEMA,
        duration_s: info.duration_s,
        complete: info.complete,
        blocks: held.len() as u64,
        bytes: held.iter().map(|(_, block)| block.size).sum(),
        sizes,
        threads,
        ages,
        stacks,
    }
}

type Tables = (Vec<LeakSize>, Vec<LeakThread>, Vec<LeakAge>);

fn tables<'h>(
    held: impl Iterator<Item = &'h Before>,
    bins: &Bins,
    made: &HashMap<u64, u64>,
    ended: &BTreeSet<u32>,
    end_us: u64,
) -> Tables {
    let mut sizes: BTreeMap<u64, Class> = BTreeMap::new();
    let mut threads: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let mut ages: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for block in held {
        sizes.entry(bins.floor(block.size)).or_default().add(block, end_us);
        let of_thread = threads.entry(block.thread).or_default();
        *of_thread = (of_thread.0 + 1, of_thread.1 + block.size);
        // The octave of the age in milliseconds; 0 is less than one.
        let octave = ((end_us - block.born_us.min(end_us)) / 1000).checked_ilog2().map_or(0, |o| o + 1);
        let of_age = ages.entry(octave).or_default();
        *of_age = (of_age.0 + 1, of_age.1 + block.size);
    }
    let size = |(from, class): (u64, Class)| {
        let (most_thread, most_thread_blocks) = class.most();
        LeakSize {
            from_bytes: from,
            to_bytes: bins.from(bins.bin(from) + 1),
            blocks: class.blocks,
            bytes: class.bytes,
            made: made.get(&from).copied().unwrap_or(0).max(class.blocks),
            pattern: pattern(&class.born),
            born: class.born,
            threads: class.threads.len() as u64,
            most_thread,
            most_thread_blocks,
        }
    };
    let mut sizes: Vec<LeakSize> = sizes.into_iter().map(size).collect();
    sizes.sort_by_key(|line| (std::cmp::Reverse(line.bytes), line.from_bytes));
    let thread = |(thread, (blocks, bytes)): (u32, (u64, u64))| LeakThread {
        thread,
        ended: ended.contains(&thread),
        blocks,
        bytes,
    };
    let mut threads: Vec<LeakThread> = threads.into_iter().map(thread).collect();
    threads.sort_by_key(|line| (std::cmp::Reverse(line.bytes), line.thread));
    let age = |(octave, (blocks, bytes)): (u32, (u64, u64))| {
        let from_s = if octave == 0 { 0.0 } else { (1u64 << (octave - 1)) as f64 / 1e3 };
        LeakAge { from_s, to_s: (1u64 << octave) as f64 / 1e3, blocks, bytes }
    };
    (sizes, threads, ages.into_iter().rev().map(age).collect())
}

/// Blocks by the stack that made them; `of` tells the stack of a block.
fn by_stack(
    stacks: &Stacks,
    held: &[((u32, u32), Before)],
    of: &HashMap<(u32, u32), u32>,
    end_us: u64,
) -> Vec<LeakStack> {
    let mut classes: BTreeMap<Option<u32>, Class> = BTreeMap::new();
    for (place, block) in held {
        classes.entry(of.get(place).copied()).or_default().add(block, end_us);
    }
    let frame = |number: &u32| {
        let frame = &stacks.frames[*number as usize];
        let module = frame.module.map(|module| &stacks.modules[module as usize]);
        LeakFrame {
            function: frame.function.clone(),
            file: frame.file.clone(),
            line: frame.line,
            module: module.map(|module| module.path.display().to_string()),
            offset: frame.offset,
            inlined: frame.inlined,
        }
    };
    let line = |(stack, class): (Option<u32>, Class)| {
        let (most_thread, most_thread_blocks) = class.most();
        let age = |born: u64| (end_us - born.min(end_us)) as f64 / 1e6;
        let (first, last) = class.lived_us.unwrap_or_default();
        LeakStack {
            blocks: class.blocks,
            bytes: class.bytes,
            oldest_s: age(first),
            youngest_s: age(last),
            pattern: pattern(&class.born),
            born: class.born,
            threads: class.threads.len() as u64,
            most_thread,
            most_thread_blocks,
            frames: stack.map_or_else(Vec::new, |s| stacks.stacks[s as usize].iter().map(frame).collect()),
        }
    };
    let mut lines: Vec<LeakStack> = classes.into_iter().map(line).collect();
    // Stable: of equal ones the stack met first.
    lines.sort_by_key(|line| std::cmp::Reverse(line.bytes));
    lines
}

/// See [`Pattern`].
fn pattern(born: &[u64; STRETCHES]) -> Pattern {
    let all: u64 = born.iter().sum();
    let most = |part: &[u64]| part.iter().sum::<u64>() as f64 >= MOST * all as f64;
    let tenth = STRETCHES / 10;
    let spread = born.iter().filter(|n| **n > 0).count() >= STEADY_STRETCHES;
    match () {
        () if all < FEW => Pattern::Mixed,
        () if most(&born[..tenth]) => Pattern::Startup,
        () if most(&born[STRETCHES - tenth..]) => Pattern::Recent,
        () if spread && born.iter().all(|n| n * 2 < all) => Pattern::Steady,
        () => Pattern::Mixed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn born(of: impl Fn(usize) -> u64) -> [u64; STRETCHES] {
        std::array::from_fn(of)
    }

    #[test]
    fn patterns_by_their_rules() {
        assert_eq!(pattern(&born(|_| 3)), Pattern::Steady);
        assert_eq!(pattern(&born(|i| if i < 2 { 50 } else { 1 })), Pattern::Startup);
        assert_eq!(pattern(&born(|i| if i >= 18 { 50 } else { 1 })), Pattern::Recent);
        assert_eq!(pattern(&born(|i| u64::from(i % 2 == 0) * 9)), Pattern::Mixed);
        assert_eq!(pattern(&born(|i| if i == 9 { 100 } else { 1 })), Pattern::Mixed, "one burst");
        assert_eq!(pattern(&born(|i| u64::from(i < 19))), Pattern::Mixed, "19 blocks are few");
    }

    #[test]
    fn blocks_fall_into_size_thread_and_age() {
        let block = |size, thread, born_us| Before { size, thread, born_us };
        let held = [block(100, 1, 0), block(100, 1, 999_999), block(5000, 2, 500_000)];
        let made = HashMap::from([(100, 7)]);
        let (sizes, threads, ages) = tables(held.iter(), &Bins::of_sizes(), &made, &BTreeSet::from([2]), 1_000_000);
        assert_eq!((sizes[0].bytes, sizes[0].from_bytes <= 5000, sizes[0].to_bytes > 5000), (5000, true, true));
        assert_eq!((sizes[1].blocks, sizes[1].made, sizes[1].to_bytes), (2, 7, 101));
        assert_eq!((sizes[1].born[0], sizes[1].born[19], sizes[1].most_thread), (1, 1, 1));
        assert_eq!(threads.iter().map(|t| (t.thread, t.ended)).collect::<Vec<_>>(), [(2, true), (1, false)]);
        assert_eq!(ages.iter().map(|a| a.blocks).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(ages[0].from_s <= 1.0 && ages[0].to_s > 1.0 && ages[2].from_s == 0.0);
    }
}
