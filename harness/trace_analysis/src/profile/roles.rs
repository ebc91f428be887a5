//! Threads grouped by what they do.
//!
//! Leader clustering: threads by falling number of events; each joins the nearest leader so far, or becomes one when
//! none is near. How near is near is widened until no more than [`ROLES`] groups are left. The program's first thread is a group of its own.
//!
//! The threads of a group come in waves: its lives, points in the plane of start and end, are cut in two where the gap
//! is widest along the longer side, until no wave is wider than [`WAVE_SHARE`] of the recording or there are [`WAVES`].

use std::ops::Range;

use fragbench_model::Wave;

use crate::bins::Bins;
use crate::observe::Observer;
use fragbench_trace::{Event, EventKind};

/// Most groups.
const ROLES: usize = 10;
/// Most waves of a group.
const WAVES: usize = 24;
/// Share of the recording that a wave's starts, or ends, may be spread over.
const WAVE_SHARE: f64 = 0.01;

/// What a thread does over its life.
#[derive(Debug, Clone)]
pub(super) struct ThreadLife {
    /// From its start to its last event.
    pub(super) span_us: Range<u64>,
    pub(super) exits: bool,
    pub(super) events: u64,
    /// Allocations by bin of their size, ascending; at most a few hundred bins.
    sizes: Vec<(u32, u32)>,
    /// When it last allocated.
    pub(super) last_us: u64,
}

/// Every thread's life, by number, as an observer.
#[derive(Default)]
pub(super) struct Lives {
    lives: Vec<(ThreadLife, Vec<u32>)>,
}

fn size_bins() -> Bins {
    Bins::new(3, 2)
}

impl Observer for Lives {
    #[inline]
    fn event(&mut self, event: &Event) {
        if matches!(event.kind, EventKind::System { .. }) {
            return;
        }
        let thread = event.thread as usize;
        while self.lives.len() <= thread {
            let span_us = if self.lives.is_empty() { 0..1 } else { event.at_us..event.at_us + 1 };
            let life = ThreadLife { span_us, exits: false, events: 0, sizes: Vec::new(), last_us: event.at_us };
            self.lives.push((life, Vec::new()));
        }
        let (life, sizes) = &mut self.lives[thread];
        life.span_us.end = event.at_us + 1;
        match event.kind {
            EventKind::ThreadStart => {}
            EventKind::ThreadExit => life.exits = true,
            EventKind::Free => life.events += 1,
            _ => {
                life.events += 1;
                life.last_us = event.at_us;
                let bin = size_bins().bin(event.size);
                if sizes.len() <= bin {
                    sizes.resize(bin + 1, 0);
                }
                sizes[bin] += 1;
            }
        }
    }
}

impl Lives {
    pub(super) fn finish(self) -> Vec<ThreadLife> {
        let filled = |sizes: Vec<u32>| sizes.into_iter().enumerate().filter(|(_, n)| *n > 0);
        let life = |(life, sizes): (ThreadLife, Vec<u32>)| ThreadLife {
            sizes: filled(sizes).map(|(bin, n)| (bin as u32, n)).collect(),
            ..life
        };
        self.lives.into_iter().map(life).collect()
    }
}

/// The group of each thread.
pub(super) fn group(lives: &[ThreadLife], duration_us: u64) -> Vec<usize> {
    let mut near = 0.3;
    loop {
        let (roles, count) = leaders(lives, duration_us, near);
        if count <= ROLES || near > 50.0 {
            return roles;
        }
        near *= 1.25;
    }
}

fn leaders(lives: &[ThreadLife], duration_us: u64, near: f64) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (1..lives.len()).collect();
    order.sort_by_key(|&t| (std::cmp::Reverse(lives[t].events), t));
    let mut roles = vec![0; lives.len()];
    let mut leaders: Vec<usize> = Vec::new();
    for t in order {
        let nearest = leaders
            .iter()
            .enumerate()
            .map(|(role, leader)| (apart(&lives[*leader], &lives[t], duration_us), role))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        roles[t] = match nearest {
            Some((d, role)) if d <= near => role + 1,
            _ => {
                leaders.push(t);
                leaders.len()
            }
        };
    }
    let count = leaders.len() + 1;
    (roles, count)
}

/// How different two threads are: KS distance of their sizes, octaves between their numbers of events, difference of
/// their lives as shares of the recording.
fn apart(a: &ThreadLife, b: &ThreadLife, duration_us: u64) -> f64 {
    let share = |us: u64| us as f64 / duration_us.max(1) as f64;
    let life = |l: &ThreadLife| share(l.span_us.end - l.span_us.start);
    let octaves = ((a.events.max(1) as f64) / (b.events.max(1) as f64)).log2().abs();
    // Threads that do next to nothing are alike, whatever it is.
    let weight = (b.events as f64 / 50.0).min(1.0);
    weight * ks(&a.sizes, &b.sizes) + weight * 0.1 * octaves + weight * (life(a) - life(b)).abs()
}

/// The waves of a group's threads, by their starts.
pub(super) fn waves(members: &[&ThreadLife], duration_us: u64) -> Vec<Wave> {
    let mut parts: Vec<Vec<&ThreadLife>> = [true, false]
        .map(|exits| members.iter().copied().filter(|l| l.exits == exits).collect())
        .into_iter()
        .filter(|part: &Vec<_>| !part.is_empty())
        .collect();
    let widest = |part: &[&ThreadLife]| {
        [side(part, |l| l.span_us.start), side(part, |l| l.span_us.end)].into_iter().max().unwrap_or(0)
    };
    let enough = (duration_us as f64 * WAVE_SHARE) as u64;
    while parts.len() < WAVES {
        // Many threads spread a little matter as much as few spread far.
        let worst = (0..parts.len())
            .filter(|i| parts[*i].len() > 1 && widest(&parts[*i]) > enough)
            .max_by_key(|i| widest(&parts[*i]).saturating_mul(parts[*i].len() as u64));
        let Some(worst) = worst else { break };
        let mut part = parts.swap_remove(worst);
        let by = if side(&part, |l| l.span_us.start) >= side(&part, |l| l.span_us.end) {
            |l: &ThreadLife| l.span_us.start
        } else {
            |l: &ThreadLife| l.span_us.end
        };
        part.sort_by_key(|l| by(l));
        let gap = |i: &usize| by(part[*i]) - by(part[*i - 1]);
        let rest = part.split_off((1..part.len()).max_by_key(gap).unwrap_or(1));
        parts.extend([part, rest]);
    }
    let range = |part: &[&ThreadLife], of: fn(&ThreadLife) -> u64| {
        [part.iter().map(|l| of(l)).min().unwrap_or(0), part.iter().map(|l| of(l)).max().unwrap_or(0)]
    };
    let mut waves: Vec<Wave> = parts
        .iter()
        .map(|part| Wave {
            threads: part.len() as u32,
            starts_us: range(part, |l| l.span_us.start),
            ends_us: range(part, |l| l.span_us.end),
            exits: part[0].exits,
        })
        .collect();
    waves.sort_by_key(|w| (w.starts_us, w.ends_us));
    waves
}

/// How far a measure of a part's threads is spread.
fn side(part: &[&ThreadLife], of: fn(&ThreadLife) -> u64) -> u64 {
    let (low, high) = part.iter().map(|l| of(l)).fold((u64::MAX, 0), |(l, h), v| (l.min(v), h.max(v)));
    high.saturating_sub(low)
}

fn ks(a: &[(u32, u32)], b: &[(u32, u32)]) -> f64 {
    let total = |s: &[(u32, u32)]| s.iter().map(|(_, n)| f64::from(*n)).sum::<f64>().max(1.0);
    let (na, nb) = (total(a), total(b));
    let (mut i, mut j, mut below, mut most) = (0, 0, 0.0f64, 0.0f64);
    while i < a.len() || j < b.len() {
        let bin = a.get(i).into_iter().chain(b.get(j)).map(|(bin, _)| *bin).min();
        if let Some((_, n)) = a.get(i).filter(|(x, _)| Some(*x) == bin) {
            below += f64::from(*n) / na;
            i += 1;
        }
        if let Some((_, n)) = b.get(j).filter(|(x, _)| Some(*x) == bin) {
            below -= f64::from(*n) / nb;
            j += 1;
        }
        most = most.max(below.abs());
    }
    most
}
