//! Puts blocks into a trace file, and late knowledge into blocks already written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::encode::Finished;
use crate::format::{
    BLOCK_HEADER_LEN, BlockHeader, BlockKind, ENTRY_LEN, RESIDENT_CRC_AT, VERSION, VERSION_PLAIN, file_header, trailer,
};
use crate::info::{RecordedOn, Totals};
use crate::memory::MemorySeries;
use crate::reader::BlockEntry;

/// A trace being written.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    at: u64,
    index: Vec<BlockEntry>,
    stacks_at: Option<u64>,
    memory_at: Option<u64>,
    packed: Vec<u8>,
    block: Vec<u8>,
}

impl Writer {
    /// Begins a trace in an empty file.
    pub(crate) fn new(file: File, recorded_on: &RecordedOn) -> io::Result<Self> {
        let header = file_header(VERSION_PLAIN);
        file.write_all_at(&header, 0)?;
        let mut writer = Self {
            file,
            at: header.len() as u64,
            index: Vec::new(),
            stacks_at: None,
            memory_at: None,
            packed: Vec::new(),
            block: Vec::new(),
        };
        writer.write(blank(BlockKind::Facts), recorded_on.to_facts().as_bytes(), &[], &[], &[])?;
        Ok(writer)
    }

    /// Goes on with a trace of which `at` bytes and these blocks were written; what lies behind is written over.
    pub(crate) fn resume(file: File, at: u64, index: Vec<BlockEntry>) -> Self {
        Self { file, at, index, stacks_at: None, memory_at: None, packed: Vec::new(), block: Vec::new() }
    }

    /// Bytes written, and the blocks in them.
    pub(crate) fn written(&self) -> (u64, &[BlockEntry]) {
        (self.at, &self.index)
    }

    /// Writes a thread's block of operations and answers its offset.
    pub(crate) fn ops(&mut self, thread: u32, lane: u32, slots: u32, block: &Finished<'_>) -> io::Result<u64> {
        let header = BlockHeader {
            thread,
            seq: block.seq,
            lane,
            first_us: block.first_us,
            last_us: block.last_us,
            events: block.events,
            slots,
            ..blank(BlockKind::Ops)
        };
        self.write(header, block.refill, block.time, block.units, block.residents)
    }

    /// Writes a block of system calls.
    pub(crate) fn system(
        &mut self,
        seq: u32,
        first_us: u64,
        last_us: u64,
        calls: u32,
        bytes: &[u8],
    ) -> io::Result<u64> {
        let header = BlockHeader { seq, first_us, last_us, events: calls, ..blank(BlockKind::System) };
        self.write(header, bytes, &[], &[], &[])
    }

    /// Writes a resident count into a block already written.
    pub(crate) fn patch_resident(&mut self, at: u64, residents: u32, index: u32, pages: u32) -> io::Result<()> {
        let from = at + RESIDENT_CRC_AT as u64;
        self.block.resize(4 + 4 * residents as usize, 0);
        self.file.read_exact_at(&mut self.block, from)?;
        let entry = 4 + 4 * index as usize;
        self.block[entry..entry + 4].copy_from_slice(&pages.to_le_bytes());
        let crc = crc32fast::hash(&self.block[4..]);
        self.block[..4].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&self.block, from)
    }

    /// Writes the stacks of blocks never freed.
    pub(crate) fn stacks(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stacks_at = Some(self.write(blank(BlockKind::Stacks), bytes, &[], &[], &[])?);
        Ok(())
    }

    /// Writes what the recorded process held over time.
    pub(crate) fn memory(&mut self, series: &MemorySeries) -> io::Result<()> {
        self.memory_at = Some(self.write(blank(BlockKind::Memory), &series.to_bytes(), &[], &[], &[])?);
        Ok(())
    }

    /// Ends the trace; `late` are the facts that were not known when it was begun. Its length in bytes.
    pub(crate) fn finish(mut self, totals: Totals, late: &RecordedOn, adjusts: bool) -> io::Result<u64> {
        if adjusts {
            self.file.write_all_at(&file_header(VERSION), 0)?;
        }
        let mut entries = Vec::with_capacity(self.index.len() * ENTRY_LEN);
        for entry in &self.index {
            entries.extend_from_slice(&entry.to_bytes());
        }
        let at = self.at;
        let mut facts = totals.to_facts();
        facts.put_some("stacks_at", self.stacks_at);
        facts.put_some("memory_at", self.memory_at);
        facts.append(&late.to_facts());
        self.write(blank(BlockKind::Index), facts.as_bytes(), &[], &entries, &[])?;
        let end = trailer(at);
        self.file.write_all_at(&end, self.at)?;
        // Nothing else lies there unless the packer was killed and its work taken up again.
        self.file.set_len(self.at + end.len() as u64)?;
        Ok(self.at + end.len() as u64)
    }

    fn write(
        &mut self,
        mut header: BlockHeader,
        refill: &[u8],
        time: &[u8],
        units: &[u8],
        residents: &[u32],
    ) -> io::Result<u64> {
        header.refill_len = refill.len() as u32;
        header.time_len = time.len() as u32;
        header.units_len = units.len() as u32;
        header.residents = residents.len() as u32;
        let at = self.at;
        self.block.clear();
        self.block.resize(BLOCK_HEADER_LEN, 0);
        for pages in residents {
            self.block.extend_from_slice(&pages.to_le_bytes());
        }
        let resident_crc = crc32fast::hash(&self.block[BLOCK_HEADER_LEN..]);
        let payload_at = self.block.len();
        for section in [refill, time, units] {
            self.block.extend_from_slice(section);
        }
        let payload = &self.block[payload_at..];
        self.packed.resize(lz4_flex::block::get_maximum_output_size(payload.len()), 0);
        // The output is as large as it can ever have to be; were it not, the payload is stored as it is.
        if let Ok(n) = lz4_flex::block::compress_into(payload, &mut self.packed)
            && n < payload.len()
        {
            header.lz4 = true;
            self.block.truncate(payload_at);
            self.block.extend_from_slice(&self.packed[..n]);
        }
        let payload = &self.block[payload_at..];
        header.stored_len = payload.len() as u32;
        header.payload_crc = crc32fast::hash(payload);
        self.block[..BLOCK_HEADER_LEN].copy_from_slice(&header.to_bytes());
        self.block[RESIDENT_CRC_AT..BLOCK_HEADER_LEN].copy_from_slice(&resident_crc.to_le_bytes());
        self.file.write_all_at(&self.block, at)?;
        self.at += self.block.len() as u64;
        if matches!(header.kind, BlockKind::Ops | BlockKind::System) {
            self.index.push(BlockEntry::new(at, &header));
        }
        Ok(at)
    }
}

fn blank(kind: BlockKind) -> BlockHeader {
    BlockHeader {
        kind,
        lz4: false,
        thread: 0,
        seq: 0,
        lane: 0,
        first_us: 0,
        last_us: 0,
        events: 0,
        slots: 0,
        refill_len: 0,
        time_len: 0,
        units_len: 0,
        stored_len: 0,
        residents: 0,
        payload_crc: 0,
    }
}
