//! The recorded program's live blocks by address, and the threads' open trace blocks.

mod end;
mod saved;

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};

use super::state::state;
use super::swing::Swing;
use super::table::{Entry, Table};
use crate::decode::Adjust;
use crate::encode::{Ask, BlockName, Encoder, Lane};
use crate::error::TraceError;
use crate::format::{DECODED_MAX, RESIDENT_UNKNOWN, SIZE_MAX, THREADS_MAX};
use crate::info::{RecordedOn, Totals};
use crate::spool::{SpoolEvent, SpoolKind};
use crate::varint::put;
use crate::write::Writer;

/// Hash of an address: one multiplication (Knuth's, by the golden ratio), and its high half folded onto the low one,
/// since the table takes its bits from both ends. Addresses come from the recorded program, not from an adversary.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct AddressHash(u64);

impl Hasher for AddressHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }

    fn write_u64(&mut self, v: u64) {
        let h = (self.0 ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = h ^ (h >> 32);
    }
}

type ByAddress<V> = HashMap<u64, V, BuildHasherDefault<AddressHash>>;

/// Stands for a stack that was not recorded.
const NO_STACK: u32 = u32::MAX;

/// A block the program holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    name: BlockName,
    /// Number of the stack that made it, or `NO_STACK`.
    stack: u32,
    size: u64,
}

/// Where a live block's resident count is to be entered.
#[derive(Debug, Clone, Copy)]
struct ResidentEntry {
    cursor: u32,
    seq: u32,
    index: u32,
}

/// A written block that still has resident counts to come.
#[derive(Debug, Clone, Copy)]
struct Open {
    at: u64,
    residents: u32,
    left: u32,
}

struct Thread {
    number: u32,
    encoder: Encoder,
}

#[derive(Default)]
struct SystemCalls {
    bytes: Vec<u8>,
    seq: u32,
    calls: u32,
    first_us: u64,
    last_us: u64,
}

state!(Held { name, stack, size });
state!(ResidentEntry { cursor, seq, index });
state!(Open { at, residents, left });
state!(Thread { number, encoder });
state!(SystemCalls { bytes, seq, calls, first_us, last_us });

/// All that is known of the blocks; saved without the writer, which knows the file.
pub(super) struct Blocks {
    writer: Writer,
    lanes: Vec<Lane>,
    free_lanes: Vec<u32>,
    /// By the number of the thread's cursor; none before its first event and after its end.
    threads: Vec<Option<Box<Thread>>>,
    live: Table,
    /// Numbers of the stacks that made live blocks, where they were recorded.
    stacks: ByAddress<u32>,
    /// Blocks with stacks that were freed after the trace's end: in the trace they live.
    kept: Vec<Held>,
    resident_entries: ByAddress<ResidentEntry>,
    open: HashMap<(u32, u32), Open>,
    system: SystemCalls,
    now_us: u64,
    turns: u64,
    running: u32,
    live_bytes: u64,
    swing: Swing,
    totals: Totals,
    /// Calls that adjust the allocator.
    adjusts: u64,
    /// Time at the begin in which nothing is as it was recorded, µs.
    prologue_us: u64,
}

impl Blocks {
    pub(super) fn new(file: File, recorded_on: &RecordedOn) -> Result<Self, TraceError> {
        Ok(Self {
            writer: Writer::new(file, recorded_on)?,
            lanes: Vec::new(),
            free_lanes: Vec::new(),
            threads: Vec::new(),
            live: Table::default(),
            stacks: ByAddress::default(),
            kept: Vec::new(),
            resident_entries: ByAddress::default(),
            open: HashMap::new(),
            system: SystemCalls::default(),
            now_us: 0,
            turns: 0,
            running: 0,
            live_bytes: 0,
            swing: Swing::default(),
            totals: Totals::default(),
            adjusts: 0,
            prologue_us: recorded_on.prologue_us.unwrap_or(0),
        })
    }

    /// Whether what the process held when it was attached to is being built, among it free chunks.
    fn is_building(&self) -> bool {
        self.now_us < self.prologue_us
    }

    /// What follows happens at `us`, which never decreases.
    pub(super) fn now(&mut self, us: u64) {
        self.now_us = us;
        if !self.is_building() {
            self.swing.now(us, self.live_bytes, self.totals.peak_live_bytes);
        }
    }

    pub(super) fn count_reordered(&mut self) {
        self.totals.reordered += 1;
    }

    /// What comes soon: the table's entry for it is brought into the caches.
    #[inline(always)]
    pub(super) fn ahead(&self, soon: &SpoolEvent) {
        if let SpoolKind::Malloc { addr, .. } | SpoolKind::Free { addr } = soon.kind {
            self.live.ahead(addr);
        }
    }

    pub(super) fn is_live(&self, addr: u64) -> bool {
        self.live.contains(addr)
    }

    /// Takes a block away from its address and enters what is known of its resident pages.
    pub(super) fn take(&mut self, addr: u64, resident_pages: Option<u32>) -> Result<Option<Held>, TraceError> {
        let Some(entry) = self.live.remove(addr) else { return Ok(None) };
        let generation = self.lanes[entry.lane as usize].generation(entry.slot);
        let name = BlockName { lane: entry.lane, slot: entry.slot, generation };
        let stack = if self.stacks.is_empty() { NO_STACK } else { self.stacks.remove(&addr).unwrap_or(NO_STACK) };
        let held = Held { name, stack, size: entry.size };
        if held.size >= crate::format::RESIDENT_MIN
            && let Some(entry) = self.resident_entries.remove(&addr)
        {
            self.enter(entry, resident_pages)?;
        }
        Ok(Some(held))
    }

    /// A block taken away from its address after the trace's end, where it was not freed.
    pub(super) fn keep(&mut self, held: Option<Held>) {
        self.kept.extend(held.filter(|held| held.stack != NO_STACK));
    }

    fn enter(&mut self, entry: ResidentEntry, pages: Option<u32>) -> Result<(), TraceError> {
        if let Some(Some(thread)) = self.threads.get_mut(entry.cursor as usize)
            && thread.encoder.seq() == entry.seq
        {
            if let (Some(to), Some(pages)) = (thread.encoder.resident_mut(entry.index), pages) {
                *to = pages;
            }
            return Ok(());
        }
        let Some(open) = self.open.get_mut(&(entry.cursor, entry.seq)) else { return Ok(()) };
        if let Some(pages) = pages {
            self.writer.patch_resident(open.at, open.residents, entry.index, pages)?;
        }
        open.left -= 1;
        if open.left == 0 {
            self.open.remove(&(entry.cursor, entry.seq));
        }
        Ok(())
    }

    pub(super) fn allocate(
        &mut self,
        cursor: usize,
        addr: u64,
        size: u64,
        ask: Ask,
        stack: Option<u32>,
    ) -> Result<(), TraceError> {
        self.ready(cursor)?;
        // Larger than a tebibyte does not fit the format and no machine.
        let size = size.min(SIZE_MAX);
        let (thread, lane) = parts(&mut self.threads, &mut self.lanes, cursor);
        let made = thread.encoder.allocate(lane, self.now_us, size, ask);
        self.hold(cursor, addr, size, stack, made)
    }

    pub(super) fn free(&mut self, cursor: usize, held: Held) -> Result<(), TraceError> {
        self.ready(cursor)?;
        let (thread, lane) = parts(&mut self.threads, &mut self.lanes, cursor);
        if held.name.lane == thread.encoder.lane {
            thread.encoder.free(self.now_us, held.name.slot);
            thread.encoder.release(lane, held.name.slot);
        } else {
            thread.encoder.free_other(self.now_us, held.name);
            self.lanes[held.name.lane as usize].rest(held.name.slot, self.now_us);
        }
        self.drop_bytes(cursor, held.size);
        Ok(())
    }

    /// The free of a live block whose own free was never seen.
    pub(super) fn free_unresolved(&mut self, cursor: usize, addr: u64) -> Result<(), TraceError> {
        let Some(held) = self.take(addr, None)? else { return Ok(()) };
        self.totals.unresolved += 1;
        self.free(cursor, held)
    }

    pub(super) fn free_unseen(&mut self, cursor: usize) -> Result<(), TraceError> {
        self.ready(cursor)?;
        self.totals.unseen_frees += 1;
        let (thread, _) = parts(&mut self.threads, &mut self.lanes, cursor);
        thread.encoder.free_unseen(self.now_us);
        Ok(())
    }

    /// A realloc of a block taken away from its address before; `None`: its allocation was not seen.
    pub(super) fn realloc(
        &mut self,
        cursor: usize,
        old: Option<Held>,
        new: u64,
        size: u64,
        moved: bool,
        stack: Option<u32>,
    ) -> Result<(), TraceError> {
        let Some(old) = old else {
            self.totals.unseen_frees += 1;
            return self.allocate(cursor, new, size, Ask::ReallocUnseen, stack);
        };
        self.ready(cursor)?;
        let size = size.min(SIZE_MAX);
        let (thread, lane) = parts(&mut self.threads, &mut self.lanes, cursor);
        let made = if old.name.lane == thread.encoder.lane {
            Some(thread.encoder.realloc(lane, self.now_us, old.name.slot, size, moved))
        } else {
            let made = thread.encoder.realloc_other(lane, self.now_us, old.name, size, moved);
            self.lanes[old.name.lane as usize].rest(old.name.slot, self.now_us);
            made
        };
        self.drop_bytes(cursor, old.size);
        self.hold(cursor, new, size, stack, made)
    }

    fn drop_bytes(&mut self, cursor: usize, size: u64) {
        self.live_bytes -= size;
        if !self.is_building() {
            self.swing.add(cursor, -(size as i64));
        }
    }

    fn hold(
        &mut self,
        cursor: usize,
        addr: u64,
        size: u64,
        stack: Option<u32>,
        made: Option<(BlockName, Option<u32>)>,
    ) -> Result<(), TraceError> {
        let (name, resident) = made.ok_or(TraceError::TooLarge("more live blocks of a thread than slots"))?;
        self.live.insert(Entry { addr, size, lane: name.lane, slot: name.slot });
        if let Some(stack) = stack {
            self.stacks.insert(addr, stack);
        }
        if let Some(index) = resident {
            let seq = parts(&mut self.threads, &mut self.lanes, cursor).0.encoder.seq();
            self.resident_entries.insert(addr, ResidentEntry { cursor: cursor as u32, seq, index });
        }
        self.live_bytes += size;
        if self.is_building() {
            return Ok(());
        }
        self.swing.add(cursor, size as i64);
        self.totals.peak_live_blocks = self.totals.peak_live_blocks.max(self.live.len() as u64);
        if self.live_bytes > self.totals.peak_live_bytes {
            self.totals.peak_live_bytes = self.live_bytes;
            self.totals.peak_live_at_us = self.now_us;
        }
        Ok(())
    }

    /// Makes sure that the thread has a lane and room for an event, and counts that event.
    fn ready(&mut self, cursor: usize) -> Result<(), TraceError> {
        self.totals.events += 1;
        if self.threads.len() <= cursor {
            self.threads.resize_with(cursor + 1, || None);
        }
        match &self.threads[cursor] {
            None => self.begin_thread(cursor),
            Some(thread) if thread.encoder.is_full() => self.flush(cursor),
            Some(_) => Ok(()),
        }
    }

    fn begin_thread(&mut self, cursor: usize) -> Result<(), TraceError> {
        let number = cursor as u32;
        if number >= THREADS_MAX {
            return Err(TraceError::TooLarge("too many threads"));
        }
        let lane = self.free_lanes.pop().unwrap_or(self.lanes.len() as u32);
        if lane as usize == self.lanes.len() {
            self.lanes.push(Lane::default());
        }
        let mut encoder = Encoder::new(lane);
        if number != 0 {
            encoder.turn(self.now_us, self.turns);
            self.turns += 1;
        }
        self.threads[cursor] = Some(Box::new(Thread { number, encoder }));
        self.totals.threads += 1;
        self.running += 1;
        self.totals.threads_peak = self.totals.threads_peak.max(self.running);
        Ok(())
    }

    /// A thread has no further events. `exited`: it ended, rather than the recording.
    pub(super) fn end_thread(&mut self, cursor: usize, exited: bool) -> Result<(), TraceError> {
        let Some(Some(thread)) = self.threads.get_mut(cursor) else { return Ok(()) };
        // The first thread's end is the program's.
        let exited = exited && thread.number != 0;
        let full = thread.encoder.is_full();
        if exited {
            if full {
                self.flush(cursor)?;
            }
            let (thread, _) = parts(&mut self.threads, &mut self.lanes, cursor);
            thread.encoder.exit(self.now_us, self.turns);
            self.turns += 1;
            self.running -= 1;
        }
        self.flush(cursor)?;
        if let Some(thread) = self.threads[cursor].take()
            && exited
        {
            self.free_lanes.push(thread.encoder.lane);
        }
        Ok(())
    }

    fn flush(&mut self, cursor: usize) -> Result<(), TraceError> {
        let (thread, lane) = parts(&mut self.threads, &mut self.lanes, cursor);
        if thread.encoder.is_empty() {
            return Ok(());
        }
        let block = thread.encoder.finished();
        let at = self.writer.ops(thread.number, thread.encoder.lane, lane.slots(), &block)?;
        let left = block.residents.iter().filter(|p| **p == RESIDENT_UNKNOWN).count() as u32;
        if left > 0 {
            let open = Open { at, residents: block.residents.len() as u32, left };
            self.open.insert((cursor as u32, block.seq), open);
        }
        thread.encoder.next_block(lane);
        Ok(())
    }

    /// The program adjusts its allocator.
    pub(super) fn adjust(&mut self, cursor: usize, kind: &SpoolKind) -> Result<(), TraceError> {
        let adjust = match *kind {
            SpoolKind::Trim { pad } => Adjust::Trim { pad },
            SpoolKind::Mallopt { param, value } => Adjust::Mallopt { param, value },
            _ => return Ok(()),
        };
        self.ready(cursor)?;
        // No event of the malloc API.
        self.totals.events -= 1;
        self.adjusts += 1;
        let (thread, _) = parts(&mut self.threads, &mut self.lanes, cursor);
        thread.encoder.adjust(self.now_us, adjust);
        Ok(())
    }

    /// One of the program's own system calls.
    pub(super) fn system(&mut self, cursor: usize, kind: &SpoolKind) -> Result<(), TraceError> {
        let (call, before, after) = match *kind {
            SpoolKind::Mmap { len, flags, .. } => (0, flags.into(), len),
            SpoolKind::Munmap { len, .. } => (1, 0, len),
            SpoolKind::Mremap { old_len, new_len, .. } => (2, old_len, new_len),
            SpoolKind::Madvise { len, advice, .. } => (3, advice.into(), len),
            SpoolKind::Brk { .. } => (4, 0, 0),
            _ => return Ok(()),
        };
        let s = &mut self.system;
        if s.calls == 0 {
            s.first_us = self.now_us;
            s.last_us = self.now_us;
        }
        put(&mut s.bytes, self.now_us - s.last_us);
        for v in [cursor as u64, call, before, after] {
            put(&mut s.bytes, v);
        }
        s.last_us = self.now_us;
        s.calls += 1;
        self.totals.system_calls += 1;
        if s.bytes.len() > DECODED_MAX - 64 {
            self.flush_system()?;
        }
        Ok(())
    }

    fn flush_system(&mut self) -> Result<(), TraceError> {
        let s = &mut self.system;
        if s.calls > 0 {
            self.writer.system(s.seq, s.first_us, s.last_us, s.calls, &s.bytes)?;
            *s = SystemCalls { seq: s.seq + 1, bytes: std::mem::take(&mut s.bytes), ..SystemCalls::default() };
            s.bytes.clear();
        }
        Ok(())
    }
}

/// A thread that has begun, and its lane.
fn parts<'t>(
    threads: &'t mut [Option<Box<Thread>>],
    lanes: &'t mut [Lane],
    cursor: usize,
) -> (&'t mut Thread, &'t mut Lane) {
    let Some(Some(thread)) = threads.get_mut(cursor) else { unreachable!("`ready` has begun the thread") };
    let lane = &mut lanes[thread.encoder.lane as usize];
    (thread, lane)
}
