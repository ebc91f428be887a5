//! A thread's buffer: a page-aligned shared mapping that holds the state of encoding and the block being filled.
//!
//! The owner appends without lock or atomic instruction: it stores the bytes, then the new cursor. Anyone may
//! therefore read the prefix up to the cursor at any time, provided the owner does not start over, which it does only
//! under the buffer's lock. While the owner is between reading the cursor and storing it, `limit` is 0; whatever a
//! signal handler allocates in that moment finds the buffer "full", sees why, and is set aside in `pending`, from
//! where the thread's next event takes it.

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, compiler_fence};

use fragbench_trace::spool::SpoolKind;
use fragbench_trace::spool::format::{BLOCK_HEADER_LEN, BlockHeader, BlockKind};
use fragbench_trace::spool::writer::{Coder, GENERAL_MAX, SHORT_MAX, Short};

use crate::lock::Lock;

/// Bytes mapped for a buffer.
pub(crate) const BUFFER_LEN: usize = 64 * 1024;
/// Where the block begins; its header is written in front of the payload, so that one write takes both.
const BLOCK_AT: usize = 1024;
const PAYLOAD_AT: usize = BLOCK_AT + BLOCK_HEADER_LEN;
/// A general event, behind a stack, may be written up to here, a short one up to `BUFFER_LEN - SHORT_MAX`.
const GENERAL_LIMIT: usize = BUFFER_LEN - 2 * GENERAL_MAX;
const SHORT_LIMIT: usize = BUFFER_LEN - SHORT_MAX;
const PENDING: usize = 12;

/// `limit` while the owner is appending.
const APPENDING: usize = 0;
/// `limit` (once the owner is done) when there are pending events.
const ATTEND: usize = 1;

#[repr(C)]
pub(crate) struct Buffer {
    /// Offset in the buffer where the next event goes. Read by others.
    cursor: AtomicUsize,
    /// Short events are appended while `cursor <= limit`.
    limit: AtomicUsize,
    /// What `limit` becomes when the owner is done: `SHORT_LIMIT` or `ATTEND`.
    limit_next: AtomicUsize,
    coder: UnsafeCell<Coder>,
    /// Held to start over and to read the block from another thread.
    pub(crate) lock: Lock,
    pub(crate) thread: UnsafeCell<u32>,
    seq: UnsafeCell<u32>,
    first_quantum: AtomicU64,
    /// A sweep has asked the owner to write the block out.
    asked: AtomicBool,
    /// Bytes of the payload that a sweep has written already; under the lock.
    swept: AtomicUsize,
    pending_len: AtomicUsize,
    pending: UnsafeCell<[Pending; PENDING]>,
    /// Neighbours in the list of all buffers and the next free one; under the pool's lock.
    pub(crate) prev: UnsafeCell<*mut Buffer>,
    pub(crate) next: UnsafeCell<*mut Buffer>,
    pub(crate) next_free: UnsafeCell<*mut Buffer>,
    block: Block,
}
#[repr(C, align(1024))]
struct Block(UnsafeCell<[u8; BUFFER_LEN - BLOCK_AT]>);
const _: () = assert!(size_of::<Buffer>() == BUFFER_LEN && core::mem::offset_of!(Buffer, block) == BLOCK_AT);

/// An event set aside: its quantum and what made it.
type Pending = (u64, SpoolKind, Option<u32>);

/// Why an event was not appended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The block is full.
    Full,
    /// The owner is in the middle of appending: this is a signal handler.
    Appending,
    /// Pending events come first.
    Pending,
}

// All fields are atomics or cells; the cells belong to the owner, or to the holder of the lock their comments name.
impl Buffer {
    /// Makes the zeroed or used memory at `self` the buffer of `thread`, whose next block is number `seq`.
    pub(crate) fn begin(&self, thread: u32, seq: u32, quantum: u64) {
        // SAFETY: called before the buffer is published or by its owner under its lock.
        unsafe {
            *self.thread.get() = thread;
            *self.seq.get() = seq;
        }
        self.pending_len.store(0, Ordering::Relaxed);
        self.start_block(quantum);
        self.limit_next.store(SHORT_LIMIT, Ordering::Relaxed);
        self.limit.store(SHORT_LIMIT, Ordering::Relaxed);
    }

    fn start_block(&self, quantum: u64) {
        self.first_quantum.store(quantum, Ordering::Relaxed);
        self.asked.store(false, Ordering::Relaxed);
        self.swept.store(0, Ordering::Relaxed);
        // SAFETY: the coder is the owner's.
        unsafe { *self.coder.get() = Coder::new(quantum) };
        self.cursor.store(PAYLOAD_AT, Ordering::Release);
    }

    /// Number of the thread's next block.
    pub(crate) fn seq(&self) -> u32 {
        // SAFETY: the owner reads its own.
        unsafe { *self.seq.get() }
    }

    /// Bytes of payload so far.
    pub(crate) fn filled(&self) -> usize {
        self.cursor.load(Ordering::Acquire) - PAYLOAD_AT
    }

    #[inline(always)]
    fn begin_append(&self) -> Option<usize> {
        let limit = self.limit.load(Ordering::Relaxed);
        self.limit.store(APPENDING, Ordering::Relaxed);
        // Only this thread's signal handlers look at `limit`; they see stores in program order. What a handler has
        // appended until here is in the cursor read next; from here on it will not append.
        compiler_fence(Ordering::SeqCst);
        let at = self.cursor.load(Ordering::Relaxed);
        if at > limit {
            self.limit.store(limit, Ordering::Relaxed);
            return None;
        }
        Some(at)
    }

    #[inline(always)]
    fn end_append(&self, at: usize) {
        self.cursor.store(at, Ordering::Release);
        compiler_fence(Ordering::SeqCst);
        self.limit.store(self.limit_next.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Stores a short event, if it is one.
    #[inline(always)]
    fn finish_short(&self, at: usize, short: Option<Short>) -> bool {
        let end = match short {
            Some(s) => {
                // SAFETY: at <= SHORT_LIMIT, so eight bytes are within the buffer.
                unsafe { self.byte(at).cast::<u64>().write_unaligned(s.bits.to_le()) };
                at + s.len
            }
            None => at,
        };
        self.end_append(end);
        short.is_some()
    }

    /// Appends a malloc. False if there is no room, no short form, or no right to: then the slow path finds out which.
    ///
    /// # Safety
    /// By the buffer's owner.
    #[inline(always)]
    pub(crate) unsafe fn append_malloc(&self, q: u64, addr: u64, size: u64) -> bool {
        let Some(at) = self.begin_append() else { return false };
        // SAFETY: the coder is the owner's, and `limit` keeps signal handlers away.
        let short = unsafe { (*self.coder.get()).malloc(q, addr, size) };
        self.finish_short(at, short)
    }

    /// Appends a free; see `append_malloc`.
    ///
    /// # Safety
    /// By the buffer's owner.
    #[inline(always)]
    pub(crate) unsafe fn append_free(&self, q: u64, addr: u64) -> bool {
        let Some(at) = self.begin_append() else { return false };
        // SAFETY: as above.
        let short = unsafe { (*self.coder.get()).free(q, addr) };
        self.finish_short(at, short)
    }

    /// Appends any event, behind the stack that made it if there is one.
    ///
    /// # Safety
    /// By the buffer's owner.
    pub(crate) unsafe fn append(&self, q: u64, kind: &SpoolKind, stack: Option<u32>) -> Result<(), Refusal> {
        match self.limit.load(Ordering::Relaxed) {
            APPENDING => return Err(Refusal::Appending),
            ATTEND => return Err(Refusal::Pending),
            _ => {}
        }
        // SAFETY: by the caller.
        let short = unsafe {
            match *kind {
                SpoolKind::Malloc { addr, size } if stack.is_none() => self.append_malloc(q, addr, size),
                SpoolKind::Free { addr } => self.append_free(q, addr),
                _ => false,
            }
        };
        if short {
            return Ok(());
        }
        if self.cursor.load(Ordering::Relaxed) > GENERAL_LIMIT {
            return Err(Refusal::Full);
        }
        let Some(mut at) = self.begin_append() else { return Err(Refusal::Pending) };
        let mut bytes = [0; GENERAL_MAX];
        let mut general = |at: usize, kind: &SpoolKind| {
            // SAFETY: the coder is the owner's; at <= GENERAL_LIMIT, or past it by the stack for which the limit has
            // room, so the longest event is within the buffer.
            unsafe {
                let n = (*self.coder.get()).general(q, kind, &mut bytes);
                ptr::copy_nonoverlapping(bytes.as_ptr(), self.byte(at), n);
                at + n
            }
        };
        if let Some(id) = stack {
            at = general(at, &SpoolKind::Stack { id });
            if let SpoolKind::Malloc { addr, size } = *kind {
                // SAFETY: the coder is the owner's.
                let short = unsafe { (*self.coder.get()).malloc(q, addr, size) };
                if short.is_some() {
                    self.finish_short(at, short);
                    return Ok(());
                }
            }
        }
        let end = general(at, kind);
        self.end_append(end);
        Ok(())
    }

    /// Sets an event aside that a signal handler made while its thread was appending. False if there is no room.
    ///
    /// # Safety
    /// By the buffer's owner, in a handler.
    pub(crate) unsafe fn set_aside(&self, q: u64, kind: &SpoolKind, stack: Option<u32>) -> bool {
        let n = self.pending_len.load(Ordering::Relaxed);
        if n == PENDING {
            return false;
        }
        // A handler that interrupts this one between load and store overwrites an event; that is one event lost in
        // the nesting of two signals within a few nanoseconds.
        // SAFETY: n < PENDING; the array is the owner's.
        unsafe { (*self.pending.get())[n] = (q, *kind, stack) };
        self.pending_len.store(n + 1, Ordering::Relaxed);
        self.limit_next.store(ATTEND, Ordering::Relaxed);
        true
    }

    /// Takes the events set aside, oldest first.
    ///
    /// # Safety
    /// By the buffer's owner, with signals blocked and not while appending.
    pub(crate) unsafe fn take_aside(&self, mut each: impl FnMut(u64, &SpoolKind, Option<u32>)) {
        self.limit_next.store(SHORT_LIMIT, Ordering::Relaxed);
        self.limit.store(SHORT_LIMIT, Ordering::Relaxed);
        let n = self.pending_len.swap(0, Ordering::Relaxed);
        // SAFETY: the array is the owner's, and no handler can run.
        let pending = unsafe { *self.pending.get() };
        pending[..n].iter().for_each(|(q, kind, stack)| each(*q, kind, *stack));
    }

    /// The block as it is now: header and payload, ready to be written. None when it is empty.
    ///
    /// # Safety
    /// Under the buffer's lock.
    pub(crate) unsafe fn block(&self, clock: BlockClock) -> Option<&[u8]> {
        let len = self.filled();
        if len == 0 {
            return None;
        }
        // SAFETY: up to the cursor the owner has written and, without the lock, will not write again; the header's
        // place is used under the lock only.
        unsafe {
            let payload = core::slice::from_raw_parts(self.byte(PAYLOAD_AT), len);
            let header = BlockHeader {
                len: len as u32,
                kind: BlockKind::Events,
                thread: *self.thread.get(),
                seq: *self.seq.get(),
                first_quantum: self.first_quantum.load(Ordering::Relaxed),
                tsc: clock.tsc,
                mono_ns: clock.mono_ns,
                own_bytes: clock.own_bytes,
                payload_crc: crc32fast::hash(payload),
            };
            let bytes = header.to_bytes();
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.byte(BLOCK_AT), bytes.len());
            Some(core::slice::from_raw_parts(self.byte(BLOCK_AT), BLOCK_HEADER_LEN + len))
        }
    }

    /// A sweep comes by: an owner who has something is asked to write it out, at its next event but one. What it has not
    /// written by the next sweep, because it rests, is the answer.
    ///
    /// # Safety
    /// Under the buffer's lock.
    pub(crate) unsafe fn sweep(&self, clock: impl FnOnce() -> BlockClock) -> Option<&[u8]> {
        if self.filled() <= self.swept.load(Ordering::Relaxed) {
            return None;
        }
        // The owner may take its pending events at this moment and overwrite this. Then it is asked by the next sweep.
        self.limit_next.store(ATTEND, Ordering::Relaxed);
        if !self.asked.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: by the caller.
        let block = unsafe { self.block(clock()) }?;
        self.swept.store(block.len() - BLOCK_HEADER_LEN, Ordering::Relaxed);
        Some(block)
    }

    /// Whether a sweep has asked for what the block holds.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Begins the thread's next block.
    ///
    /// # Safety
    /// By the owner, under the buffer's lock.
    pub(crate) unsafe fn next_block(&self) {
        // SAFETY: by the caller.
        unsafe {
            *self.seq.get() += 1;
            self.start_block((*self.coder.get()).last_quantum());
        }
    }

    fn byte(&self, at: usize) -> *mut u8 {
        self.block.0.get().cast::<u8>().wrapping_add(at - BLOCK_AT)
    }
}

/// What a block's header says about the moment it was written.
#[derive(Clone, Copy)]
pub(crate) struct BlockClock {
    pub(crate) tsc: u64,
    pub(crate) mono_ns: u64,
    pub(crate) own_bytes: u64,
}
