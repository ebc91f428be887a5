//! The survey: everything that was read of a process's heap, from which all else is computed.

use std::path::PathBuf;

use fragbench_proc::{Mapping, ProcError, Source, Target, TargetKind};
use serde::{Deserialize, Serialize};

use crate::arena::{Arena, Extent, Par, heap_extents, is_plain, main_extents};
use crate::chunk::{Chunk, Kind};
use crate::find::{Found, Method, find};
use crate::lists::{Index, Linking, Tcache, mark_fastbins, mark_tcaches, mark_unsorted};
use crate::mmapped::{self, Mmapped};
use crate::pages::Pages;
use crate::runs::Runs;
use crate::walk::{Walked, walk};

/// An arena is read at most so often when it changes meanwhile ...
const TRIES: usize = 3;
/// ... unless no more than this part of it was not understood: a heap at work is never still.
const LOST: u64 = 2000;

/// Why there is no survey.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The target cannot be read.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// No arena was found.
    #[error(
        "no glibc heap found: neither a libc, the program nor any memory looks like glibc's malloc; the process may use \
         another allocator, another libc, or be no 64-bit program"
    )]
    NoHeap,
}

/// Where malloc was found and how it is laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libc {
    /// File that holds malloc.
    pub object: Option<PathBuf>,
    /// How `main_arena` was found.
    pub method: Method,
    /// Releases whose arenas are laid out like this.
    pub arena_layout: String,
    /// Releases whose `mp_` is laid out like this; `None` when it was not found.
    pub par_layout: Option<String>,
    /// Address of `main_arena`.
    pub main_arena: u64,
    /// Address of `mp_`.
    pub par: Option<u64>,
    /// How links of tcaches and fast bins are stored; `None` when none was seen.
    pub linking: Option<Linking>,
    /// Whether `malloc_trim` consolidates fast bins (there are none since 2.43).
    pub fast_bins: bool,
}

/// Settings and totals of `mp_`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `mmap_threshold`, bytes.
    pub mmap_threshold: Option<u64>,
    /// `trim_threshold`, bytes.
    pub trim_threshold: Option<u64>,
    /// `tcache_count`.
    pub tcache_count: Option<u64>,
    /// `thp_pagesize`, bytes; 0 when malloc takes no account of huge pages.
    pub thp_page_bytes: Option<u64>,
    /// `n_mmaps`.
    pub mmapped_count: Option<u64>,
    /// `mmapped_mem`, bytes.
    pub mmapped_bytes: Option<u64>,
    /// Whether the thresholds still follow what is freed (`no_dyn_threshold` is not set).
    pub thresholds_move: Option<bool>,
}

/// An arena.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaSurvey {
    /// Its address.
    pub address: u64,
    /// Whether it is `main_arena`.
    pub main: bool,
    /// Whether its lock was held.
    pub locked: bool,
    /// Whether its memory is one piece of `brk` as far as malloc knows.
    pub contiguous: bool,
    /// Threads attached; `None` before 2.23.
    pub threads: Option<u64>,
    /// `system_mem`, bytes.
    pub system_bytes: u64,
    /// Address of its top.
    pub top: u64,
}

/// A stretch of an arena's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Index of its arena.
    pub arena: usize,
    /// First address, headers of malloc's own included.
    pub start: u64,
    /// Address past the last.
    pub end: u64,
    /// Its chunks, ascending, from `start` to `end` without gaps.
    pub chunks: Vec<Chunk>,
    /// What is in memory; `None` when the target does not tell.
    pub present: Option<Runs>,
    /// What is in swap.
    pub swapped: Runs,
    /// Places where the chain of chunks broke.
    pub breaks: u64,
}

impl Segment {
    /// Address, size and kind of every chunk.
    pub fn chunks(&self) -> impl DoubleEndedIterator<Item = (u64, u64, Kind)> + '_ {
        self.chunks.iter().enumerate().map(|(i, chunk)| {
            let end = self.chunks.get(i + 1).map_or(self.end, |c| c.address());
            (chunk.address(), end - chunk.address(), chunk.kind())
        })
    }

    /// What is in memory, or all of it when that is not known.
    pub fn resident(&self) -> Runs {
        self.present.clone().unwrap_or_else(|| Runs::new(std::iter::once(self.start..self.end)))
    }
}

/// A heap as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Where malloc was found.
    pub libc: Libc,
    /// Settings and totals of malloc's own.
    pub settings: Settings,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// End of the memory of `brk`.
    pub brk_end: Option<u64>,
    /// Arenas, `main_arena` first.
    pub arenas: Vec<ArenaSurvey>,
    /// Their memory, by arena and address.
    pub segments: Vec<Segment>,
    /// Threads' caches that are not empty.
    pub tcaches: Vec<Tcache>,
    /// Chunks mapped one by one.
    pub mmapped: Vec<Mmapped>,
}

/// Reads the heap of a process. The target is only looked at: it is not stopped, and no page is brought into it. While
/// it works, figures are of a moving thing; at rest they are exact.
///
/// # Errors
/// [`InspectError::NoHeap`] when there is no glibc heap; [`InspectError::Proc`] when the target may not be read, or has
/// ended or become another program meanwhile.
pub fn survey(target: &dyn Target) -> Result<Survey, InspectError> {
    let mut pages = Pages::new(target);
    let mut mappings = target.mappings()?;
    let mut found = find(&mut pages, &mappings);
    // An arena that is being made or grown fails its proof: of a process at work nothing is concluded from one look.
    for _ in 1..TRIES {
        if found.is_some() || target.kind() != TargetKind::Live {
            break;
        }
        pages.forget_all();
        mappings = target.mappings()?;
        found = find(&mut pages, &mappings);
    }
    if let Some(error) = pages.failure() {
        return Err(error.into());
    }
    let found = found.ok_or(InspectError::NoHeap)?;
    if target.kind() == TargetKind::Core {
        name_brk(&mut pages, &mut mappings, &found);
    }
    let survey = read(&mut pages, &mappings, &found);
    if let Some(error) = pages.failure() {
        return Err(error.into());
    }
    target.check()?;
    survey
}

/// A core does not say which mapping is `brk`'s: it is the one that malloc has its first memory from.
fn name_brk(pages: &mut Pages, mappings: &mut [Mapping], found: &Found) {
    let Some(base) = Par::read(pages, found).sbrk_base else { return };
    if let Some(mapping) = mappings.iter_mut().find(|m| m.holds(base) && is_plain(m)) {
        mapping.source = Source::Heap;
    }
}

fn read(pages: &mut Pages, mappings: &[Mapping], found: &Found) -> Result<Survey, InspectError> {
    let par = Par::read(pages, found);
    let mut arenas = Vec::new();
    let mut segments = Vec::new();
    let (mut links, mut candidates) = (Vec::new(), Vec::new());
    for (i, address) in found.arenas.iter().enumerate() {
        let Some((arena, parts)) = read_arena(pages, mappings, found, &par, *address, i == 0) else { continue };
        for (extent, mut walked) in parts {
            let own = std::mem::take(&mut walked.links);
            let tcaches = std::mem::take(&mut walked.tcaches);
            if let Some(segment) = segment(pages.target(), arenas.len(), &extent, walked)? {
                segments.push(segment);
                links.push(own);
                candidates.extend(tcaches);
            }
        }
        arenas.push(arena);
    }
    let linked = segments.iter_mut().zip(links);
    let mut index = Index::new(linked.map(|(s, links): (&mut Segment, _)| (s.start, s.end, &mut s.chunks, links)));
    let (tcaches, mut linking) = mark_tcaches(pages, &mut index, &candidates, found.layout, &par);
    for arena in &arenas {
        linking = mark_fastbins(&mut index, arena, linking);
        mark_unsorted(pages, &mut index, found.layout, arena.address);
    }
    let mut taken: Vec<(u64, u64)> = segments.iter().map(|s| (s.start, s.end)).collect();
    taken.sort_unstable();
    let new_layout = found.layout.fastbins.is_none();
    let mut mmapped = mmapped::find(pages, mappings, &taken, &par, new_layout)?;
    for chunk in &mut mmapped {
        let residency = pages.target().residency(chunk.start..chunk.start + chunk.bytes)?;
        chunk.present_bytes = residency.map(|r| r.present.iter().map(|p| p.end - p.start).sum());
    }
    let brk = mappings.iter().filter(|m| m.source == Source::Heap);
    Ok(Survey {
        libc: Libc {
            object: found.object.clone(),
            method: found.method,
            arena_layout: found.layout.releases.to_owned(),
            par_layout: found.par.map(|(_, layout)| layout.releases.to_owned()),
            main_arena: found.arenas[0],
            par: found.par.map(|(at, _)| at),
            linking,
            fast_bins: found.layout.fastbins.is_some(),
        },
        settings: Settings {
            mmap_threshold: par.mmap_threshold,
            trim_threshold: par.trim_threshold,
            tcache_count: par.tcache_count,
            thp_page_bytes: found.par.map(|_| par.thp_page.unwrap_or(0)),
            mmapped_count: par.mmaps,
            mmapped_bytes: par.mmapped,
            thresholds_move: par.no_dyn_threshold.map(|fixed| !fixed),
        },
        page_bytes: pages.page_bytes(),
        brk_end: brk.map(|m| m.end).max(),
        arenas: arenas
            .into_iter()
            .map(|arena| ArenaSurvey {
                address: arena.address,
                main: arena.main,
                locked: arena.locked,
                contiguous: arena.contiguous,
                threads: arena.attached,
                system_bytes: arena.system,
                top: arena.top,
            })
            .collect(),
        segments,
        tcaches,
        mmapped,
    })
}

/// The stretches of an arena and what was found in them.
type Parts = Vec<(Extent, Walked)>;

/// Reads an arena and walks its memory. When it changed meanwhile and something was not understood it is read again, with
/// the mappings as they are then, since a heap that grew is longer than its mapping was; the best reading is kept.
fn read_arena(
    pages: &mut Pages,
    mappings: &[Mapping],
    found: &Found,
    par: &Par,
    address: u64,
    main: bool,
) -> Option<(Arena, Parts)> {
    let mut best: Option<(u64, Arena, Parts)> = None;
    let mut newer = None;
    for _ in 0..TRIES {
        let mappings = newer.as_deref().unwrap_or(mappings);
        let Some(arena) = Arena::read(pages, found.layout, address, main) else { break };
        let extents = if main {
            main_extents(pages, mappings, &arena, par)
        } else {
            heap_extents(pages, mappings, found.layout, &arena, par)
        };
        let parts: Parts = extents.into_iter().map(|extent| (extent, walk(pages, &extent.stretch))).collect();
        let covered: u64 = parts.iter().map(|(extent, _)| extent.stretch.end - extent.start).sum();
        let lost = parts.iter().map(|(_, walked)| walked.lost).sum::<u64>() + arena.system.saturating_sub(covered);
        let arena_bytes = arena.system;
        let still = Arena::read(pages, found.layout, address, main).as_ref() == Some(&arena);
        if best.as_ref().is_none_or(|(least, ..)| lost < *least) {
            best = Some((lost, arena, parts));
        }
        if lost == 0 || lost * LOST < arena_bytes || still && newer.is_some() {
            break;
        }
        pages.forget_all();
        newer = pages.target().mappings().ok();
    }
    best.map(|(_, arena, parts)| (arena, parts))
}

/// A walked stretch with its residency. Where it is not known where the heap begins or ends, what was not understood at
/// either end is not the heap's.
fn segment(
    target: &dyn Target,
    arena: usize,
    extent: &Extent,
    walked: Walked,
) -> Result<Option<Segment>, InspectError> {
    let stretch = &extent.stretch;
    let mut chunks = walked.chunks;
    let (mut start, mut end) = (extent.start, stretch.end);
    let outside = |chunk: &Chunk| matches!(chunk.kind(), Kind::Unknown | Kind::Foreign);
    if !stretch.known && chunks.first().is_some_and(outside) {
        start = chunks.get(1).map_or(end, |c| c.address());
        chunks.remove(0);
    }
    if stretch.main && stretch.top.is_none() && chunks.last().is_some_and(outside) {
        end = chunks.pop().map_or(end, |c| c.address());
    }
    if start < stretch.first && stretch.known {
        chunks.insert(0, Chunk::new(start, Kind::Own));
    }
    if chunks.is_empty() || start >= end {
        return Ok(None);
    }
    let residency = target.residency(start..end)?;
    let clip = |r: &std::ops::Range<u64>| r.start.max(start)..r.end.min(end);
    let swapped = residency.as_ref().map_or_else(Runs::default, |r| Runs::new(r.swapped.iter().map(clip)));
    Ok(Some(Segment {
        arena,
        start,
        end,
        chunks,
        present: residency.map(|r| Runs::new(r.present.iter().map(clip))),
        swapped,
        breaks: walked.breaks,
    }))
}
