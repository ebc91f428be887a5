//! What can be done about memory that malloc holds: which remedy, what it takes away, its price, and the line that
//! measures it. One place makes the sentences.

use std::collections::BTreeMap;

use fragbench_model::{HeapRemedy, HeapRemedyKind};

use super::{Case, LEAST};
use crate::human::size;
use crate::layout::THRESHOLD;

use HeapRemedyKind as R;

/// Arenas that are left by the remedy.
const ARENAS: u64 = 2;

fn remedy(kind: HeapRemedyKind, variable: Option<(&str, String)>, saves_bytes: Option<u64>) -> HeapRemedy {
    let environment: BTreeMap<String, String> =
        variable.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    HeapRemedy { kind, environment, saves_bytes }
}

fn tunable(kind: HeapRemedyKind, name: &str, value: u64, saves_bytes: Option<u64>) -> HeapRemedy {
    remedy(kind, Some(("GLIBC_TUNABLES", format!("glibc.malloc.{name}={value}"))), saves_bytes)
}

/// A fixed mmap threshold: blocks from 128 KiB on are mapped one by one and go when they are freed.
pub(super) fn mmap_threshold(saves_bytes: u64) -> HeapRemedy {
    tunable(R::MmapThreshold, "mmap_threshold", THRESHOLD, Some(saves_bytes))
}

/// A fixed trim threshold; `None` where it stands at its default.
pub(super) fn trim_threshold(case: &Case, tops: u64, arenas: u64) -> Option<HeapRemedy> {
    case.now.settings.trim_threshold_bytes.filter(|now| *now > THRESHOLD)?;
    let saves = tops.saturating_sub(arenas * THRESHOLD);
    Some(tunable(R::TrimThreshold, "trim_threshold", THRESHOLD, Some(saves)))
}

/// No caches of threads.
pub(super) fn tcache_count(saves_bytes: u64) -> HeapRemedy {
    tunable(R::TcacheCount, "tcache_count", 0, Some(saves_bytes))
}

/// No fast bins.
pub(super) fn fast_bins(saves_bytes: u64) -> HeapRemedy {
    tunable(R::FastBins, "mxfast", 0, Some(saves_bytes))
}

/// Another allocator: how much less it would hold no inspection tells.
pub(super) fn allocator() -> HeapRemedy {
    remedy(R::Allocator, None, None)
}

/// What `malloc_trim(0)` would give back now.
pub(super) fn trim(case: &Case) -> HeapRemedy {
    let release = case.now.trim.as_ref().map_or(0, |trim| trim.predicted_release_bytes);
    remedy(R::Trim, None, Some(release))
}

/// Fewer arenas, where free memory lies in many and a few of them would not hold as much: each keeps what its own
/// threads needed at their peak, and arenas that are shared keep what was needed at one time.
pub(super) fn arena_limit(case: &Case) -> Option<HeapRemedy> {
    // Arenas whose threads have ended were made by a burst: threads that come one after the other take over the arena of
    // the one before. A limit would have them share, and hold as much at their common peak.
    let used = case.now.arenas.iter().filter(|arena| arena.threads != Some(0));
    let mut free: Vec<u64> = used.map(|arena| arena.resident_free_bytes).collect();
    free.sort_unstable();
    let all: u64 = free.iter().sum();
    let most = free.last().copied().unwrap_or(0);
    let saves = all.saturating_sub(ARENAS * most);
    let spread = saves >= LEAST && 3 * saves >= all;
    spread.then(|| remedy(R::ArenaLimit, Some(("MALLOC_ARENA_MAX", ARENAS.to_string())), Some(saves)))
}

/// The sentence that goes with a remedy: what to do, what it takes away, its price, the line that measures it.
pub(super) fn sentence(case: &Case, remedy: &HeapRemedy) -> String {
    let saves = remedy.saves_bytes.unwrap_or(0);
    let set: Vec<String> = remedy.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let set = set.join(" ");
    let setting = remedy.environment.get("GLIBC_TUNABLES").cloned().unwrap_or_default();
    let start = |effect: &str, price: &str| {
        format!(
            "start it with {set} (systemd: Environment={set}): at most {} less{effect}; price: {price}; measure it: \
             `fragbench compare --allocator glibc --setting {setting} -- CMD…`",
            size(saves)
        )
    };
    match remedy.kind {
        R::Trim => {
            let how = match case.now.source.as_str() {
                "live" => format!("`fragbench trim {}` gives back {} now (malloc_trim(0))", case.pid, size(saves)),
                _ => format!("malloc_trim(0) would give back {}", size(saves)),
            };
            format!(
                "{how}; price: threads wait for an arena while it is trimmed, and what is needed again is faulted in"
            )
        }
        R::MmapThreshold => start(
            ", and the trim threshold stays at 128 KiB too",
            "a system call and page faults for every block of 128 KiB or more",
        ),
        R::TrimThreshold => start(
            ", and the mmap threshold stays at 128 KiB too",
            "a system call and page faults where tops shrink and grow, and for every block of 128 KiB or more",
        ),
        R::TcacheCount => start("", "small blocks take their arena's lock at every call"),
        R::FastBins => {
            start("", "small blocks are joined and split at every call that the thread's cache does not serve")
        }
        R::ArenaLimit => format!(
            "start it with {set} (systemd: Environment={set}): at most {} less, where threads peak one after the other; price: \
             threads wait for one another in malloc; measure it: `fragbench compare --allocator glibc --arena-max \
             default,{ARENAS} -- CMD…`, or let `fragbench tune -- CMD…` find the limit",
            size(saves)
        ),
        R::Allocator => {
            "an allocator that keeps sizes apart holds less here; measure it: `fragbench compare -- CMD…` or \
             `fragbench replay FILE`"
                .into()
        }
    }
}
