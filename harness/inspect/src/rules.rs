//! The verdict: what is the matter with a process's memory, by small rules, each of which looks at one way memory is
//! lost. A rule gives the bytes it accounts for; the weightiest one that matters is the verdict, the others stand below it.
//!
//! Free memory that is resident is divided among the rules without overlap: chunks in fast bins, chunks in tcaches, tops,
//! and what lies between chunks, which is attributed stretch by stretch to what holds it ([`crate::retained`]).
//!
//! One inspection tells retention and fragmentation from a healthy heap. Whether live bytes are a leak it cannot tell; two
//! can, and even they cannot tell a leak from a program that grows.

use fragbench_model::{HeapVerdict, HeapVerdictKind, Inspection, Retained};

use crate::human::size;
use crate::layout::THRESHOLD;
use crate::survey::InspectError;

use HeapVerdictKind as K;

mod outside;

use outside::{address_space, not_the_heap};

/// What a rule accounts for matters from this share of resident memory on ...
const SHARE: f64 = 0.2;
/// ... and from this many bytes on.
const LEAST: u64 = 4 << 20;
/// Less of the heap understood than this is too little.
const COVERAGE: f64 = 0.9;
/// A chunk that holds as much as this by itself is a pin; chunks that hold less are fragmentation.
const PIN_HOLDS: u64 = 1 << 20;
/// Growth between two inspections that is no noise: this share of what is live.
const GROWTH: f64 = 0.02;

type Rule = fn(&Case) -> Option<HeapVerdict>;

/// The rules that look at one inspection.
const RULES: [Rule; 9] =
    [fast_bins, tcaches, thread_tops, main_top, mmap_ratchet, pinned, fragmentation, not_the_heap, address_space];

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
    first
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

    fn kept(&self, reason: &str) -> u64 {
        self.now.trim.as_ref().and_then(|trim| trim.kept.get(reason)).copied().unwrap_or(0)
    }

    fn fast(&self) -> u64 {
        // Chunks in fast bins were written to by their program: what of them is not in memory has been swapped.
        self.now.heap.map_or(0, |heap| heap.fast_bytes.min(heap.free_resident_bytes))
    }

    fn holder(&self, held: &Retained) -> Holder {
        let live = held.pins.iter().any(|pin| pin.kind == "live");
        let cached = held.pins.iter().any(|pin| matches!(pin.kind.as_str(), "tcache" | "own"));
        let each = held.held_bytes / held.pin_chunks.max(1);
        match () {
            () if !live && cached => Holder::Tcache,
            () if self.ratchet && held.mappable_chunks >= 4 && 2 * held.mappable_bytes >= held.free_resident_bytes => {
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

    fn malloc_trim(&self) -> String {
        let release = self.now.trim.as_ref().map_or(0, |trim| trim.predicted_release_bytes);
        match self.now.source.as_str() {
            "live" => format!("`fragbench trim {}` gives back {} now (malloc_trim(0))", self.pid, size(release)),
            _ => format!("malloc_trim(0) would give back {}", size(release)),
        }
    }

    fn threads_of(&self, held: &[&Retained]) -> Option<u64> {
        let arenas: std::collections::BTreeSet<usize> = held.iter().map(|held| held.arena).collect();
        arenas.into_iter().map(|i| self.now.arenas.get(i)?.threads).sum()
    }
}

fn tunables(settings: &str) -> String {
    format!("start it with GLIBC_TUNABLES={settings} (systemd: Environment=GLIBC_TUNABLES={settings})")
}

fn say(kind: HeapVerdictKind, bytes: u64, summary: String) -> HeapVerdict {
    HeapVerdict { kind, summary, bytes, evidence: Vec::new(), next: Vec::new(), resembles: None, also: Vec::new() }
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

/// Live bytes that rise from one inspection to the next.
fn growth(case: &Case) -> Option<HeapVerdict> {
    let (before, now) = (case.before?, case.now);
    let (old, new) = (before.heap?, now.heap?);
    let live = new.live_bytes.checked_sub(old.live_bytes)?;
    let resident = now.rss_bytes?.saturating_sub(before.rss_bytes?);
    if live < LEAST.min(1 << 20) || (live as f64) < GROWTH * old.live_bytes as f64 || 2 * live < resident {
        return None;
    }
    let mut verdict = say(
        K::LeakOrGrowth,
        live,
        format!("Live memory has risen by {}: a leak, or a program that grows.", size(live)),
    );
    verdict.evidence.push(format!(
        "live {} → {}, resident {} → {}",
        size(old.live_bytes),
        size(new.live_bytes),
        size(before.rss_bytes?),
        size(now.rss_bytes?)
    ));
    let mut classes: Vec<(u64, u64, u64, u64)> = now
        .sizes
        .iter()
        .filter_map(|class| {
            let old = before.sizes.iter().find(|old| old.to_bytes == class.to_bytes).copied().unwrap_or_default();
            let bytes = class.live_bytes.checked_sub(old.live_bytes)?;
            Some((bytes, class.live_count.saturating_sub(old.live_count), class.from_bytes, class.to_bytes))
        })
        .collect();
    classes.sort_unstable_by(|a, b| b.cmp(a));
    for (bytes, count, from, to) in classes.into_iter().take(4).filter(|class| class.0 * 20 >= live) {
        let range = if from == to { format!("{to}") } else { format!("{from} to {to}") };
        verdict.evidence.push(format!("chunks of {range} bytes: {count} more, {}", size(bytes)));
    }
    verdict.next = vec![
        "look again under the same load: what has warmed up stays, what leaks goes on".into(),
        "`fragbench record -o FILE -- CMD…` shows which blocks are never freed (`fragbench trace leaks FILE`)".into(),
    ];
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
    let tops = case.kept("thread_top");
    let in_threads = 2 * tops > fast;
    verdict.evidence.push(format!("fast bins {}, of {} free in all", size(heap.fast_bytes), size(heap.free_bytes)));
    if in_threads {
        verdict.evidence.push(format!(
            "they border on tops of threads' arenas: malloc_trim would move {} there and not give it back",
            size(tops)
        ));
        verdict.resembles = Some("fastbin-hoard-threads".into());
    } else {
        verdict.next.push(case.malloc_trim());
        verdict.resembles = Some("fastbin-hoard".into());
    }
    verdict.next.push(tunables("glibc.malloc.mxfast=0"));
    Some(verdict)
}

fn tcaches(case: &Case) -> Option<HeapVerdict> {
    let cached = case.kept("tcache");
    let held = case.held_by(Holder::Tcache);
    let behind: u64 = held.iter().map(|held| held.free_resident_bytes).sum();
    if cached + behind == 0 {
        return None;
    }
    let own = held.iter().any(|held| held.pins.iter().all(|pin| pin.kind == "own"));
    let heaps = held.iter().filter(|held| held.kind == "heap").map(|held| held.free_resident_bytes).sum::<u64>();
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
        verdict.next.push(case.malloc_trim());
    }
    verdict.next.push(tunables("glibc.malloc.tcache_count=0"));
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
        format!("{} are retained in the tops of {arenas} threads' arenas; malloc_trim will not help.", size(tops)),
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
    verdict.next.push(tunables("glibc.malloc.trim_threshold=131072"));
    verdict.next.push("fewer arenas keep fewer tops: MALLOC_ARENA_MAX=2, or what `fragbench tune` finds".into());
    verdict.resembles = Some("ratcheted-top-threads".into());
    Some(verdict)
}

/// Resident bytes of the main arena's top.
fn main_top_bytes(case: &Case) -> u64 {
    let kept = case.now.trim.as_ref().map_or(0, |trim| trim.main_top_bytes) + case.kept("main_top");
    case.now.arenas.first().map_or(0, |arena| arena.top_bytes.min(kept))
}

fn main_top(case: &Case) -> Option<HeapVerdict> {
    let top = main_top_bytes(case);
    let trim = case.now.settings.trim_threshold_bytes;
    let mut verdict = say(K::MainTopRetention, top, format!("{} are retained in the main arena's top.", size(top)));
    if let Some(trim) = trim {
        verdict.evidence.push(format!("trim_threshold is {}: free() gives a top back only above it", size(trim)));
    }
    verdict.next.push(case.malloc_trim());
    verdict.next.push(tunables("glibc.malloc.trim_threshold=131072"));
    verdict.resembles = case.ratchet.then(|| "mmap-ratchet".into());
    Some(verdict)
}

fn mmap_ratchet(case: &Case) -> Option<HeapVerdict> {
    let held = case.held_by(Holder::Ratchet);
    let bytes: u64 = held.iter().map(|held| held.free_resident_bytes).sum();
    let chunks: u64 = held.iter().map(|held| held.mappable_chunks).sum();
    let threshold = case.now.settings.mmap_threshold_bytes.filter(|_| bytes > 0)?;
    let mut verdict = say(
        K::MmapRatchet,
        bytes,
        format!(
            "{} are retained where large blocks were: the mmap threshold has risen to {}.",
            size(bytes),
            size(threshold)
        ),
    );
    verdict.evidence.push(format!(
        "{chunks} free chunks of 128 KiB to {}: blocks of that size had mappings of their own before a freed one raised \
         the threshold",
        size(threshold)
    ));
    for held in held.iter().take(3) {
        verdict.evidence.push(pins(held));
    }
    verdict.next.push(case.malloc_trim());
    verdict.next.push(tunables("glibc.malloc.mmap_threshold=131072"));
    verdict.resembles = Some("mmap-ratchet".into());
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
    verdict.next.push(case.malloc_trim());
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
        verdict.next.push("fewer arenas share their peaks: MALLOC_ARENA_MAX=2, or what `fragbench tune` finds".into());
    }
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
    if 4 * release >= bytes {
        verdict.next.push(case.malloc_trim());
    }
    verdict.next.push(
        "an allocator that keeps sizes apart holds less here: `fragbench compare -- CMD…` or `fragbench replay FILE` shows \
         how much"
            .into(),
    );
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
                None if pin.kind == "live" => String::new(),
                None => format!(" {}", pin.kind),
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
        .push(format!("if it grows all the same, compare two moments: `fragbench inspect --watch 60 {}`", case.pid));
    verdict
}

#[cfg(test)]
mod tests;
