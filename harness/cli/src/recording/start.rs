//! What a survey found live when a process was attached to, as the start of its trace.

use fragbench_inspect::{Kind, Survey};
use fragbench_trace::{Start, StartBlock};

/// In front of each block, bytes of its chunk that are malloc's.
const HEADER: u64 = 16;
/// Of each chunk, bytes that the program cannot use.
const OVERHEAD: u64 = 8;
/// Smaller blocks are in memory whole.
const RESIDENT_MIN: u64 = 16 << 10;

/// The start of a trace.
pub(crate) fn start(survey: &Survey) -> Start {
    let mut arenas: Vec<Vec<StartBlock>> = vec![Vec::new(); survey.arenas.len().max(1)];
    let page = survey.page_bytes.max(1);
    for segment in &survey.segments {
        let resident = segment.resident();
        let mut sweep = resident.sweep();
        for (address, bytes, kind) in segment.chunks() {
            let live = match kind {
                Kind::Live => true,
                Kind::Tcache | Kind::Fast | Kind::Small | Kind::Large | Kind::Unsorted => false,
                Kind::Top | Kind::Own | Kind::Foreign | Kind::Unknown => continue,
            };
            let size = bytes - OVERHEAD;
            let pages = (size >= RESIDENT_MIN).then(|| sweep.overlap(address..address + bytes).div_ceil(page));
            arenas[segment.arena].push(StartBlock {
                addr: address + HEADER,
                size,
                live,
                resident_pages: pages.map(|pages| u32::try_from(pages).unwrap_or(u32::MAX)),
            });
        }
    }
    for chunk in &survey.mmapped {
        let pages = chunk.present_bytes.map(|bytes| u32::try_from(bytes / page).unwrap_or(u32::MAX));
        let size = (chunk.start + chunk.bytes).saturating_sub(chunk.chunk + HEADER);
        arenas[0].push(StartBlock { addr: chunk.chunk + HEADER, size, live: true, resident_pages: pages });
    }
    let moves = survey.settings.thresholds_move != Some(false);
    Start { arenas, mmap_threshold: survey.settings.mmap_threshold.filter(|_| moves) }
}
