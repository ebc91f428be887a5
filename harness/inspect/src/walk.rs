//! The linear walk through a stretch of heap, chunk by chunk. Each header is checked against what malloc writes: size,
//! arena bit, and for a free chunk the copy of its size at its end. Where the chain breaks the page is read again;
//! if that does not help, the walk goes on at the next place where eight headers chain, and what lies between is
//! unknown, never guessed. It always ends: every step moves forward.
//!
//! Source: glibc malloc/malloc.c, "malloc_chunk details"; sysmalloc for fenceposts.

use crate::chunk::{Chunk, Kind};
use crate::layout::{
    ALIGN, CHUNK_FD, FAST_MAX, FENCEPOST, FLAGS, IS_MMAPPED, MIN_CHUNK, NON_MAIN, PREV_IN_USE, TCACHES,
};
use crate::pages::Pages;

/// Headers that must chain where a walk starts again.
const CHAIN: usize = 8;

/// What is walked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    /// First chunk, or first place to look for one.
    pub(crate) first: u64,
    /// Where the heap ends.
    pub(crate) end: u64,
    /// The arena's top, if it is in here: it reaches to `end`.
    pub(crate) top: Option<u64>,
    /// Whether it is the main arena's.
    pub(crate) main: bool,
    /// Whether `first` is known to be a chunk. Otherwise the walk begins at the first page that looks like one.
    pub(crate) known: bool,
    /// Fast bins that hold chunks, a bit each.
    pub(crate) fast: u16,
    /// Where the arena keeps the address of its top: read again where the chain breaks, since a top that has moved down
    /// meanwhile looks like a chunk too large.
    pub(crate) top_pointer: u64,
}

impl Stretch {
    /// Whether a fast bin holds chunks of that size.
    fn listed(&self, size: u64) -> bool {
        size <= FAST_MAX && self.fast >> ((size - MIN_CHUNK) / ALIGN) & 1 == 1
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Ascending, without gaps, from `first` to `end`.
    pub(crate) chunks: Vec<Chunk>,
    /// Address and first word of every chunk that a list may lead through, ascending: the free ones, and those of a size
    /// that is in a fast bin.
    pub(crate) links: Vec<(u64, u64)>,
    /// Chunks of the size of a tcache structure.
    pub(crate) tcaches: Vec<u64>,
    /// Places where the chain broke.
    pub(crate) breaks: u64,
    /// Bytes not understood.
    pub(crate) lost: u64,
}

/// Walks a stretch.
pub(crate) fn walk(pages: &mut Pages, stretch: &Stretch) -> Walked {
    let mut walker = Walker { pages, s: *stretch, out: Walked::default() };
    let mut at = stretch.first;
    if !stretch.known {
        at = walker.gap(at, at, Kind::Unknown, walker.pages.page_bytes());
    }
    while at < stretch.end {
        at = walker.plain(at);
        at = walker.step(at);
    }
    walker.out
}

/// Whether a chunk of that size can hold a tcache structure.
#[inline]
fn holds_tcache(size: u64) -> bool {
    // Each release's is larger than the one before; few chunks lie between the first and the last.
    (TCACHES[TCACHES.len() - 1].chunk..=TCACHES[0].chunk + ALIGN).contains(&size)
        && TCACHES.iter().any(|t| t.fits(size))
}

#[inline]
fn word(page: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?))
}

struct Walker<'p, 't> {
    pages: &'p mut Pages<'t>,
    s: Stretch,
    out: Walked,
}

/// Why a chunk cannot be what its header says.
struct Broken;

impl Walker<'_, '_> {
    /// Books live chunks from `at` on as long as nothing is special about them and they end within the page, and gives the
    /// address of the first that is not so. It accepts only what [`Walker::step`] would have booked the same way; of heaps
    /// with small chunks it sees nearly all of them.
    fn plain(&mut self, mut at: u64) -> u64 {
        let Some((start, page)) = self.pages.cached(at) else { return at };
        let limit = self.s.top.filter(|top| *top > at).unwrap_or(self.s.end).saturating_sub(4 * FENCEPOST);
        let arena = if self.s.main { 0 } else { NON_MAIN };
        while at < limit {
            let here = (at - start) as usize;
            let Some(head) = word(page, here + 8) else { break };
            let size = head & !FLAGS;
            let next = at.saturating_add(size);
            if head & (IS_MMAPPED | NON_MAIN) != arena
                || size < MIN_CHUNK
                || !size.is_multiple_of(ALIGN)
                || next > limit
            {
                break;
            }
            let Some(after) = word(page, (next - start) as usize + 8) else { break };
            if after & PREV_IN_USE == 0 || self.s.listed(size) || holds_tcache(size) {
                break;
            }
            self.out.chunks.push(Chunk::new(at, Kind::Live));
            at = next;
        }
        at
    }

    /// Books the chunk at `at` and gives the address of the next.
    fn step(&mut self, at: u64) -> u64 {
        if Some(at) == self.s.top {
            self.push(at, Kind::Top);
            return self.s.end;
        }
        let head = self.pages.word(at + 8);
        // Only the least sizes can be a fencepost's.
        if head.is_none_or(|head| head & !FLAGS <= MIN_CHUNK)
            && let Some(next) = self.fencepost(at)
        {
            return next;
        }
        let read = head.ok_or(Broken).and_then(|head| self.chunk_of(at, head)).or_else(|Broken| {
            self.out.breaks += 1;
            self.pages.forget(at);
            if let Some(next) = self.pages.word(at + 8).and_then(|size| at.checked_add(size & !FLAGS)) {
                self.pages.forget(next);
            }
            self.chunk(at)
        });
        if read.is_err() && self.top_moved(at) {
            self.push(at, Kind::Top);
            return self.s.end;
        }
        let Ok((next, kind)) = read else {
            return self.gap(at, at + ALIGN, Kind::Unknown, ALIGN);
        };
        self.push(at, kind);
        let size = next - at;
        if kind != Kind::Live || self.s.listed(size) {
            let first = self.pages.word(at + CHUNK_FD).unwrap_or(0);
            self.out.links.push((at, first));
        } else if holds_tcache(size) {
            self.out.tcaches.push(at);
        }
        next
    }

    /// Whether the arena's top is at `at` by now; the arena's own word is read again for it.
    #[cold]
    fn top_moved(&mut self, at: u64) -> bool {
        if self.s.top.is_none() {
            return false;
        }
        self.pages.forget(self.s.top_pointer);
        match self.pages.word(self.s.top_pointer) {
            Some(top) if (self.s.first..self.s.end).contains(&top) && top >= at => {
                self.s.top = Some(top);
                top == at
            }
            _ => false,
        }
    }

    /// The end of the chunk at `at`, and its kind, by its header and the one behind it.
    #[inline]
    fn chunk(&mut self, at: u64) -> Result<(u64, Kind), Broken> {
        let head = self.pages.word(at + 8).ok_or(Broken)?;
        self.chunk_of(at, head)
    }

    #[inline]
    fn chunk_of(&mut self, at: u64, head: u64) -> Result<(u64, Kind), Broken> {
        let size = self.size(at, head).ok_or(Broken)?;
        let next = at + size;
        let last = next == self.s.end && self.s.top.is_none();
        let after = if last { PREV_IN_USE } else { self.pages.word(next + 8).ok_or(Broken)? };
        if after & PREV_IN_USE == 0 {
            // The arena bit of a free chunk is not kept up.
            let copy = self.pages.word(next).ok_or(Broken)?;
            return if copy == size { Ok((next, Kind::binned(size))) } else { Err(Broken) };
        }
        if self.s.main == (head & NON_MAIN == 0) { Ok((next, Kind::Live)) } else { Err(Broken) }
    }

    /// The size in a header at `at`, if it can be that of a chunk of this stretch.
    #[inline]
    fn size(&self, at: u64, head: u64) -> Option<u64> {
        let size = head & !FLAGS;
        let end = at.checked_add(size)?;
        let limit = self.s.top.filter(|top| *top > at).unwrap_or(self.s.end);
        let fits = size >= MIN_CHUNK && size.is_multiple_of(ALIGN) && end <= limit;
        (fits && head & IS_MMAPPED == 0 && !(self.s.main && head & NON_MAIN != 0)).then_some(size)
    }

    /// Where a stretch was abandoned it ends in two headers too small for chunks: the rest of a heap is malloc's own,
    /// what follows in the main arena was taken by somebody else.
    fn fencepost(&mut self, at: u64) -> Option<u64> {
        let size = self.pages.word(at + 8)? & !FLAGS;
        if self.s.main {
            let second = at + FENCEPOST;
            if size != FENCEPOST || self.pages.word(second + 8)? & !FLAGS != FENCEPOST {
                return None;
            }
            self.push(at, Kind::Own);
            let after = second + FENCEPOST;
            return Some(self.gap(after, after, Kind::Foreign, ALIGN));
        }
        let left = self.s.end - at;
        let ends = match size {
            0 | FENCEPOST => left <= 2 * FENCEPOST,
            // A top too small to be freed is drawn into the fencepost.
            MIN_CHUNK => left == 3 * FENCEPOST && self.pages.word(at + MIN_CHUNK + 8)? & !FLAGS == 0,
            _ => false,
        };
        if !ends {
            return None;
        }
        self.push(at, Kind::Own);
        Some(self.s.end)
    }

    /// Books what lies from `from` to the next place at or after `search` where headers chain, and gives that place.
    fn gap(&mut self, from: u64, search: u64, kind: Kind, step: u64) -> u64 {
        let mut at = search.next_multiple_of(step);
        while at < self.s.end && !self.chains(at) {
            at += if self.pages.word(at).is_some() {
                step
            } else {
                self.pages.page_bytes() - at % self.pages.page_bytes()
            };
        }
        let end = at.min(self.s.end);
        if from < end {
            self.push(from, kind);
        }
        if kind == Kind::Unknown && self.s.known {
            self.out.lost += end - from;
        }
        end
    }

    /// Whether headers chain from here, for long enough or to an end that is known.
    fn chains(&mut self, from: u64) -> bool {
        let mut at = from;
        for _ in 0..CHAIN {
            if Some(at) == self.s.top || at == self.s.end && at > from {
                return true;
            }
            if at > from && self.fence(at) {
                return true;
            }
            match self.chunk(at) {
                Ok((next, _)) => at = next,
                Err(Broken) => return false,
            }
        }
        true
    }

    fn fence(&mut self, at: u64) -> bool {
        let mut size = |at: u64| self.pages.word(at + 8).map(|w| w & !FLAGS);
        size(at) == Some(FENCEPOST) && size(at + FENCEPOST).is_some_and(|s| s == 0 || s == FENCEPOST)
    }

    fn push(&mut self, at: u64, kind: Kind) {
        self.out.chunks.push(Chunk::new(at, kind));
    }
}
