//! Work generated from a profile: a program whose every event is decided before it runs, so that one seed gives the
//! same blocks, on the same threads, in the same order, under any allocator and any scheduler. It is packed like a
//! recording and replayed by the same driver.
//!
//! How many blocks of each row a thread allocates in each phase is not drawn but dealt out, with a random start: over
//! all threads the numbers are the profile's, to within one. Drawn are their order within the phase, the gaps between
//! them, and each one's size and lifetime within the bounds of its row.
//!
//! Length: what comes and goes is stretched or cut, what stays is not; so a longer run does the same kind of work on the
//! same live memory for longer. Threads: the roles that scale get more of them, each doing as much as before.

use std::collections::{BTreeMap, HashMap};

use fragbench_model::{Blocks, Life, Profile, Role, Wave};

use fragbench_trace::Source;
use fragbench_trace::format::RESIDENT_MIN;
use fragbench_trace::spool::ClockPair;
use fragbench_trace::spool::{SpoolEvent, SpoolKind};
use fragbench_trace::synth::SplitMix64;

/// How much work to generate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Length {
    /// Threads at one time, of all roles together; `None` for the recording's. Roles that do not scale keep theirs.
    pub threads: Option<u32>,
    /// Factor on the length: 1 is the recording's.
    pub scale: f64,
    /// Seed of every random choice.
    pub seed: u64,
}

impl Default for Length {
    fn default() -> Self {
        Length { threads: None, scale: 1.0, seed: 1 }
    }
}

/// Threads that come one after the other rather than together, so many of them in a thread's life: a longer run has
/// more of them. Of others it has as many, which live and work longer.
const COME_AND_GO: f64 = 2.0;
/// Nanoseconds an operation on a block of another thread is later than what made it, at least: the resolution of a
/// trace's stamps.
const APART_NS: u64 = 2_000;

/// A thread to be.
struct Planned {
    role: usize,
    start_ns: u64,
    /// End of its working life.
    end_ns: u64,
    exits: bool,
    /// Time, order among those of one time, and what happens.
    events: Vec<(u64, u64, SpoolKind)>,
}

/// What becomes of a role.
#[derive(Clone, Copy)]
struct Extent {
    /// Threads, as a multiple of the recording's.
    threads: f64,
    /// Length of their lives, the same.
    lives: f64,
}

/// A program that never ran, for [`fragbench_trace::pack_source`].
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    threads: Vec<Vec<SpoolEvent>>,
    end_ns: u64,
}

impl Source for Generated {
    fn threads(&self) -> Vec<u32> {
        (0..self.threads.len() as u32).collect()
    }

    fn events(&self, thread: u32) -> Box<dyn Iterator<Item = SpoolEvent> + Send + '_> {
        Box::new(self.threads[thread as usize].iter().copied())
    }

    fn clocks(&self) -> (ClockPair, ClockPair) {
        (ClockPair { tsc: 0, mono_ns: 0 }, ClockPair { tsc: self.end_ns, mono_ns: self.end_ns })
    }
}

/// The program that a profile describes.
pub fn generate(profile: &Profile, length: &Length) -> Generated {
    let end_ns = (profile.duration_us as f64 * 1000.0 * length.scale) as u64;
    let mut random = SplitMix64(length.seed);
    let more = multiple(profile, length.threads);
    let extents: Vec<Extent> = profile.role.iter().map(|role| extent(role, length, more)).collect();
    let mut plans: Vec<Planned> = Vec::new();
    for (number, role) in profile.role.iter().enumerate() {
        plan(&mut random, role, number, extents[number], length.scale, &mut plans);
    }
    // Threads are numbered in order of starting; the first is there from the beginning.
    plans[1..].sort_by_key(|p| (p.start_ns, p.role));
    let names = profile.role.iter().zip(0..).map(|(role, number)| (role.name.clone(), number)).collect();
    let mut work = Work { names, addresses: 1 << 40, order: 0, random, end_ns, frees: Vec::new() };
    for (number, role) in profile.role.iter().enumerate() {
        let members: Vec<usize> = (0..plans.len()).filter(|i| plans[*i].role == number).collect();
        work.role(role, &members, &mut plans, extents[number]);
    }
    work.hand_over(&mut plans);
    Generated { threads: plans.into_iter().map(assemble).collect(), end_ns: end_ns.max(1) }
}

/// By how much the roles that scale are multiplied.
fn multiple(profile: &Profile, threads: Option<u32>) -> f64 {
    let sum = |scales: bool| -> f64 {
        profile.role.iter().filter(|r| r.scales == scales).map(|r| f64::from(r.threads_peak)).sum()
    };
    match threads {
        Some(wanted) if sum(true) > 0.0 => ((f64::from(wanted) - sum(false)) / sum(true)).max(0.0),
        _ => 1.0,
    }
}

fn extent(role: &Role, length: &Length, more: f64) -> Extent {
    // How many lives a wave's threads are spread over.
    let turns =
        |w: &Wave| (w.starts_us[1] - w.starts_us[0]) as f64 / w.ends_us[1].saturating_sub(w.starts_us[1]).max(1) as f64;
    let sum = role.waves.iter().filter(|w| w.exits).map(|w| f64::from(w.threads) * turns(w)).sum::<f64>();
    let comes_and_goes = sum >= COME_AND_GO * f64::from(role.threads());
    let more = if role.scales { more } else { 1.0 };
    if comes_and_goes {
        Extent { threads: more * length.scale, lives: 1.0 }
    } else {
        Extent { threads: more, lives: length.scale }
    }
}

/// Plans the threads of a role: each wave at its time, of so many more or fewer threads, their ends dealt at random.
fn plan(random: &mut SplitMix64, role: &Role, number: usize, extent: Extent, scale: f64, plans: &mut Vec<Planned>) {
    let ns = |us: u64, factor: f64| (us as f64 * 1000.0 * factor) as u64;
    let (mut before, mut planned) = (0.0, 0);
    for wave in &role.waves {
        before += f64::from(wave.threads) * extent.threads;
        // At least one thread of each role: what it does is done by somebody.
        let threads = (before.round() as u32).max(1) - planned;
        planned += threads;
        let mut ends: Vec<u32> = (0..threads).collect();
        shuffle(random, &mut ends);
        for (i, j) in (0..threads).zip(ends) {
            let (start_us, end_us) = (spread(wave.starts_us, i, threads), spread(wave.ends_us, j, threads));
            let start_ns = ns(start_us, scale);
            let life_ns = ns(end_us.saturating_sub(start_us), extent.lives).max(1000);
            plans.push(Planned {
                role: number,
                start_ns,
                end_ns: start_ns + life_ns,
                exits: wave.exits,
                events: Vec::new(),
            });
        }
    }
}

/// The `i`th of `n` values spread evenly over a range, its ends among them.
fn spread([low, high]: [u64; 2], i: u32, n: u32) -> u64 {
    let share = if n > 1 { f64::from(i) / f64::from(n - 1) } else { 0.5 };
    low + ((high - low) as f64 * share) as u64
}

fn shuffle<T>(random: &mut SplitMix64, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, random.below(i as u64 + 1) as usize);
    }
}

/// A number from `from` to `to`, each doubling equally likely.
fn log_between(random: &mut SplitMix64, from: u64, to: u64) -> u64 {
    let unit = random.below(1 << 53) as f64 / (1u64 << 53) as f64;
    let (low, high) = (from.max(1) as f64, to.max(from).max(1) as f64);
    ((low * (high / low).powf(unit)) as u64).clamp(from, to.max(from))
}

/// A number from `low` to `high` whose mean is `mean`: two even stretches that meet there, weighted to balance.
fn about(random: &mut SplitMix64, low: u64, high: u64, mean: u64) -> u64 {
    if low >= high {
        return low;
    }
    let mean = mean.clamp(low, high);
    if random.below(high - low) < high - mean {
        low + random.below(mean - low + 1)
    } else {
        mean + random.below(high - mean + 1)
    }
}

/// When a phase of a thread begins and ends, nanoseconds.
fn span(plan: &Planned, role: &Role, phase: usize) -> (f64, f64) {
    let at = |share: f64| plan.start_ns as f64 + (plan.end_ns - plan.start_ns) as f64 * share;
    let begins = |phase: usize| role.phases.get(phase).copied().unwrap_or(1.0);
    (at(begins(phase)), at(begins(phase + 1)))
}

/// A free that is not yet given to a thread.
struct Due {
    at_ns: u64,
    /// Before this it must not be.
    least_ns: u64,
    by: usize,
    owner: usize,
    addr: u64,
    pages: Option<u32>,
}

struct Work {
    names: HashMap<String, usize>,
    addresses: u64,
    /// Breaks ties of one thread's events: the order in which they were decided.
    order: u64,
    random: SplitMix64,
    end_ns: u64,
    frees: Vec<Due>,
}

impl Work {
    fn address(&mut self) -> u64 {
        self.addresses += 16;
        self.addresses
    }

    /// Everything that the threads of a role allocate.
    fn role(&mut self, role: &Role, members: &[usize], plans: &mut [Planned], extent: Extent) {
        let growth = Steps::new(role);
        for phase in 0..role.phases.len() {
            let mut dealt: Vec<Vec<u32>> = vec![Vec::new(); members.len()];
            for (number, row) in role.blocks.iter().enumerate() {
                let n = phase.checked_sub(row.phase).and_then(|i| row.n.get(i)).copied().unwrap_or(0) as f64;
                // What stays becomes more with the threads at one time, not with the length.
                let stays = matches!(row.life, Life::End | Life::Thread | Life::Phase(_));
                let total = n * extent.threads * if stays { 1.0 } else { extent.lives };
                let start = self.random.below(1 << 20) as f64 / f64::from(1 << 20);
                let each = total / members.len() as f64;
                for (i, list) in dealt.iter_mut().enumerate() {
                    let times = (each * (i + 1) as f64 + start).floor() - (each * i as f64 + start).floor();
                    list.extend(std::iter::repeat_n(number as u32, times as usize));
                }
            }
            for (&member, mut rows) in members.iter().zip(dealt) {
                shuffle(&mut self.random, &mut rows);
                let (from, to) = span(&plans[member], role, phase);
                let times = self.times(&role.gaps_ns, rows.len(), from, to);
                for (at, row) in times.into_iter().zip(rows) {
                    self.block(&role.blocks[row as usize], at, member, plans, role, &growth);
                }
            }
        }
    }

    /// When `n` allocations between `from` and `to` happen: gaps drawn from the role's, scaled to fit.
    fn times(&mut self, gaps: &[u64], n: usize, from: f64, to: f64) -> Vec<u64> {
        let mut at = 0.0;
        let mut times: Vec<f64> = (0..n)
            .map(|_| {
                let gap = gaps.get(self.random.below(gaps.len().max(1) as u64) as usize).copied().unwrap_or(1000);
                at += gap.max(1) as f64;
                at
            })
            .collect();
        let scale = (to - from) / (at + gaps.get(gaps.len() / 2).copied().unwrap_or(1000) as f64);
        times.iter_mut().for_each(|t| *t = from + *t * scale);
        times.into_iter().map(|t| t as u64).collect()
    }

    fn push(&mut self, plan: &mut Planned, at_ns: u64, kind: SpoolKind) {
        self.order += 1;
        plan.events.push((at_ns, self.order, kind));
    }

    /// One block: its allocation, its reallocs, and its free or what is due for it.
    fn block(&mut self, row: &Blocks, at: u64, member: usize, plans: &mut [Planned], role: &Role, growth: &Steps) {
        let Planned { end_ns: thread_end, exits, .. } = plans[member];
        let mut size = self.size(row);
        let mut addr = self.address();
        let kind = match (row.align, row.zeroed) {
            (Some(align), _) => SpoolKind::Aligned { addr, size, align },
            (None, true) => SpoolKind::Calloc { addr, size },
            (None, false) => SpoolKind::Malloc { addr, size },
        };
        self.push(&mut plans[member], at, kind);
        let by = row.freed_by.as_ref().and_then(|name| self.names.get(name).copied());
        let mut latest = at;
        let last = if exits && by.is_none() { thread_end } else { self.end_ns.max(thread_end) };
        let free_at = match row.life {
            Life::End => None,
            Life::Thread => Some(thread_end),
            Life::Phase(phase) => {
                let (from, to) = span(&plans[member], role, phase);
                Some((from as u64 + self.random.below((to - from) as u64 + 1)).max(at + 1))
            }
            Life::Us(least, most) => {
                let ns = match row.mean_life {
                    Some(mean) => 1000 * about(&mut self.random, least, most - 1, mean),
                    // Stamps are whole microseconds: below one, both ends have the same.
                    None if most <= 1 => 1,
                    None => log_between(&mut self.random, (least * 1000).max(300), most * 1000 - 1),
                };
                // A block that was freed in the recording is freed here too.
                let left = last.saturating_sub(at + 1).max(1);
                Some(
                    at + if ns <= left {
                        ns
                    } else if exits {
                        left
                    } else {
                        1 + self.random.below(left)
                    },
                )
            }
        };
        if let Some([least, most]) = row.reallocs {
            let n = u64::from(least) + self.random.below(u64::from(most - least) + 1);
            let until = free_at.unwrap_or(last).min(thread_end).max(at + 1);
            let until = row.growing_us.map_or(until, |us| until.min(at + us * 1000 + 1));
            for i in 1..=n {
                let pages = pages(row, size);
                size = match row.grown {
                    Some(grown) if i == n => log_between(&mut self.random, grown - grown / 4, grown + grown / 4).max(1),
                    _ => growth.next(&mut self.random, size),
                };
                let (old, new) = (addr, self.address());
                addr = new;
                let when = at + (until - at) / n * i;
                let kind = SpoolKind::Realloc { old, new, size, began: when, resident_pages: pages };
                self.push(&mut plans[member], when, kind);
                latest = when;
            }
        }
        let Some(free_at) = free_at else { return };
        let pages = pages(row, size);
        match by {
            Some(by) => {
                let least_ns = latest + APART_NS;
                self.frees.push(Due { at_ns: free_at.max(least_ns), least_ns, by, owner: member, addr, pages });
            }
            None if row.life == Life::Thread => {
                // What a thread takes down as it ends: last made first.
                self.order += 1;
                plans[member].events.push((free_at, u64::MAX - self.order, free(addr, pages)));
            }
            None => self.push(&mut plans[member], free_at, free(addr, pages)),
        }
    }

    fn size(&mut self, row: &Blocks) -> u64 {
        let [low, high] = row.size;
        about(&mut self.random, low, high, row.mean.unwrap_or(low.midpoint(high)))
    }

    /// Gives each free that is due on another thread to one of the role named, drawn among those that run then. Where
    /// none does, the one nearest in time does it when it can, and at last the program's first thread.
    fn hand_over(&mut self, plans: &mut [Planned]) {
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (i, plan) in plans.iter().enumerate() {
            members.resize_with(members.len().max(plan.role + 1), Vec::new);
            members[plan.role].push(i);
        }
        for due in std::mem::take(&mut self.frees) {
            let candidates = members.get(due.by).map_or(&[][..], |m| m);
            let (thread, at_ns) = self.taker(&due, candidates, plans);
            self.push(&mut plans[thread], at_ns, free(due.addr, due.pages));
        }
    }

    fn taker(&mut self, due: &Due, candidates: &[usize], plans: &[Planned]) -> (usize, u64) {
        let runs = |t: usize, at: u64| t != due.owner && (plans[t].start_ns..plans[t].end_ns).contains(&at);
        let n = candidates.len() as u64;
        for _ in 0..if n > 0 { 16 } else { 0 } {
            let t = candidates[self.random.below(n) as usize];
            if runs(t, due.at_ns) {
                return (t, due.at_ns);
            }
        }
        let moved = |t: usize| due.at_ns.clamp(plans[t].start_ns, plans[t].end_ns - 1).max(due.least_ns);
        let possible =
            candidates.iter().map(|&t| (moved(t).abs_diff(due.at_ns), t)).filter(|&(_, t)| runs(t, moved(t)));
        match possible.min() {
            Some((_, t)) => (t, moved(t)),
            None => (0, due.at_ns),
        }
    }
}

/// Pages of a block that have been touched, where its row says so.
fn pages(row: &Blocks, size: u64) -> Option<u32> {
    let touched = row.touched.filter(|_| size >= RESIDENT_MIN)?;
    Some((touched * size as f64 / 4096.0).ceil() as u32)
}

fn free(addr: u64, pages: Option<u32>) -> SpoolKind {
    match pages {
        Some(resident_pages) => SpoolKind::FreeResident { addr, resident_pages },
        None => SpoolKind::Free { addr },
    }
}

/// The steps of a role's reallocs, by the least size they lead from.
struct Steps(BTreeMap<u64, Vec<([u64; 2], u64)>>);

impl Steps {
    fn new(role: &Role) -> Steps {
        let mut steps: BTreeMap<u64, Vec<([u64; 2], u64)>> = BTreeMap::new();
        for step in &role.growth {
            steps.entry(step.from[0]).or_default().push((step.to, step.n));
        }
        Steps(steps)
    }

    /// The size that follows; twice the size where the profile knows of none.
    fn next(&self, random: &mut SplitMix64, size: u64) -> u64 {
        let steps = self.0.range(..=size).next_back().or_else(|| self.0.first_key_value());
        let Some((_, steps)) = steps else { return size.saturating_mul(2).max(1) };
        let mut left = random.below(steps.iter().map(|(_, n)| n).sum::<u64>().max(1));
        for ([low, high], n) in steps {
            if left < *n {
                return log_between(random, (*low).max(1), *high);
            }
            left -= n;
        }
        size.max(1)
    }
}

/// A thread's events in order of time, between its start and its exit.
fn assemble(mut plan: Planned) -> Vec<SpoolEvent> {
    plan.events.sort_unstable_by_key(|(at, order, _)| (*at, *order));
    let last = plan.events.last().map_or(plan.start_ns, |(at, ..)| *at);
    let first = SpoolEvent { tsc: plan.start_ns, kind: SpoolKind::ThreadStart };
    let exit = SpoolEvent { tsc: plan.end_ns.max(last), kind: SpoolKind::ThreadExit };
    let events = plan.events.into_iter().map(|(tsc, _, kind)| SpoolEvent { tsc, kind });
    std::iter::once(first).chain(events).chain(plan.exits.then_some(exit)).collect()
}
