//! All that is known of the blocks as bytes, so that packing can be taken up again.

use std::fs::File;

use super::Blocks;
use crate::error::TraceError;
use crate::format::ENTRY_LEN;
use crate::pack::state::State;
use crate::reader::BlockEntry;
use crate::write::Writer;

impl Blocks {
    /// Appends it.
    pub(in crate::pack) fn save(&self, out: &mut Vec<u8>) {
        let (at, index) = self.writer.written();
        at.save(out);
        (index.len() as u64).save(out);
        index.iter().for_each(|entry| out.extend_from_slice(&entry.to_bytes()));
        self.lanes.save(out);
        self.free_lanes.save(out);
        self.threads.save(out);
        self.live.save(out);
        self.stacks.save(out);
        self.kept.save(out);
        self.resident_entries.save(out);
        self.open.save(out);
        self.system.save(out);
        self.now_us.save(out);
        self.turns.save(out);
        self.running.save(out);
        self.live_bytes.save(out);
        self.swing.save(out);
        self.totals.save(out);
        self.adjusts.save(out);
    }

    /// What [`Self::save`] appended, for a trace in `file` that holds what it held then, or more. `None` when it is not that.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(in crate::pack) fn load(file: File, from: &mut &[u8]) -> Result<Option<Self>, TraceError> {
        let written = file.metadata()?.len();
        Ok(Self::parse(file, from).filter(|blocks| blocks.writer.written().0 <= written))
    }

    fn parse(file: File, from: &mut &[u8]) -> Option<Self> {
        let at = u64::load(from)?;
        let entries = usize::try_from(u64::load(from)?).ok()?;
        let (bytes, rest) = from.split_at_checked(entries.checked_mul(ENTRY_LEN)?)?;
        *from = rest;
        let index = bytes.chunks_exact(ENTRY_LEN).map(BlockEntry::from_bytes).collect::<Option<_>>()?;
        Some(Self {
            writer: Writer::resume(file, at, index),
            lanes: State::load(from)?,
            free_lanes: State::load(from)?,
            threads: State::load(from)?,
            live: State::load(from)?,
            stacks: State::load(from)?,
            kept: State::load(from)?,
            resident_entries: State::load(from)?,
            open: State::load(from)?,
            system: State::load(from)?,
            now_us: State::load(from)?,
            turns: State::load(from)?,
            running: State::load(from)?,
            live_bytes: State::load(from)?,
            swing: State::load(from)?,
            totals: State::load(from)?,
            adjusts: State::load(from)?,
            // What is packed while it grows has no start.
            prologue_us: 0,
        })
    }
}
