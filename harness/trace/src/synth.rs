//! Deterministic programs that never ran, as spool events: for tests and benchmarks of everything behind the recorder.
//!
//! Several threads take turns at random; blocks live in one table for all, so that some are freed on another thread
//! than they came from, and addresses are used again soon, last freed first, as allocators do.

use std::collections::{HashMap, VecDeque};

use crate::pack::Source;
use crate::spool::{ClockPair, SpoolEvent, SpoolKind};

/// Steele, Lea and Flood's SplitMix64 (2014): small, portable, its stream fixed for ever.
#[derive(Debug, Clone)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0 (multiply and shift: the bias is below 2⁻³² for small `n`).
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// True in `per_mille` of 1000 cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// What a program does.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Threads.
    pub threads: usize,
    /// Events of the malloc API, all threads together.
    pub events: usize,
    /// Blocks each thread tends to hold.
    pub live: usize,
    /// Sizes are 1 to this, evenly.
    pub max_size: u64,
    /// Frees on another thread, per mille.
    pub cross: u64,
    /// Reallocs among the events, per mille.
    pub realloc: u64,
    /// calloc and aligned allocations among the allocations, per mille.
    pub special: u64,
    /// Blocks of 64 KiB to 1 MiB among the allocations, per mille.
    pub large: u64,
    /// Events after which a thread other than the first ends and another takes its place; 0: never.
    pub thread_life: usize,
    /// Counter ticks between two events, at most; at least half as many. A tick is 1 ns. With a quantum of no more than
    /// this, at most two events have the same stamp, as in reality: a block needs longer to change hands twice.
    pub ticks: u64,
    /// Stamps are cut to multiples of `1 << quantum_shift`.
    pub quantum_shift: u8,
    /// Seed.
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            threads: 2,
            events: 10_000,
            live: 100,
            max_size: 1024,
            cross: 0,
            realloc: 0,
            special: 0,
            large: 0,
            thread_life: 0,
            ticks: 100,
            quantum_shift: 6,
            seed: 1,
        }
    }
}

/// A program's events.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Events of each thread in program order.
    pub threads: Vec<Vec<SpoolEvent>>,
}

impl Source for Program {
    fn threads(&self) -> Vec<u32> {
        (0..self.threads.len() as u32).collect()
    }

    fn events(&self, thread: u32) -> Box<dyn Iterator<Item = SpoolEvent> + Send + '_> {
        Box::new(self.threads[thread as usize].iter().copied())
    }

    fn clocks(&self) -> (ClockPair, ClockPair) {
        let last = self.threads.iter().filter_map(|t| t.last()).map(|e| e.tsc).max().unwrap_or(0);
        (ClockPair { tsc: 0, mono_ns: 0 }, ClockPair { tsc: last, mono_ns: last })
    }
}

/// Addresses of a heap that never was: freed ones are handed out again, last first, by class of size, but not at once:
/// within the quantum of the stamps no address changes hands twice, as none does in reality.
#[derive(Debug, Default)]
struct Addresses {
    next: u64,
    free: HashMap<u64, Vec<u64>>,
    resting: VecDeque<(u64, u64)>,
}

impl Addresses {
    fn take(&mut self, size: u64) -> u64 {
        let class = size.max(1).next_power_of_two();
        self.free.entry(class).or_default().pop().unwrap_or_else(|| {
            self.next += class.max(16);
            (1 << 40) + self.next - class.max(16)
        })
    }

    fn give(&mut self, addr: u64, size: u64) {
        self.resting.push_back((addr, size.max(1).next_power_of_two()));
        if self.resting.len() > 8
            && let Some((addr, class)) = self.resting.pop_front()
        {
            self.free.entry(class).or_default().push(addr);
        }
    }
}

/// A running thread: its place in the program, its events so far, the blocks it holds.
struct Running {
    index: usize,
    events: usize,
    held: Vec<Made>,
}

/// A live block of a program.
#[derive(Clone, Copy)]
struct Made {
    addr: u64,
    size: u64,
    /// The program's event that made it.
    event: usize,
}

/// The events of a program of this shape.
pub fn program(shape: &Shape) -> Program {
    let mut random = SplitMix64(shape.seed);
    let mut addresses = Addresses::default();
    let mut program = Program::default();
    let mut running: Vec<Running> = Vec::new();
    let mut now = 0;
    let start = |program: &mut Program, tsc| {
        program.threads.push(vec![SpoolEvent { tsc, kind: SpoolKind::ThreadStart }]);
        program.threads.len() - 1
    };
    for _ in 0..shape.threads.max(1) {
        running.push(Running { index: start(&mut program, 0), events: 0, held: Vec::new() });
    }
    for event in 0..shape.events {
        now += shape.ticks.div_ceil(2) + random.below(shape.ticks / 2 + 1);
        let tsc = now >> shape.quantum_shift << shape.quantum_shift;
        let t = random.below(running.len() as u64) as usize;
        let owner = if random.chance(shape.cross) { random.below(running.len() as u64) as usize } else { t };
        let grow = owner == t && random.below(2 * shape.live.max(1) as u64) >= running[t].held.len() as u64;
        let victim = match running[owner].held.len() as u64 {
            0 => None,
            _ if grow => None,
            n => Some(random.below(n) as usize),
        };
        // Another thread cannot have a block in hand as soon as it is made.
        let victim = victim.filter(|v| owner == t || running[owner].held[*v].event + 2 < event);
        let kind = if let Some(victim) = victim {
            let Made { addr, size, .. } = running[owner].held.swap_remove(victim);
            let pages = (size >= crate::format::RESIDENT_MIN).then(|| 1 + random.below(size / 4096) as u32);
            if random.chance(shape.realloc) {
                let to = 1 + random.below(2 * size);
                let new = if random.chance(500) { addr } else { addresses.take(to) };
                if new != addr {
                    addresses.give(addr, size);
                }
                running[t].held.push(Made { addr: new, size: to, event });
                SpoolKind::Realloc { old: addr, new, size: to, began: tsc, resident_pages: pages }
            } else {
                addresses.give(addr, size);
                match pages {
                    Some(resident_pages) => SpoolKind::FreeResident { addr, resident_pages },
                    None => SpoolKind::Free { addr },
                }
            }
        } else {
            let size = if random.chance(shape.large) {
                (1 << 16) + random.below((1 << 20) - (1 << 16))
            } else {
                1 + random.below(shape.max_size.max(1))
            };
            let addr = addresses.take(size);
            running[t].held.push(Made { addr, size, event });
            match (random.chance(shape.special), random.below(2)) {
                (false, _) => SpoolKind::Malloc { addr, size },
                (true, 0) => SpoolKind::Calloc { addr, size },
                (true, _) => SpoolKind::Aligned { addr, size, align: 16 << random.below(9) },
            }
        };
        program.threads[running[t].index].push(SpoolEvent { tsc, kind });
        running[t].events += 1;
        if shape.thread_life > 0 && t > 0 && running[t].events >= shape.thread_life {
            // Its blocks outlive it: the first thread frees them some day.
            program.threads[running[t].index].push(SpoolEvent { tsc, kind: SpoolKind::ThreadExit });
            let left = std::mem::take(&mut running[t].held);
            running[0].held.extend(left.into_iter().map(|m| Made { event, ..m }));
            running[t] = Running { index: start(&mut program, tsc), events: 0, held: Vec::new() };
        }
    }
    program
}

/// One thread that replaces blocks of `size_from` to `size_from + size_span - 1` bytes, chosen at random among `live`:
/// free, malloc, free, malloc.
pub fn pairs(pairs: usize, live: usize, size_from: u64, size_span: u64, ticks: u64) -> Program {
    let mut addresses = Addresses::default();
    let mut random = SplitMix64(11);
    let mut events = vec![SpoolEvent { tsc: 0, kind: SpoolKind::ThreadStart }];
    let mut now = 0;
    let mut event = |kind| {
        now += ticks;
        events.push(SpoolEvent { tsc: now, kind });
    };
    let mut held: Vec<(u64, u64)> = Vec::new();
    for made in 0..live + pairs {
        let size = size_from + random.below(size_span.max(1));
        if made < live {
            let addr = addresses.take(size);
            held.push((addr, size));
            event(SpoolKind::Malloc { addr, size });
            continue;
        }
        let at = random.below(live as u64) as usize;
        addresses.give(held[at].0, held[at].1);
        event(SpoolKind::Free { addr: held[at].0 });
        let addr = addresses.take(size);
        held[at] = (addr, size);
        event(SpoolKind::Malloc { addr, size });
    }
    Program { threads: vec![events] }
}

/// One thread allocates, the other frees, in order, at most `held` blocks in between: every free is on another thread.
pub fn producer_consumer(pairs: usize, held: usize, ticks: u64) -> Program {
    let mut addresses = Addresses::default();
    let mut queue = VecDeque::new();
    let mut random = SplitMix64(7);
    let start = SpoolEvent { tsc: 0, kind: SpoolKind::ThreadStart };
    let mut threads = vec![vec![start], vec![start]];
    let mut now = 0;
    for made in 0..pairs + held {
        now += ticks;
        if made < pairs {
            let size = 16 + random.below(1009);
            let addr = addresses.take(size);
            queue.push_back((addr, size));
            threads[0].push(SpoolEvent { tsc: now, kind: SpoolKind::Malloc { addr, size } });
        }
        if made >= held
            && let Some((addr, size)) = queue.pop_front()
        {
            addresses.give(addr, size);
            threads[1].push(SpoolEvent { tsc: now + ticks / 2, kind: SpoolKind::Free { addr } });
        }
    }
    Program { threads }
}
