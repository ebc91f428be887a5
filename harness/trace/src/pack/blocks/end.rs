//! The end of packing: what is open is written, and what is known of the whole.

use super::Blocks;
use crate::error::TraceError;
use crate::format::LARGE_MAX;
use crate::info::{RecordedOn, Totals};
use crate::memory::MemorySeries;
use crate::pack::PackReport;
use crate::stacks::Stacks;

impl Blocks {
    /// Writes what is open and ends the trace; `known` and `late` bring what is known besides, `resolve` makes stacks of lanes,
    /// slots and numbers of stacks.
    pub(in crate::pack) fn finish(
        mut self,
        duration_us: u64,
        known: Totals,
        late: &RecordedOn,
        memory: Option<MemorySeries>,
        resolve: impl FnOnce(Vec<(u32, u32, u32)>) -> Option<Stacks>,
    ) -> Result<PackReport, TraceError> {
        for cursor in 0..self.threads.len() {
            self.end_thread(cursor, false)?;
        }
        self.flush_system()?;
        let mut held: Vec<(u32, u32, u32)> =
            self.kept.iter().map(|held| (held.name.lane, held.name.slot, held.stack)).collect();
        for entry in self.live.iter() {
            held.extend(self.stacks.get(&entry.addr).map(|stack| (entry.lane, entry.slot, *stack)));
        }
        let stacks = resolve(held);
        if let Some(stacks) = &stacks {
            let bytes = stacks.to_bytes();
            if bytes.len() > LARGE_MAX {
                return Err(TraceError::TooLarge("more blocks never freed than stacks can be kept of"));
            }
            self.writer.stacks(&bytes)?;
        }
        if let Some(mut memory) = memory {
            memory.end_at(duration_us);
            self.writer.memory(&memory)?;
        }
        let mut t = self.totals;
        // Where nothing was recorded behind a start.
        t.peak_live_bytes = t.peak_live_bytes.max(self.live_bytes);
        t.peak_live_blocks = t.peak_live_blocks.max(self.live.len() as u64);
        let [swing_200us_bytes, swing_1ms_bytes, swing_5ms_bytes, swing_25ms_bytes] =
            self.swing.finish(self.live_bytes, t.peak_live_bytes);
        let totals = Totals {
            events: t.events,
            threads: t.threads,
            threads_peak: t.threads_peak,
            duration_us,
            peak_live_bytes: t.peak_live_bytes,
            peak_live_at_us: t.peak_live_at_us,
            peak_live_blocks: t.peak_live_blocks,
            live_end_bytes: self.live_bytes,
            live_end_blocks: self.live.len() as u64,
            swing_200us_bytes,
            swing_1ms_bytes,
            swing_5ms_bytes,
            swing_25ms_bytes,
            unseen_frees: t.unseen_frees,
            unresolved: t.unresolved,
            reordered: t.reordered,
            system_calls: t.system_calls,
            ..known
        };
        let bytes = self.writer.finish(totals, late, self.adjusts > 0)?;
        Ok(PackReport { stacks: stacks.map(|s| s.stacks.len() as u64), totals, bytes, spool_bytes: 0 })
    }
}
