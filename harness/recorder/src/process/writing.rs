//! What is written of a process beside its threads' blocks: how it closed, marks, stacks and modules.

use core::sync::atomic::Ordering;

use fragbench_trace::spool::format::{BLOCK_HEADER_LEN, BlockHeader, BlockKind, Closing, Status};

use super::{Phase, Process, STATIC_BYTES};
use crate::raw::Quiet;
use crate::{clock, raw};

impl Process {
    pub(super) fn closing(&self, status: Status) -> Closing {
        Closing {
            status,
            errno: self.errno.load(Ordering::Relaxed) as u32,
            tsc: clock::ticks(),
            mono_ns: raw::clock_ns(libc::CLOCK_MONOTONIC),
            lost_events: self.lost_events.load(Ordering::Relaxed),
            early_calls: self.early_calls.load(Ordering::Relaxed),
            own_bytes_peak: STATIC_BYTES + self.stacks.mapped() + self.pool.mapped_peak(),
            bytes: self.file.written(),
            nested_calls: self.nested_calls.load(Ordering::Relaxed),
            passing_loads: self.passing_loads.load(Ordering::Relaxed),
        }
    }

    /// Writes what every thread has, as far as its owner got. Nobody is waited for: an owner goes on meanwhile, and
    /// its block, when full, is written again. With signals blocked.
    pub(super) fn write_all(&self) {
        self.pool.each(|buffer| {
            let _owner = buffer.lock.hold();
            // SAFETY: under the buffer's lock.
            unsafe { buffer.block(self.clock()) }.is_none_or(|block| self.file.append(block).is_ok())
        });
    }

    pub(super) fn write_closing(&self, status: Status) {
        self.file.rewrite_status(&self.closing(status).to_bytes());
    }

    /// Writes a block without payload. With signals blocked.
    pub(crate) fn mark(&self, kind: BlockKind, first_quantum: u64) {
        let c = self.clock();
        let header = BlockHeader {
            len: 0,
            kind,
            thread: 0,
            seq: 0,
            first_quantum,
            tsc: c.tsc,
            mono_ns: c.mono_ns,
            own_bytes: c.own_bytes,
            payload_crc: crc32fast::hash(&[]),
        };
        let bytes: [u8; BLOCK_HEADER_LEN] = header.to_bytes();
        // A failure shows again, and is dealt with, when the next block is written.
        let _ = self.file.append(&bytes);
    }

    /// Writes a stack or module. With signals blocked.
    pub(crate) fn write_once<const N: usize>(&self, kind: BlockKind, number: u32, block: &mut [u8; N], len: usize) {
        let c = self.clock();
        let header = BlockHeader {
            len: len as u32,
            kind,
            thread: 0,
            seq: number,
            first_quantum: 0,
            tsc: c.tsc,
            mono_ns: c.mono_ns,
            own_bytes: c.own_bytes,
            payload_crc: crc32fast::hash(&block[BLOCK_HEADER_LEN..BLOCK_HEADER_LEN + len]),
        };
        block[..BLOCK_HEADER_LEN].copy_from_slice(&header.to_bytes());
        // As above.
        let _ = self.file.append(&block[..BLOCK_HEADER_LEN + len]);
    }

    /// Writes who answers the allocator's functions into a spool that was begun before that was known.
    pub(crate) fn write_providers(&self) {
        if matches!(self.phase(), Phase::Recording | Phase::Paused) && self.is_own() {
            let _quiet = Quiet::new();
            crate::provider::write(self);
        }
    }
}
