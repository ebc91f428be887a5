//! Rules about the mmap threshold: risen, so that large blocks stay in the heap, or set so low that small ones leave it.

use fragbench_model::HeapVerdict;

use super::{Case, Holder, K, pins, remedy, say};
use crate::human::size;

/// Mappings of one chunk each that are smaller than this on average are small.
const SMALL_MAPPING: u64 = 32 << 10;

pub(super) fn mmap_ratchet(case: &Case) -> Option<HeapVerdict> {
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
        "{chunks} free chunks of 128 KiB or more: blocks up to {} had mappings of their own before a freed one raised the \
         threshold",
        size(threshold)
    ));
    for held in held.iter().take(3) {
        verdict.evidence.push(pins(held));
    }
    verdict.remedies.push(remedy::trim(case));
    verdict.remedies.push(remedy::mmap_threshold(bytes));
    verdict.resembles = Some("mmap-ratchet".into());
    Some(verdict)
}

/// A threshold set so low that small blocks have a mapping each: a page at least for a few bytes.
pub(super) fn small_mappings(case: &Case) -> Option<HeapVerdict> {
    let (heap, settings) = (case.now.heap?, &case.now.settings);
    let (threshold, count) = (settings.mmap_threshold_bytes?, settings.mmapped_count?);
    let each = heap.mmapped_bytes.checked_div(count)?;
    if threshold >= SMALL_MAPPING || each >= SMALL_MAPPING {
        return None;
    }
    let mut verdict = say(
        K::SmallMappings,
        heap.mmapped_bytes,
        format!(
            "{count} blocks have a mapping each, {} in all: the mmap threshold has been set to {threshold} bytes.",
            size(heap.mmapped_bytes)
        ),
    );
    verdict.evidence.push(format!("a block takes {} of pages on average, however small it is", size(each)));
    verdict.remedies.push(remedy::mmap_threshold(heap.mmapped_bytes));
    Some(verdict)
}
