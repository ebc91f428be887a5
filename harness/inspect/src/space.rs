//! An address space by what its mappings are for. The heap is known from a survey, not by its look; without one, its
//! heaps of 64 MiB are told by shape.

use std::ops::Range;

use fragbench_model::{MappingClass, MappingKind};
use fragbench_proc::{Mapping, ProcError, Residency, Source, TargetKind};

use crate::layout::HEAP_MAX;
use crate::pages::Pages;
use crate::stacks::{is_guard, stacks};
use crate::survey::Survey;

/// Reservations larger than this are not looked into.
const BULK: u64 = 1 << 30;

/// Sorts every byte of the address space into a kind; kinds that do not occur are left out. `may_be_glibc` says whose the
/// memory of `brk` is where there is no survey.
///
/// # Errors
/// When the target cannot be asked for its pages.
pub(crate) fn classes(
    pages: &mut Pages,
    mappings: &[Mapping],
    survey: Option<&Survey>,
    may_be_glibc: bool,
) -> Result<Vec<MappingClass>, ProcError> {
    let claims = survey.map_or_else(|| by_shape(mappings), claims);
    // Other allocators take memory from brk as well: where glibc's malloc has none of it, it is theirs.
    let in_brk = |at: u64| mappings.iter().any(|m| m.source == Source::Heap && m.holds(at));
    let has_brk = survey.map_or(may_be_glibc, |s| s.segments.iter().any(|segment| in_brk(segment.start)));
    let stacks = stacks(pages, mappings, &|at| holder(&claims, at).is_some());
    let mut classes: Vec<MappingClass> = MappingKind::ALL
        .into_iter()
        .map(|kind| MappingClass {
            kind,
            count: 0,
            vm_bytes: 0,
            resident_bytes: Some(0),
            anonymous_bytes: Some(0),
            swapped_bytes: Some(0),
        })
        .collect();
    for (i, mapping) in mappings.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| mappings.get(i)).filter(|m| m.end == mapping.start);
        let after = mappings.get(i + 1).filter(|m| m.start == mapping.end);
        let own = if stacks.iter().any(|s| s.start == mapping.start) {
            MappingKind::ThreadStack
        } else {
            match kind(mapping, before, after) {
                MappingKind::MainArena if !has_brk => MappingKind::OtherAnonymous,
                kind => kind,
            }
        };
        for (range, kind) in cut(mapping, &claims, own) {
            let Some(class) = classes.iter_mut().find(|class| class.kind == kind) else { continue };
            class.count += 1;
            class.vm_bytes += range.end - range.start;
            // What the kernel maps by itself is nobody's memory. Of address space reserved in bulk nothing was ever opened,
            // and to read that page by page, as kernels before 6.7 have it, takes 2 GiB a TiB.
            let bulk = kind == MappingKind::Reserved && range.end - range.start > BULK;
            let known = pages.target().kind() != TargetKind::Core;
            let residency = if known && (bulk || kind == MappingKind::Kernel) {
                Some(Residency::default())
            } else {
                pages.target().residency(range)?
            };
            let sum = |runs: &[Range<u64>]| runs.iter().map(|r| r.end - r.start).sum::<u64>();
            match residency {
                Some(r) => {
                    let present = sum(&r.present);
                    raise(&mut class.resident_bytes, present);
                    raise(&mut class.anonymous_bytes, present.saturating_sub(r.file_bytes));
                    raise(&mut class.swapped_bytes, sum(&r.swapped));
                }
                None => {
                    (class.resident_bytes, class.anonymous_bytes, class.swapped_bytes) = (None, None, None);
                }
            }
        }
    }
    classes.retain(|class| class.count > 0);
    Ok(classes)
}

fn raise(sum: &mut Option<u64>, by: u64) {
    *sum = sum.map(|sum| sum + by);
}

type Claim = (Range<u64>, MappingKind);

fn holder(claims: &[Claim], address: u64) -> Option<MappingKind> {
    let place = claims.partition_point(|(range, _)| range.end <= address);
    claims.get(place).filter(|(range, _)| range.contains(&address)).map(|(_, kind)| *kind)
}

/// What a survey knows to be the heap's, ascending.
fn claims(survey: &Survey) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    for segment in &survey.segments {
        if survey.arenas[segment.arena].main {
            claims.push((segment.start..segment.end, MappingKind::MainArena));
        } else {
            claims.push((segment.start..segment.end, MappingKind::ArenaHeap));
            let reserved = (segment.start & !(HEAP_MAX - 1)) + HEAP_MAX;
            if segment.end < reserved {
                claims.push((segment.end..reserved, MappingKind::ArenaReserve));
            }
        }
    }
    claims.extend(survey.mmapped.iter().map(|c| (c.start..c.start + c.bytes, MappingKind::MmappedChunk)));
    claims.sort_unstable_by_key(|(range, _)| range.start);
    claims
}

/// Heaps of 64 MiB as they look from outside: aligned, open from their start on, the rest without access.
fn by_shape(mappings: &[Mapping]) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    for pair in mappings.windows(2) {
        let [open, rest] = pair else { continue };
        let heap = open.start.is_multiple_of(HEAP_MAX) && open.end == rest.start && rest.end == open.start + HEAP_MAX;
        let plain = |m: &Mapping| m.source == Source::Anonymous && m.private;
        if heap && plain(open) && plain(rest) && open.writable && !rest.writable && !rest.readable {
            claims.push((open.start..open.end, MappingKind::ArenaHeap));
            claims.push((rest.start..rest.end, MappingKind::ArenaReserve));
        }
    }
    claims
}

/// A mapping in the pieces that claims cut it into.
fn cut(mapping: &Mapping, claims: &[Claim], own: MappingKind) -> Vec<Claim> {
    // All of `brk` is the main arena's if any of it is, whoever took a part of it.
    if mapping.source == Source::Heap {
        return vec![(mapping.start..mapping.end, own)];
    }
    let mut pieces = Vec::new();
    let mut at = mapping.start;
    let first = claims.partition_point(|(range, _)| range.end <= at);
    for (range, kind) in claims[first..].iter().take_while(|(range, _)| range.start < mapping.end) {
        if range.start > at {
            pieces.push((at..range.start, own));
        }
        let end = range.end.min(mapping.end);
        pieces.push((range.start.max(at)..end, *kind));
        at = end;
    }
    if at < mapping.end {
        pieces.push((at..mapping.end, own));
    }
    pieces
}

/// What a mapping is for by itself and its neighbours.
fn kind(mapping: &Mapping, before: Option<&Mapping>, after: Option<&Mapping>) -> MappingKind {
    let accessible = mapping.readable || mapping.writable;
    match &mapping.source {
        Source::Heap => MappingKind::MainArena,
        Source::Stack => MappingKind::MainStack,
        Source::File(path) => {
            let path = path.to_string_lossy();
            let memory = ["/dev/shm/", "/memfd:", "/SYSV", "/dev/zero"].iter().any(|start| path.starts_with(start));
            if memory { MappingKind::SharedMemory } else { MappingKind::File }
        }
        Source::Other if mapping.private => MappingKind::Kernel,
        Source::Other => MappingKind::SharedMemory,
        Source::Anonymous if !mapping.private => MappingKind::SharedMemory,
        Source::Anonymous if !accessible => {
            if is_guard(mapping) && after.is_some_and(|m| m.writable && m.source == Source::Anonymous) {
                MappingKind::Guard
            } else {
                MappingKind::Reserved
            }
        }
        Source::Anonymous => {
            let follows = before.is_some_and(|m| m.writable && m.private && matches!(m.source, Source::File(_)));
            if follows { MappingKind::StaticData } else { MappingKind::OtherAnonymous }
        }
    }
}
