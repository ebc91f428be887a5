//! A trace distilled to a profile, in three passes, each of which needs what the one before found: threads and their groups
//! (and the shape of the whole), the phases of each group, the blocks allocated in each phase. Memory is bounded by the live blocks and the distinct kinds of blocks, not by the trace's
//! length.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

use fragbench_model::{Blocks, Growth, Life, PROFILE_VERSION, Profile, Role, Shape, ShapeRows};

use super::phases::{self, Curves, GRID};
use super::roles::{self, Lives, ThreadLife};
use crate::bins::Bins;
use crate::objects::{ByObject, NumberHash};
use crate::observe::observe;
use crate::shape::Gauge;
use fragbench_trace::Trace;
use fragbench_trace::{Event, EventKind};

/// Most rows of blocks in a profile: what keeps its file below some 60 KB.
const ROWS: usize = 460;
/// Values that stand for a distribution.
const QUANTILES: usize = 32;
/// A block that lives at least this long, microseconds, and half as long as the phase in which it is freed, is one of those
/// that make the live curve: the phase of its free is kept, not its lifetime.
const LASTING_US: u64 = 4096;

/// Distils a trace. Damaged blocks of the file are passed over.
pub fn distil(trace: &Trace) -> Profile {
    distil_and_measure(trace).0
}

/// The same, with the shape of the whole trace.
pub fn distil_and_measure(trace: &Trace) -> (Profile, Shape) {
    let duration_us = ((trace.info().duration_s * 1e6).round() as u64).max(1);
    let mut first = (Lives::default(), Gauge::of(trace, 0..u64::MAX));
    observe(trace, &mut first);
    let (lives, gauge) = (first.0.finish(), first.1);
    let of_thread = roles::group(&lives, duration_us);
    let count = of_thread.iter().max().map_or(1, |most| most + 1);
    let mut groups: Vec<Group> = (0..count).map(|_| Group::default()).collect();
    let ages = Ages { lives: &lives, of_thread: &of_thread };
    draw_curves(trace, &ages, &mut groups);
    let peak = trace.totals().map_or(1, |t| t.peak_live_bytes.max(1));
    cut_phases(&mut groups, peak);
    count_blocks(trace, &ages, &mut groups);
    let all = Totals::of(&groups, peak);
    let rows = |tables: &[Vec<Blocks>]| tables.iter().map(Vec::len).sum::<usize>();
    let mut blocks = Vec::new();
    for level in 0..LEVELS {
        blocks = groups.iter().map(|group| table(group, &all, level)).collect::<Vec<_>>();
        if rows(&blocks) <= ROWS {
            break;
        }
    }
    let role = groups
        .iter()
        .zip(blocks)
        .enumerate()
        .map(|(number, (group, blocks))| {
            let members: Vec<&ThreadLife> =
                lives.iter().zip(&of_thread).filter(|(_, role)| **role == number).map(|(life, _)| life).collect();
            let threads_peak = most_at_once(&members, duration_us);
            Role {
                name: name(number),
                threads_peak,
                scales: threads_peak >= 4 && number > 0,
                waves: roles::waves(&members, duration_us),
                gaps_ns: group.gap_quantiles(),
                phases: group.cuts.iter().map(|c| *c as f64 / GRID as f64).collect(),
                blocks,
                growth: group.growth(),
            }
        })
        .collect();
    let shape = gauge.finish();
    (Profile { version: PROFILE_VERSION, duration_us, recording: ShapeRows::new(&shape), role }, shape)
}

fn cut_phases(groups: &mut [Group], peak: u64) {
    let weights: Vec<[f64; 3]> = groups.iter().map(|g| g.curves.weights()).collect();
    let sum = |i: usize| weights.iter().map(|w| w[i]).sum::<f64>().max(1.0);
    let totals = [sum(0), sum(1), peak as f64];
    for (group, weights) in groups.iter_mut().zip(&weights) {
        let share = weights.iter().zip(totals).map(|(w, t)| w / t).fold(0.0, f64::max);
        group.cuts = phases::cut(&group.curves, share.min(1.0));
    }
}

fn name(role: usize) -> String {
    if role == 0 { "first".to_owned() } else { format!("role-{role}") }
}

fn most_at_once(members: &[&ThreadLife], duration_us: u64) -> u32 {
    let end = |l: &ThreadLife| if l.exits { l.span_us.end } else { duration_us };
    let mut changes: Vec<(u64, i32)> = members.iter().flat_map(|l| [(l.span_us.start, 1), (end(l), -1)]).collect();
    changes.sort_unstable();
    let running = changes.iter().scan(0, |running, (_, change)| {
        *running += change;
        Some(*running)
    });
    running.max().unwrap_or(1).max(1) as u32
}

/// Where in its life a thread is.
struct Ages<'a> {
    lives: &'a [ThreadLife],
    of_thread: &'a [usize],
}

impl Ages<'_> {
    fn at(&self, thread: u32, at_us: u64) -> usize {
        let span = &self.lives[thread as usize].span_us;
        let (age, life) = (at_us.saturating_sub(span.start), (span.end - span.start).max(1));
        ((u128::from(age) * GRID as u128 / u128::from(life)) as usize).min(GRID - 1)
    }

    fn role(&self, thread: u32) -> usize {
        self.of_thread[thread as usize]
    }
}

fn draw_curves(trace: &Trace, ages: &Ages, groups: &mut [Group]) {
    for event in trace.events_in_order() {
        if matches!(event.kind, EventKind::System { .. } | EventKind::ThreadStart | EventKind::ThreadExit) {
            continue;
        }
        if let Some(before) = event.before {
            let curves = &mut groups[ages.role(before.thread)].curves;
            curves.live[ages.at(before.thread, event.at_us)] -= before.size as f64;
        }
        if event.kind != EventKind::Free {
            let curves = &mut groups[ages.role(event.thread)].curves;
            let age = ages.at(event.thread, event.at_us);
            curves.allocations[age] += 1.0;
            curves.bytes[age] += event.size as f64;
            curves.live[age] += event.size as f64;
        }
    }
}

/// A kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Kind {
    size: u64,
    zeroed: bool,
    align: Option<u64>,
    life: Life,
    by: Option<usize>,
    /// Reallocs, rounded down to a power of two.
    reallocs: u32,
}

/// What there is of a kind.
#[derive(Debug, Clone, Default)]
struct Cell {
    n: Vec<u64>,
    size: Option<(u64, u64)>,
    bytes: u64,
    /// Bytes after the last realloc.
    grown: u64,
    reallocs: Option<(u32, u32)>,
    /// Sum of the times from allocation to last realloc.
    growing_us: f64,
    /// Sum of the lifetimes.
    lived_us: f64,
    touched: f64,
    touched_of: f64,
}

impl Cell {
    fn count(&self) -> u64 {
        self.n.iter().sum()
    }

    fn join(&mut self, other: &Cell) {
        self.n.resize(other.n.len().max(self.n.len()), 0);
        self.n.iter_mut().zip(&other.n).for_each(|(a, b)| *a += b);
        self.size = span(self.size, other.size);
        self.reallocs = span(self.reallocs, other.reallocs);
        self.bytes += other.bytes;
        self.grown += other.grown;
        self.growing_us += other.growing_us;
        self.lived_us += other.lived_us;
        self.touched += other.touched;
        self.touched_of += other.touched_of;
    }
}

fn span<T: Ord + Copy>(a: Option<(T, T)>, b: Option<(T, T)>) -> Option<(T, T)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

#[derive(Debug, Default)]
struct Group {
    curves: Curves,
    cuts: Vec<usize>,
    /// While blocks are counted; in order afterwards.
    counted: HashMap<Kind, Cell, BuildHasherDefault<NumberHash>>,
    cells: BTreeMap<Kind, Cell>,
    /// Bin of the size before and bin of the size after a realloc.
    steps: BTreeMap<(usize, usize), u64>,
    /// Time between two allocations of a thread, µs: bin → how often.
    gaps: BTreeMap<usize, u64>,
}

fn gap_bins() -> Bins {
    Bins::new(3, 2)
}

/// Bins of the sizes of reallocs.
fn step_bins() -> Bins {
    Bins::new(2, 1)
}

impl Group {
    fn phase(&self, age: usize) -> usize {
        self.cuts.partition_point(|c| *c <= age).saturating_sub(1)
    }

    /// Length of a phase of a thread's life.
    fn phase_us(&self, phase: usize, life: &ThreadLife) -> u64 {
        let end = self.cuts.get(phase + 1).copied().unwrap_or(GRID);
        (life.span_us.end - life.span_us.start) * (end - self.cuts[phase]) as u64 / GRID as u64
    }

    fn gap_quantiles(&self) -> Vec<u64> {
        let total: u64 = self.gaps.values().sum();
        let bins = gap_bins();
        let mut out = Vec::new();
        let (mut below, mut quantile) = (0, 0);
        for (&bin, &n) in &self.gaps {
            below += n;
            // A stamp's resolution is a microsecond; below it, a third of one is as good as any.
            let ns = ((bins.from(bin) + bins.from(bin + 1)) * 500).max(300) - 200;
            while quantile < QUANTILES as u64 && (2 * quantile + 1) * total <= below * 2 * QUANTILES as u64 {
                out.push(ns);
                quantile += 1;
            }
        }
        out
    }

    fn growth(&self) -> Vec<Growth> {
        let bins = step_bins();
        let range = |bin: usize| [bins.from(bin).max(1), (bins.from(bin + 1) - 1).max(1)];
        self.steps.iter().map(|(&(from, to), &n)| Growth { from: range(from), to: range(to), n }).collect()
    }
}

/// A live block of the trace.
struct Live {
    thread: u32,
    role: usize,
    phase: usize,
    size: u64,
    zeroed: bool,
    align: Option<u64>,
    born_us: u64,
    /// When it was last reallocated.
    grown_us: u64,
    reallocs: u32,
    now: u64,
    pages: Option<u32>,
}

impl Live {
    fn end(self, groups: &mut [Group], life: Life, by: Option<usize>, lived_us: u64) {
        let group = &mut groups[self.role];
        let class = self.reallocs.checked_ilog2().map_or(0, |log| 1 << log);
        let kind = Kind { size: self.size, zeroed: self.zeroed, align: self.align, life, by, reallocs: class };
        let phases = group.cuts.len();
        let cell = group.counted.entry(kind).or_default();
        cell.n.resize(phases, 0);
        cell.n[self.phase] += 1;
        cell.size = span(cell.size, Some((self.size, self.size)));
        cell.bytes += self.size;
        cell.grown += self.now;
        cell.growing_us += self.grown_us.saturating_sub(self.born_us) as f64;
        cell.lived_us += lived_us as f64;
        if self.reallocs > 0 {
            cell.reallocs = span(cell.reallocs, Some((self.reallocs, self.reallocs)));
        }
        if let Some(pages) = self.pages {
            cell.touched += (f64::from(pages) * 4096.0).min(self.now as f64);
            cell.touched_of += self.now as f64;
        }
    }
}

fn count_blocks(trace: &Trace, ages: &Ages, groups: &mut [Group]) {
    let mut live: ByObject<Live> = ByObject::default();
    let mut last = vec![None; ages.lives.len()];
    for event in trace.events_in_order() {
        let Event { kind, size, at_us, thread, resident_pages, .. } = event;
        let Some(object) = event.object else { continue };
        let role = ages.role(thread);
        match kind {
            EventKind::Free => {
                let (Some(block), Some(before)) = (live.remove(&object), event.before) else { continue };
                let by = (before.thread != thread).then_some(role);
                let owner = &ages.lives[block.thread as usize];
                let phase = groups[block.role].phase(ages.at(block.thread, at_us));
                let life_us = at_us.saturating_sub(block.born_us);
                let life = if by.is_none() && at_us >= owner.last_us {
                    Life::Thread
                } else if life_us >= (groups[block.role].phase_us(phase, owner) / 2).max(LASTING_US)
                    && phase > block.phase
                    && at_us < owner.span_us.end
                {
                    Life::Phase(phase)
                } else {
                    Life::of_us(life_us)
                };
                block.end(groups, life, by, life_us);
            }
            EventKind::Realloc { .. } if event.before.is_some() => {
                let Some(block) = live.get_mut(&object) else { continue };
                let bins = step_bins();
                *groups[block.role].steps.entry((bins.bin(block.now), bins.bin(size))).or_default() += 1;
                block.reallocs += 1;
                block.now = size;
                block.grown_us = at_us;
                block.pages = resident_pages;
            }
            _ => {
                let group = &mut groups[role];
                if let Some(before) = last[thread as usize].replace(at_us) {
                    *group.gaps.entry(gap_bins().bin(at_us - before)).or_default() += 1;
                }
                let align = if let EventKind::Aligned(align) = kind { Some(align) } else { None };
                let (zeroed, phase) = (kind == EventKind::Calloc, group.phase(ages.at(thread, at_us)));
                let block = Live {
                    thread,
                    role,
                    phase,
                    size,
                    zeroed,
                    align,
                    born_us: at_us,
                    grown_us: at_us,
                    reallocs: 0,
                    now: size,
                    pages: resident_pages,
                };
                live.insert(object, block);
            }
        }
    }
    live.into_values().for_each(|block| block.end(groups, Life::End, None, 0));
    for group in groups {
        group.cells = std::mem::take(&mut group.counted).into_iter().collect();
    }
}

/// Totals over all roles, which shares are of.
struct Totals {
    count: f64,
    bytes: f64,
    peak: f64,
}

impl Totals {
    fn of(groups: &[Group], peak: u64) -> Totals {
        let cells = || groups.iter().flat_map(|g| g.cells.values());
        Totals {
            count: cells().map(|c| c.count() as f64).sum::<f64>().max(1.0),
            bytes: cells().map(|c| c.bytes as f64).sum::<f64>().max(1.0),
            peak: peak as f64,
        }
    }

    /// The largest of a cell's shares: of objects, of bytes, of the live peak where its blocks live long.
    fn share(&self, kind: &Kind, cell: &Cell) -> f64 {
        let lasting = !matches!(kind.life, Life::Us(_, most) if most <= 1 << 16);
        let live = if lasting { cell.grown as f64 / self.peak } else { 0.0 };
        (cell.count() as f64 / self.count).max(cell.bytes as f64 / self.bytes).max(live)
    }
}

/// Levels of coarseness that [`table`] knows.
const LEVELS: i32 = 20;
/// Rows of a larger share than this are never joined with others.
const RARE_MOST: f64 = 0.003;

/// The rows of a role at a level of coarseness. A size whose share of the objects, of the bytes, or of the live peak is
/// above a threshold keeps its exact number. What else there is, and what is rare of such a size too, is joined by parts
/// of an octave (or several) and by wider classes of lifetimes.
fn table(group: &Group, all: &Totals, level: i32) -> Vec<Blocks> {
    let threshold = 0.0005 * 1.3f64.powi(level.min(6));
    let rare = (threshold / 8.0 * 1.3f64.powi(level)).min(RARE_MOST);
    let mut shares: HashMap<u64, f64> = HashMap::new();
    for (kind, cell) in &group.cells {
        *shares.entry(kind.size).or_default() += all.share(kind, cell);
    }
    // A size of its own, or a part of an octave: never in one row.
    let mut joined: BTreeMap<(bool, Kind), Cell> = BTreeMap::new();
    for (kind, cell) in &group.cells {
        let share = all.share(kind, cell);
        let exact = shares[&kind.size] >= threshold && share >= rare;
        let mut kind = *kind;
        if !exact {
            kind.size = size_class(kind.size, level);
            if level >= 4 && kind.by.is_none() && kind.align.is_none_or(|a| a < 4096) {
                (kind.zeroed, kind.align) = (false, None);
            }
        }
        if share < rare {
            kind.life = wider(kind.life, level);
        }
        joined.entry((exact, kind)).or_default().join(cell);
    }
    joined.iter().map(|((_, kind), cell)| row(kind, cell)).collect()
}

/// Least size of the class by which rare sizes are joined: a quarter, a half, one, two, or four octaves.
fn size_class(size: u64, level: i32) -> u64 {
    let octaves = |n: u32| 1u64 << (size.max(1).ilog2() / n * n);
    match level {
        0..4 => Bins::new(3, 2).floor(size),
        4..8 => Bins::new(2, 1).floor(size),
        8..14 => octaves(1),
        14..18 => octaves(2),
        _ => octaves(4),
    }
}

/// The classes of lifetimes that rare blocks are joined by; so rare that the phase of their free does not show.
fn wider(life: Life, level: i32) -> Life {
    let bounds: &[u64] = if level < 5 { &[0, 16, 256, 4096, 1 << 16, 1 << 20] } else { &[0, 256, 1 << 16, 1 << 20] };
    match life {
        Life::Us(_, most) => match bounds.windows(2).find(|w| most <= w[1]) {
            Some(w) => Life::Us(w[0], w[1]),
            None => life,
        },
        Life::Phase(_) if level >= 6 => Life::Us(1 << 16, 1 << 20),
        _ => life,
    }
}

fn row(kind: &Kind, cell: &Cell) -> Blocks {
    let (low, high) = cell.size.unwrap_or((kind.size, kind.size));
    let phase = cell.n.iter().position(|n| *n > 0).unwrap_or(0);
    let end = cell.n.iter().rposition(|n| *n > 0).map_or(phase, |last| last + 1);
    Blocks {
        size: [low, high],
        mean: (low < high).then(|| cell.bytes / cell.count().max(1)),
        zeroed: kind.zeroed,
        align: kind.align,
        life: kind.life,
        mean_life: match kind.life {
            // Where it shows in the live curve.
            Life::Us(least, most) if most > LASTING_US => {
                let mean = (cell.lived_us / cell.count().max(1) as f64) as u64;
                (least..most).contains(&mean).then_some(mean)
            }
            _ => None,
        },
        freed_by: kind.by.map(name),
        reallocs: cell.reallocs.map(|(low, high)| [low, high]),
        growing_us: cell.reallocs.map(|_| (cell.growing_us / cell.count().max(1) as f64).ceil() as u64),
        grown: cell.reallocs.map(|_| cell.grown / cell.count().max(1)),
        touched: (cell.touched_of > 0.0).then(|| (cell.touched / cell.touched_of * 1000.0).round() / 1000.0),
        phase,
        n: cell.n[phase..end].to_vec(),
    }
}
