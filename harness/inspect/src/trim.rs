//! What `malloc_trim(0)` would release, computed from a survey.
//!
//! For every arena it first empties the fast bins (there are none since 2.43), which joins their chunks to free
//! neighbours or to the top. Then it gives back the whole pages inside each free chunk behind its header, and last the
//! end of the main arena's top, if `brk` still ends there. Tcaches, parts of pages and the tops of other arenas stay.
//!
//! Source: glibc malloc/malloc.c (`mtrim`, `systrim`, `malloc_consolidate`), 2.17 to 2.43.

use std::collections::BTreeMap;
use std::ops::Range;

use fragbench_model::{HeapTrim, Kept};

use crate::chunk::Kind;
use crate::layout::{CHUNK_STRUCT, MIN_CHUNK};
use crate::runs::Runs;
use crate::survey::{Segment, Survey};

impl Survey {
    /// What `malloc_trim(0)` would release now, and what keeps the rest.
    pub fn trim(&self) -> HeapTrim {
        let mut trim = HeapTrim { residency_known: true, ..HeapTrim::default() };
        for segment in &self.segments {
            let release = self.release(segment);
            let resident = segment.resident();
            trim.residency_known &= segment.present.is_some();
            trim.interior_bytes += resident.and(&release.interior).bytes();
            trim.main_top_bytes += resident.and(&release.top).bytes();
            trim.swapped_release_bytes +=
                segment.swapped.and(&release.interior).bytes() + segment.swapped.and(&release.top).bytes();
            let left = resident.without(&release.interior).without(&release.top);
            self.keep(segment, &left, release.top_from, &mut trim.kept);
        }
        for chunk in &self.mmapped {
            trim.residency_known &= chunk.present_bytes.is_some();
            *trim.kept.entry(Kept::Mmapped).or_default() += chunk.present_bytes.unwrap_or(chunk.bytes);
        }
        trim.kept.retain(|_, bytes| *bytes > 0);
        trim.predicted_release_bytes = trim.interior_bytes + trim.main_top_bytes;
        trim
    }

    /// What of one segment would be released.
    pub(crate) fn releasable(&self, segment: &Segment) -> u64 {
        let release = self.release(segment);
        let resident = segment.resident();
        resident.and(&release.interior).bytes() + resident.and(&release.top).bytes()
    }

    fn release(&self, segment: &Segment) -> Release {
        let page = self.page_bytes;
        let mut interior: Vec<Range<u64>> = Vec::new();
        let mut top = Runs::default();
        let mut top_from = segment.end;
        for span in spans(segment) {
            if span.top {
                top_from = span.start;
                if self.arenas[segment.arena].main && self.brk_end == Some(span.end) {
                    top = Runs::new(std::iter::once(self.systrim(span.start, span.end)));
                }
            } else {
                let first = (span.start + CHUNK_STRUCT).next_multiple_of(page);
                if first + page <= span.end {
                    interior.push(first..span.end - span.end % page);
                }
            }
        }
        Release { interior: Runs::new(interior), top, top_from }
    }

    /// The part of a top that `systrim` gives back: whole pages, huge ones where malloc rounds to them, beyond the least
    /// chunk.
    fn systrim(&self, start: u64, end: u64) -> Range<u64> {
        let unit = self.settings.thp_page_bytes.filter(|n| *n > 0).unwrap_or(self.page_bytes);
        let area = (end - start).saturating_sub(MIN_CHUNK + 1);
        end - area / unit * unit..end
    }

    fn keep(&self, segment: &Segment, left: &Runs, top_from: u64, kept: &mut BTreeMap<Kept, u64>) {
        let mut sweep = left.sweep();
        let main = self.arenas[segment.arena].main;
        let mut sums = [0u64; Kind::ALL.len()];
        for (address, size, kind) in segment.chunks() {
            let kind = if address >= top_from { Kind::Top } else { kind };
            sums[kind as usize] += sweep.overlap(address..address + size);
        }
        for kind in Kind::ALL {
            let reason = match kind {
                Kind::Live => Kept::Live,
                Kind::Tcache => Kept::Tcache,
                Kind::Fast | Kind::Small | Kind::Large | Kind::Unsorted => Kept::Fragment,
                Kind::Top if main => Kept::MainTop,
                Kind::Top => Kept::ThreadTop,
                Kind::Own => Kept::Own,
                Kind::Foreign => Kept::Foreign,
                Kind::Unknown => Kept::Unknown,
            };
            *kept.entry(reason).or_default() += sums[kind as usize];
        }
    }
}

struct Release {
    interior: Runs,
    top: Runs,
    /// Where the top begins once the fast bins are emptied.
    top_from: u64,
}

/// Free memory as it is after the fast bins are emptied.
struct Span {
    start: u64,
    end: u64,
    top: bool,
}

fn spans(segment: &Segment) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (address, size, kind) in segment.chunks() {
        if !kind.is_free() && kind != Kind::Top {
            continue;
        }
        let top = kind == Kind::Top;
        match spans.last_mut() {
            Some(span) if span.end == address => (span.end, span.top) = (address + size, top),
            _ => spans.push(Span { start: address, end: address + size, top }),
        }
    }
    spans
}
