//! The verdict: what is the matter with a process's memory, by small rules, each of which looks at one way memory is
//! lost. A rule gives the bytes it accounts for; the weightiest one that matters is the verdict, the others stand below it.
//!
//! Free memory that is resident is divided among the rules without overlap: chunks in fast bins, chunks in tcaches, tops,
//! and what lies between chunks, which is attributed stretch by stretch to what holds it ([`crate::retained`]).
//!
//! One inspection tells retention and fragmentation from a healthy heap. Whether live bytes are a leak it cannot tell; two
//! can, and even they cannot tell a leak from a program that grows.

use fragbench_model::{HeapVerdict, HeapVerdictKind, Inspection, Kept, PinKind, Retained, StretchKind};

use crate::human::size;
use crate::layout::THRESHOLD;
use crate::survey::InspectError;

use HeapVerdictKind as K;

mod growth;
mod outside;
mod remedy;
mod threshold;

use growth::growth;
use outside::{address_space, not_the_heap};
use threshold::{mmap_ratchet, small_mappings};

/// What a rule accounts for matters from this share of resident memory on ...
const SHARE: f64 = 0.2;
/// ... and from this many bytes on.
const LEAST: u64 = 4 << 20;
/// Less of the heap understood than this is too little.
const COVERAGE: f64 = 0.9;
/// A chunk that holds as much as this by itself is a pin; chunks that hold less are fragmentation.
const PIN_HOLDS: u64 = 1 << 20;
/// A trim that gives back this share of resident memory is said first.
const LARGE: f64 = 0.05;

type Rule = fn(&Case) -> Option<HeapVerdict>;

/// The rules that look at one inspection.
const RULES: [Rule; 10] = [
    fast_bins,
    tcaches,
    thread_tops,
    main_top,
    mmap_ratchet,
    small_mappings,
    pinned,
    fragmentation,
    not_the_heap,
    address_space,
];

/// What is the matter; `before` is an earlier inspection of the same process.
pub fn verdict(now: &Inspection, before: Option<&Inspection>) -> HeapVerdict {
    let case = Case::new(now, before);
    if let Some(verdict) = too_little(&case) {
        return verdict;
    }
    let mut found: Vec<HeapVerdict> = RULES.iter().filter_map(|rule| rule(&case)).collect();
    found.retain(|verdict| verdict.bytes >= LEAST);
    found.sort_by_key(|verdict| std::cmp::Reverse(verdict.bytes));
    // Memory outside the heap and address space come first only where the heap has nothing to answer for.
    let of_heap = |verdict: &HeapVerdict| !matches!(verdict.kind, K::NotTheHeap | K::AddressSpace);
    let matters = |verdict: &HeapVerdict| verdict.bytes as f64 >= SHARE * case.rss as f64;
    let first = found
        .iter()
        .position(|verdict| of_heap(verdict) && matters(verdict))
        .or_else(|| found.iter().position(|verdict| verdict.kind == K::NotTheHeap))
        .or_else(|| found.iter().position(|verdict| verdict.kind == K::AddressSpace));
    let mut first = match (growth(&case), first) {
        (Some(growth), _) => growth,
        (None, Some(place)) => found.remove(place),
        (None, None) => healthy(&case),
    };
    first.also = found;
    // What can be had at once leads, whatever the finding is.
    if case.trim_is_large() && case.now.heap.is_some() {
        let release = remedy::trim(&case);
        let saves = size(release.saves_bytes.unwrap_or(0));
        // But growth is what two looks were taken for.
        if first.kind != K::LeakOrGrowth {
            first.summary =
                format!("malloc_trim(0) would give back {saves} of {} now. {}", size(case.rss), first.summary);
        }
        first.remedies.retain(|other| other.kind != release.kind);
        first.remedies.insert(0, release);
    }
    if let Some(looks) = growth::looks(&case).filter(|looks| !looks.grows) {
        first.summary = format!("{} {}", growth::steady(&looks), first.summary);
        first.evidence.insert(0, growth::line(&looks));
    }
    first.growth = growth::looks(&case);
    tell(&case, &mut first);
    first.also.iter_mut().for_each(|also| tell(&case, also));
    first
}

/// Puts the remedies into words, before what else can be done.
fn tell(case: &Case, verdict: &mut HeapVerdict) {
    let lines = verdict.remedies.iter().map(|remedy| remedy::sentence(case, remedy));
    verdict.next = lines.chain(std::mem::take(&mut verdict.next)).collect();
}

/// An inspection as the rules see it.
struct Case<'a> {
    now: &'a Inspection,
    before: Option<&'a Inspection>,
    rss: u64,
    pid: String,
    /// Chunks that the process could be told to keep apart by a threshold have gone to the heap.
    ratchet: bool,
}

/// What holds the free memory of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Tcache,
    Ratchet,
    Pin,
    Fragments,
}

impl<'a> Case<'a> {
    fn new(now: &'a Inspection, before: Option<&'a Inspection>) -> Self {
        let heap = now.heap.map_or(0, |heap| heap.resident_bytes);
        Case {
            now,
            before,
            rss: now.rss_bytes.unwrap_or(heap).max(1),
            pid: now.pid.map_or_else(|| "PID".into(), |pid| pid.to_string()),
            ratchet: now.settings.mmap_threshold_bytes.is_some_and(|n| n > THRESHOLD)
                && now.settings.thresholds_move != Some(false),
        }
    }

    fn kept(&self, reason: Kept) -> u64 {
        self.now.trim.as_ref().and_then(|trim| trim.kept.get(&reason)).copied().unwrap_or(0)
    }

    fn fast(&self) -> u64 {
        // Chunks in fast bins were written to by their program: what of them is not in memory has been swapped.
        self.now.heap.map_or(0, |heap| heap.fast_bytes.min(heap.free_resident_bytes))
    }

    fn holder(&self, held: &Retained) -> Holder {
        let live = held.pins.iter().any(|pin| pin.kind == PinKind::Live);
        let cached = held.pins.iter().any(|pin| matches!(pin.kind, PinKind::Tcache | PinKind::Own));
        let each = held.held_bytes / held.pin_chunks.max(1);
        match () {
            () if !live && cached => Holder::Tcache,
            () if self.ratchet && 2 * held.mappable_bytes >= held.free_resident_bytes && held.mappable_bytes > 0 => {
                Holder::Ratchet
            }
            () if each >= PIN_HOLDS => Holder::Pin,
            () => Holder::Fragments,
        }
    }

    /// Stretches that something of this kind holds, fast bins' share of them taken out.
    fn held_by(&self, holder: Holder) -> Vec<&'a Retained> {
        let fast = self.fast();
        let free: u64 = self.now.retained.iter().map(|held| held.free_resident_bytes).sum();
        // A heap whose free memory is mostly in fast bins is theirs.
        if 2 * fast > free && free > 0 {
            return Vec::new();
        }
        self.now.retained.iter().filter(|held| self.holder(held) == holder).collect()
    }

    /// Whether trimming would give back so much that it is said before all else.
    fn trim_is_large(&self) -> bool {
        let release = self.now.trim.as_ref().map_or(0, |trim| trim.predicted_release_bytes);
        release >= LEAST && release as f64 >= LARGE * self.rss as f64
    }

    /// Free bytes in memory of blocks that would have been mapped one by one, had the threshold not risen.
    fn mappable(&self, held: &[&Retained]) -> u64 {
        if self.ratchet { held.iter().map(|held| held.mappable_bytes).sum() } else { 0 }
    }

    fn threads_of(&self, held: &[&Retained]) -> Option<u64> {
        let arenas: std::collections::BTreeSet<usize> = held.iter().map(|held| held.arena).collect();
        arenas.into_iter().map(|i| self.now.arenas.get(i)?.threads).sum()
    }
}

fn say(kind: HeapVerdictKind, bytes: u64, summary: String) -> HeapVerdict {
    HeapVerdict {
        kind,
        summary,
        bytes,
        evidence: Vec::new(),
        next: Vec::new(),
        remedies: Vec::new(),
        growth: None,
        resembles: None,
        also: Vec::new(),
    }
}

fn too_little(case: &Case) -> Option<HeapVerdict> {
    let now = case.now;
    let mut verdict = match (&now.heap, now.coverage_ratio) {
        // Another malloc, or none.
        (None, _) if now.lacks.contains(&InspectError::NoHeap.to_string()) => return not_the_heap(case),
        (None, _) => {
            let why = now.lacks.first().map_or("nothing says why", String::as_str);
            say(K::NotEnoughData, 0, format!("The heap was not seen: {why}."))
        }
        (Some(_), Some(coverage)) if coverage < COVERAGE => {
            say(K::NotEnoughData, 0, format!("Only {:.1} % of the heap was understood.", coverage * 100.0))
        }
        _ => return None,
    };
    verdict.evidence = now.lacks.clone();
    if now.heap.is_some() {
        verdict.next.push(format!(
            "look again: `fragbench inspect --surveys 5 {}`; `--freeze` stops the process for the time of the survey",
            case.pid
        ));
    }
    Some(verdict)
}

fn fast_bins(case: &Case) -> Option<HeapVerdict> {
    let fast = case.fast();
    let heap = case.now.heap?;
    let mut verdict = say(
        K::FastbinRetention,
        fast,
        format!("{} lie in fast bins: small chunks that were freed and never joined.", size(fast)),
    );
    let tops = case.kept(Kept::ThreadTop);
    let in_threads = 2 * tops > fast;
    verdict.evidence.push(format!("fast bins {}, of {} free in all", size(heap.fast_bytes), size(heap.free_bytes)));
    if in_threads {
        verdict.evidence.push(format!(
            "they border on tops of threads' arenas: malloc_trim would move {} there and not give it back",
            size(tops)
        ));
        verdict.resembles = Some("fastbin-hoard-threads".into());
    } else {
        verdict.remedies.push(remedy::trim(case));
        verdict.resembles = Some("fastbin-hoard".into());
    }
    verdict.remedies.push(remedy::fast_bins(fast));
    Some(verdict)
}

fn tcaches(case: &Case) -> Option<HeapVerdict> {
    let cached = case.kept(Kept::Tcache);
    let held = case.held_by(Holder::Tcache);
    let behind: u64 = held.iter().map(|held| held.free_resident_bytes).sum();
    if cached + behind == 0 {
        return None;
    }
    let own = held.iter().any(|held| held.pins.iter().all(|pin| pin.kind == PinKind::Own));
    let heaps =
        held.iter().filter(|held| held.kind == StretchKind::Heap).map(|held| held.free_resident_bytes).sum::<u64>();
    let mut verdict = say(
        K::TcacheRetention,
        cached + behind,
        if behind > cached {
            format!("Freed chunks in threads' caches hold {} that is free.", size(behind))
        } else {
            format!("{} lie in threads' caches.", size(cached))
        },
    );
    verdict.evidence.push(format!("in tcaches {}; free behind them {}", size(cached), size(behind)));
    for held in held.iter().take(3) {
        verdict.evidence.push(pins(held));
    }
    verdict.resembles = Some(
        match () {
            () if cached > behind => "tcache-hoard",
            () if own => "lazy-tcache-pin",
            () if 2 * heaps > behind => "heap-tail-remainder",
            () => "tcache-pins-top",
        }
        .into(),
    );
    if behind > cached {
        verdict.remedies.push(remedy::trim(case));
    }
    verdict.remedies.push(remedy::tcache_count(cached + behind));
    Some(verdict)
}

fn thread_tops(case: &Case) -> Option<HeapVerdict> {
    // What fast bins would add to them is theirs.
    let tops = case.now.heap?.top_resident_bytes.saturating_sub(main_top_bytes(case));
    let arenas = case.now.arenas.iter().filter(|arena| arena.index > 0 && arena.top_bytes > THRESHOLD).count();
    if tops == 0 {
        return None;
    }
    let mut verdict = say(
        K::ThreadTopRetention,
        tops,
        format!(
            "{} are retained in the tops of {arenas} threads' arenas, which malloc_trim never shrinks.",
            size(tops)
        ),
    );
    verdict
        .evidence
        .push(format!("tops of threads' arenas in memory: {}; malloc_trim shrinks the main one only", size(tops)));
    if let Some(trim) = case.now.settings.trim_threshold_bytes {
        verdict.evidence.push(format!(
            "trim_threshold is {}{}: free() shrinks a top only above it",
            size(trim),
            if trim > THRESHOLD { ", risen from 128 KiB" } else { "" }
        ));
    }
    verdict.remedies.extend(remedy::trim_threshold(case, tops, arenas as u64));
    verdict.remedies.extend(remedy::arena_limit(case));
    if verdict.remedies.is_empty() {
        verdict.next.push("fewer arenas keep fewer tops: `fragbench tune -- CMD…` finds a limit and its price".into());
    }
    verdict.resembles = Some("ratcheted-top-threads".into());
    Some(verdict)
}

/// Resident bytes of the main arena's top.
fn main_top_bytes(case: &Case) -> u64 {
    let kept = case.now.trim.as_ref().map_or(0, |trim| trim.main_top_bytes) + case.kept(Kept::MainTop);
    case.now.arenas.first().map_or(0, |arena| arena.top_bytes.min(kept))
}

fn main_top(case: &Case) -> Option<HeapVerdict> {
    let top = main_top_bytes(case);
    let trim = case.now.settings.trim_threshold_bytes;
    let mut verdict = say(K::MainTopRetention, top, format!("{} are retained in the main arena's top.", size(top)));
    if let Some(trim) = trim {
        verdict.evidence.push(format!("trim_threshold is {}: free() gives a top back only above it", size(trim)));
    }
    verdict.remedies.push(remedy::trim(case));
    verdict.remedies.extend(remedy::trim_threshold(case, top, 1));
    verdict.resembles = case.ratchet.then(|| "mmap-ratchet".into());
    Some(verdict)
}

fn pinned(case: &Case) -> Option<HeapVerdict> {
    let held = case.held_by(Holder::Pin);
    let bytes: u64 = held.iter().map(|held| held.free_resident_bytes).sum();
    let chunks: u64 = held.iter().map(|held| held.pin_chunks).sum();
    if bytes == 0 {
        return None;
    }
    let arenas: std::collections::BTreeSet<usize> = held.iter().map(|held| held.arena).collect();
    let mut verdict = say(
        K::PinnedRetention,
        bytes,
        format!("{} are free below {chunks} chunks in use that keep them from the top.", size(bytes)),
    );
    for held in held.iter().take(4) {
        verdict.evidence.push(pins(held));
    }
    verdict.remedies.push(remedy::trim(case));
    let large = Some(case.mappable(&held)).filter(|bytes| *bytes >= LEAST);
    verdict.next.push("call malloc_trim(0) in the program after its peaks, from a thread that may wait".into());
    let threads = case.threads_of(&held);
    verdict.resembles = Some(
        match (arenas.contains(&0) && arenas.len() == 1, threads) {
            (true, _) => "pinned-top",
            (false, Some(0)) => "thread-burst-pinned",
            (false, _) => "serial-peaks",
        }
        .into(),
    );
    if !arenas.contains(&0) || arenas.len() > 1 {
        verdict.evidence.push(format!("in {} arenas: each keeps its own peak", arenas.len()));
    }
    // Fewer arenas do not help where each keeps large blocks.
    verdict.remedies.extend(large.map(remedy::mmap_threshold).or_else(|| remedy::arena_limit(case)));
    Some(verdict)
}

fn fragmentation(case: &Case) -> Option<HeapVerdict> {
    let held = case.held_by(Holder::Fragments);
    let bytes: u64 = held.iter().map(|held| held.free_resident_bytes).sum();
    if bytes == 0 {
        return None;
    }
    let release: u64 = held.iter().map(|held| held.releasable_bytes).sum();
    let chunks: u64 = held.iter().map(|held| held.pin_chunks).sum();
    let mut verdict = say(
        K::Fragmentation,
        bytes,
        format!(
            "{} are free between live chunks{}.",
            size(bytes),
            if 4 * release < bytes { ", in pieces too small to give back" } else { "" }
        ),
    );
    verdict.evidence.push(format!(
        "{} of it are whole pages that malloc_trim gives back, {} share their page with something live",
        size(release),
        size(bytes.saturating_sub(release))
    ));
    verdict.evidence.push(format!("{chunks} chunks stand between it and the tops"));
    for held in held.iter().take(2) {
        verdict.evidence.push(pins(held));
    }
    let trims = 4 * release >= bytes;
    verdict.remedies.extend(trims.then(|| remedy::trim(case)));
    let large = Some(case.mappable(&held)).filter(|bytes| *bytes >= LEAST);
    verdict.remedies.extend(large.map(remedy::mmap_threshold).or_else(|| remedy::arena_limit(case)));
    // Another allocator is the last thing to try, and not where trimming gives back most of it.
    verdict.remedies.extend((2 * release < bytes).then(remedy::allocator));
    verdict.resembles = Some(if 4 * release < bytes { "interleaved-pins-page" } else { "interleaved-pins" }.into());
    Some(verdict)
}

/// A stretch and what holds it, in a line.
fn pins(held: &Retained) -> String {
    let arena = if held.arena == 0 { "main arena".into() } else { format!("arena {}", held.arena) };
    let named: Vec<String> = held
        .pins
        .iter()
        .take(3)
        .map(|pin| {
            let kind = match pin.types.iter().max_by_key(|(_, n)| **n) {
                Some((name, _)) => format!(" {name}"),
                None if pin.kind == PinKind::Live => String::new(),
                None => format!(" {}", pin.kind.name()),
            };
            format!("{} ×{kind} {} B", pin.chunks, pin.chunk_bytes)
        })
        .collect();
    let rest: u64 = held.pin_chunks - held.pins.iter().take(3).map(|pin| pin.chunks).sum::<u64>().min(held.pin_chunks);
    let rest = if rest > 0 { format!(" and {rest} others") } else { String::new() };
    format!("{arena} at {:#x}: {} free, held by {}{rest}", held.start, size(held.free_resident_bytes), named.join(", "))
}

fn healthy(case: &Case) -> HeapVerdict {
    let heap = case.now.heap.unwrap_or_default();
    let mut verdict = say(
        K::Healthy,
        0,
        format!(
            "malloc holds little that the program does not: {} live of {} in memory.",
            size(heap.live_bytes),
            size(heap.resident_bytes)
        ),
    );
    verdict.evidence.push(format!(
        "free and in memory: {} of {} resident",
        size(heap.free_resident_bytes + heap.top_resident_bytes),
        size(case.rss)
    ));
    verdict
        .next
        .push(format!("if it grows all the same, compare two moments: `fragbench inspect --watch 60s {}`", case.pid));
    verdict
}

#[cfg(test)]
mod tests;
