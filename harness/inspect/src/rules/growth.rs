//! Two looks at one process: whether live bytes rise. They tell retention from growth; a leak from a program that grows
//! they cannot.

use fragbench_model::{HeapGrowth, HeapVerdict};

use super::{Case, K, LEAST, say};
use crate::human::size;

/// Growth between two inspections that is no noise: this share of what is live.
const GROWTH: f64 = 0.02;

/// Both looks; `None` where there is one only, or one did not see the heap.
pub(super) fn looks(case: &Case) -> Option<HeapGrowth> {
    let (before, now) = (case.before?, case.now);
    let live_bytes = [before.heap?.live_bytes, now.heap?.live_bytes];
    let rss_bytes = before.rss_bytes.zip(now.rss_bytes).map(|(old, new)| [old, new]);
    let seconds = now.taken_unix_s.zip(before.taken_unix_s).and_then(|(new, old)| new.checked_sub(old));
    let seconds = seconds.filter(|seconds| *seconds > 0);
    let live = live_bytes[1].saturating_sub(live_bytes[0]);
    let resident = rss_bytes.map_or(0, |[old, new]| new.saturating_sub(old));
    let grows = live >= LEAST.min(1 << 20) && live as f64 >= GROWTH * live_bytes[0] as f64 && 2 * live >= resident;
    Some(HeapGrowth { seconds, live_bytes, rss_bytes, grows })
}

/// Both looks in a line.
pub(super) fn line(growth: &HeapGrowth) -> String {
    let [old, new] = growth.live_bytes.map(size);
    let rss =
        growth.rss_bytes.map_or_else(String::new, |[old, new]| format!(", resident {} → {}", size(old), size(new)));
    format!("live {old} → {new}{rss}{}", growth.seconds.map_or_else(String::new, |n| format!(" in {n} s")))
}

/// That there was none, in a sentence.
pub(super) fn steady(growth: &HeapGrowth) -> String {
    let time = growth.seconds.map_or_else(|| "between the two looks".into(), |n| format!("in {n} s"));
    format!("No growth {time}: no sign of a leak.")
}

/// Live bytes that rise from one inspection to the next.
pub(super) fn growth(case: &Case) -> Option<HeapVerdict> {
    let (before, now) = (case.before?, case.now);
    let looks = looks(case).filter(|looks| looks.grows)?;
    let live = looks.live_bytes[1] - looks.live_bytes[0];
    let mut verdict = say(
        K::LeakOrGrowth,
        live,
        format!("Live memory has risen by {}: a leak, or a program that grows.", size(live)),
    );
    verdict.evidence.push(line(&looks));
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
