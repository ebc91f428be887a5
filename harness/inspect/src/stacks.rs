//! Stacks of threads among anonymous mappings. glibc puts a thread's control block at the high end of its stack, and its
//! first and third words point at itself; musl's block has such a first word. Where no mapping shows one (another
//! machine's layout, or memory that may not be read), a mapping behind a small guard whose high end is in memory is taken.
//!
//! Source: glibc sysdeps/x86_64/nptl/tls.h (`tcbhead_t`: `tcb`, `self`), nptl/allocatestack.c; musl src/internal/
//! pthread_impl.h.

use std::ops::Range;

use fragbench_proc::Mapping;

use crate::arena::is_plain;
use crate::pages::Pages;
use crate::survey::Survey;

/// How far below the end of a stack its control block is looked for: static thread-local storage and the block itself.
const REACH: u64 = 64 << 10;
/// Alignment of a control block (`TCB_ALIGNMENT`).
const STEP: u64 = 64;
/// Larger mappings without access are no guards.
const GUARD_MAX: u64 = 1 << 20;

/// Places of control blocks, for a capture.
pub(crate) fn control_blocks(pages: &mut Pages, mappings: &[Mapping], survey: &Survey) -> Vec<u64> {
    let in_heap = |at: u64| survey.segments.iter().any(|s| (s.start..s.end).contains(&at));
    let ranges = stacks(pages, mappings, &in_heap);
    let last = |range: Range<u64>| range.end.saturating_sub(REACH).max(range.start)..range.end;
    let places = ranges.into_iter().flat_map(|range| last(range).step_by(STEP as usize));
    places.collect::<Vec<u64>>().into_iter().filter(|at| pages.word(*at) == Some(*at)).collect()
}

/// The stacks of threads among `mappings`, those that are `taken` by something else left out.
pub(crate) fn stacks(pages: &mut Pages, mappings: &[Mapping], taken: &dyn Fn(u64) -> bool) -> Vec<Range<u64>> {
    let guarded = |i: usize| {
        i.checked_sub(1).and_then(|i| mappings.get(i)).is_some_and(|m| m.end == mappings[i].start && is_guard(m))
    };
    let candidates =
        || mappings.iter().enumerate().filter(|(_, m)| is_plain(m) && !taken(m.start)).map(|(i, m)| (m, guarded(i)));
    // All threads of a process have their blocks equally far from the end, but for those that brought their own stack.
    let mut offset = None;
    let mut found = Vec::new();
    for (mapping, guarded) in candidates() {
        let block = |pages: &mut Pages, at: u64| {
            let first = pages.word(at) == Some(at);
            first && (guarded || pages.word(at + 16) == Some(at))
        };
        let usual = offset.and_then(|offset| mapping.end.checked_sub(offset)).filter(|at| *at >= mapping.start);
        if usual.is_some_and(|at| block(pages, at)) {
            found.push(mapping.start..mapping.end);
            continue;
        }
        let low = mapping.end.saturating_sub(REACH).max(mapping.start);
        let places = (1..=(mapping.end - low) / STEP).map(|i| mapping.end - STEP * i);
        if let Some(at) = places.into_iter().find(|at| block(pages, *at)) {
            offset = Some(mapping.end - at);
            found.push(mapping.start..mapping.end);
        }
    }
    if found.is_empty() {
        let page = pages.page_bytes();
        let in_use = |m: &Mapping| {
            pages.target().residency(m.end - page..m.end).ok().flatten().is_some_and(|r| !r.present.is_empty())
        };
        found = candidates().filter(|(m, guarded)| *guarded && in_use(m)).map(|(m, _)| m.start..m.end).collect();
    }
    found
}

/// Whether a mapping is a small stretch without access.
pub(crate) fn is_guard(mapping: &Mapping) -> bool {
    !mapping.readable && !mapping.writable && mapping.private && mapping.end - mapping.start <= GUARD_MAX
}
