//! A thread's measured calls into the heap under test, and the books it keeps about them.
//!
//! Every call counts itself on the thread's line of the shared page (plain loads and stores: one writer), adds the
//! block to the checksum, writes and checks tags, and is timed when its turn has come. There is no way to go on from a
//! damaged block or from memory that has run out: the run ends ([`crate::fail`]).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use fragbench_model::WorkerErrorKind;
use fragbench_model::{ThreadCounters, Touch};

use crate::counters::{Line, Lines};
use crate::heap::{self, ALL_PAGES, Block, Damage};
use crate::latency::Call;
use crate::{Random, clock, fail, refuse};

/// What all ledgers of a run have in common.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share {
    /// What is written into blocks.
    pub touch: Touch,
    /// One call in this many is timed on average; 0 times none.
    pub latency_every: u32,
}

/// A call that was timed; see [`Ledger::log_calls`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedCall {
    /// Its kind.
    pub call: Call,
    /// Identity of the block.
    pub id: u64,
    /// Size asked for; of the block, for a free.
    pub size: usize,
}

/// A thread's handle on the heap under test.
#[derive(Debug)]
pub struct Ledger {
    counters: &'static ThreadCounters,
    touch: Touch,
    thread: u32,
    /// The call that is to be timed, as a value of `ops`; `u64::MAX` for never.
    sample_at: u64,
    every: u32,
    random: Random,
    next_id: u64,
    line: &'static Line,
    lines: Arc<Lines>,
    log: Option<Vec<LoggedCall>>,
}

#[inline(always)]
fn add(counter: &AtomicI64, value: i64) {
    counter.store(counter.load(Relaxed).wrapping_add(value), Relaxed);
}

#[inline(always)]
fn count(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(value), Relaxed);
}

impl Ledger {
    /// Opens the books of thread number `thread`; fails the run when more threads live than the page has lines.
    pub(crate) fn open(lines: &Arc<Lines>, share: Share, thread: u32) -> Ledger {
        let Some(line) = lines.claim() else {
            let most = fragbench_model::MAX_THREAD_COUNTERS;
            fail(refuse(
                WorkerErrorKind::Internal,
                format!("more than {most} threads at one time: ask for fewer threads"),
            ));
        };
        let mut ledger = Ledger {
            counters: line.shared,
            touch: share.touch,
            thread,
            sample_at: u64::MAX,
            every: share.latency_every,
            random: Random::new(0, u64::from(thread)),
            next_id: u64::from(thread) << 40,
            line,
            lines: lines.clone(),
            log: None,
        };
        ledger.plan_sample();
        ledger
    }

    /// Number of this thread, in the order of starting; the main thread is 0.
    pub fn thread(&self) -> u32 {
        self.thread
    }

    /// An identity no other block of the run has.
    #[inline(always)]
    pub fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// `malloc(size)` for a block of identity `id`, touched by the policy.
    #[inline(always)]
    pub fn malloc(&mut self, id: u64, size: usize) -> Block {
        self.malloc_touching(id, size, ALL_PAGES)
    }

    /// As [`Self::malloc`], touching no more than the first `pages` pages.
    #[inline(always)]
    pub fn malloc_touching(&mut self, id: u64, size: usize, pages: u32) -> Block {
        let ptr =
            if self.begin() { self.timed(Call::Malloc, id, size, || heap::malloc(size)) } else { heap::malloc(size) };
        self.obtained(ptr, id, size, pages)
    }

    /// As [`Self::malloc`] of at least one byte, for work whose subject is being refused: `None` is an answer, and counts as
    /// a call.
    pub fn try_malloc(&mut self, id: u64, size: usize) -> Option<Block> {
        let ptr =
            if self.begin() { self.timed(Call::Malloc, id, size, || heap::malloc(size)) } else { heap::malloc(size) };
        (!ptr.is_null()).then(|| self.obtained(ptr, id, size, ALL_PAGES))
    }

    /// `calloc(1, size)`; otherwise as [`Self::malloc_touching`].
    #[inline(always)]
    pub fn calloc(&mut self, id: u64, size: usize, pages: u32) -> Block {
        let ptr =
            if self.begin() { self.timed(Call::Malloc, id, size, || heap::calloc(size)) } else { heap::calloc(size) };
        self.obtained(ptr, id, size, pages)
    }

    /// `aligned_alloc(align, size)`; otherwise as [`Self::malloc_touching`]. `align` is a power of two.
    #[inline(always)]
    pub fn aligned(&mut self, id: u64, align: usize, size: usize, pages: u32) -> Block {
        let ptr = if self.begin() {
            self.timed(Call::Malloc, id, size, || heap::aligned(align, size))
        } else {
            heap::aligned(align, size)
        };
        self.obtained(ptr, id, size, pages)
    }

    /// `realloc(block, size)`, `size` ≥ 1 (a `realloc` to nothing is a free). The tag is checked before, and after it
    /// the copy is; then the block is tagged anew, and pages past the old end are touched, up to page `pages`.
    #[inline(always)]
    pub fn realloc(&mut self, block: Block, size: usize, pages: u32) -> Block {
        debug_assert!(size > 0, "a realloc to nothing is a free");
        self.verify(&block);
        let (old_ptr, old_size, id) = block.into_parts();
        let due = self.begin();
        let call = || {
            // SAFETY: the block is live and was ours alone; its old address is not used again.
            unsafe { heap::realloc(old_ptr, size) }
        };
        let ptr = if due { self.timed(Call::Realloc, id, size, call) } else { call() };
        if ptr.is_null() {
            self.out_of_memory(size);
        }
        // SAFETY: what realloc gave, of the size asked for; the old block is gone.
        let carried = unsafe { Block::from_parts(ptr, old_size, id) };
        if size >= old_size.min(heap::TAG) {
            self.verify(&carried);
        }
        // SAFETY: the same block under its new size.
        let block = unsafe { Block::from_parts(carried.into_parts().0, size, id) };
        add(&self.counters.live_bytes, size as i64 - old_size as i64);
        self.add_to_checksum(id, size);
        block.mark_grown(self.touch, old_size, pages);
        block
    }

    /// Writes the bytes `from..to` of a block by the touch policy: for a pool that comes to use more of what it holds.
    #[inline]
    pub fn write(&self, block: &Block, from: usize, to: usize) {
        block.write(self.touch, from, to);
    }

    /// `free(block)`, after its tag was found whole.
    #[inline(always)]
    pub fn free(&mut self, block: Block) {
        self.verify(&block);
        let (ptr, size, id) = block.into_parts();
        let due = self.begin();
        let call = || {
            // SAFETY: the block is live and was ours alone.
            unsafe { heap::free(ptr) }
        };
        if due {
            self.timed(Call::Free, id, size, call);
        } else {
            call();
        }
        add(&self.counters.live_blocks, -1);
        add(&self.counters.live_bytes, -(size as i64));
    }

    /// Gives a block another identity: its tag is checked and written anew. No call of the malloc API.
    pub fn rename(&mut self, block: Block, id: u64) -> Block {
        self.verify(&block);
        let (ptr, size, _) = block.into_parts();
        // SAFETY: the same block under another identity; the old one is gone.
        let block = unsafe { Block::from_parts(ptr, size, id) };
        block.mark_grown(self.touch, size, 0);
        block
    }

    /// Takes a block out of the checksum: one that is made to bring a heap into a state, and is no work.
    pub fn uncount(&self, id: u64, size: usize) {
        count(&self.line.checksum, heap::mix(id, size).wrapping_neg());
    }

    /// Takes calls out of the count: those that made and freed such blocks.
    pub fn uncount_calls(&self, calls: u64) {
        let ops = self.counters.ops.load(Relaxed);
        self.counters.ops.store(ops.wrapping_sub(calls), Relaxed);
    }

    /// What is written into blocks.
    pub fn touch(&self) -> Touch {
        self.touch
    }

    /// Live bytes on this thread's line: what it and earlier threads of the line have allocated less what they have
    /// freed. Only differences have a meaning.
    #[inline(always)]
    pub fn live_bytes(&self) -> i64 {
        self.counters.live_bytes.load(Relaxed)
    }

    /// From now on keeps a log of the calls that are timed (with [`Share::latency_every`] 1, of all), for the
    /// calibration of a workload against a recording.
    pub fn log_calls(&mut self) {
        self.log = Some(Vec::new());
    }

    /// The calls logged so far.
    pub fn logged(&mut self) -> Vec<LoggedCall> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Counts a wait for another thread's operation, of `ns` nanoseconds.
    pub fn waited(&self, ns: u64) {
        count(&self.counters.waits, 1);
        count(&self.counters.wait_ns, ns);
    }

    #[inline(always)]
    fn obtained(&mut self, ptr: *mut u8, id: u64, size: usize, pages: u32) -> Block {
        if ptr.is_null() && size > 0 {
            self.out_of_memory(size);
        }
        add(&self.counters.live_blocks, 1);
        add(&self.counters.live_bytes, size as i64);
        self.add_to_checksum(id, size);
        // SAFETY: what the heap gave for this size; nobody else knows it.
        let block = unsafe { Block::from_parts(ptr, size, id) };
        block.mark(self.touch, pages);
        block
    }

    #[inline(always)]
    fn add_to_checksum(&self, id: u64, size: usize) {
        count(&self.line.checksum, heap::mix(id, size));
    }

    #[inline(always)]
    fn verify(&self, block: &Block) {
        if let Err(damage) = block.check(self.touch) {
            self.corrupted(block, damage);
        }
    }

    /// Counts the call that comes now, and says whether it is to be timed. Counted before it is made, so that one load
    /// serves both; when all is quiet that is the same number.
    #[inline(always)]
    fn begin(&self) -> bool {
        let ops = self.counters.ops.load(Relaxed);
        self.counters.ops.store(ops.wrapping_add(1), Relaxed);
        ops == self.sample_at
    }

    #[cold]
    #[inline(never)]
    fn timed<R>(&mut self, kind: Call, id: u64, size: usize, call: impl FnOnce() -> R) -> R {
        let start = clock::monotonic_ns();
        let result = call();
        let ns = clock::monotonic_ns() - start;
        if let Some(latency) = &mut *self.line.latency.lock().unwrap_or_else(PoisonError::into_inner) {
            latency.record(kind, ns);
        }
        if let Some(log) = &mut self.log {
            log.push(LoggedCall { call: kind, id, size });
        }
        self.plan_sample();
        result
    }

    /// Plans the next call to be timed. The gap is drawn anew each time, `every` calls on average: a fixed one would
    /// fall in step with a workload that repeats itself.
    fn plan_sample(&mut self) {
        if self.every > 0 {
            self.sample_at = self.counters.ops.load(Relaxed) + self.random.below(u64::from(self.every) * 2 - 1);
        }
    }

    #[cold]
    #[inline(never)]
    fn corrupted(&self, block: &Block, damage: Damage) -> ! {
        fail(refuse(
            WorkerErrorKind::Corruption,
            format!(
                "block {:#x} at {:#x} of {} bytes, checked by thread {}: byte {} is {:#04x}, {:#04x} was written; \
                 the allocator or the program overwrote it: rerun with --touch full, and under another allocator",
                block.id(),
                block.address(),
                block.size(),
                self.thread,
                damage.offset,
                damage.found,
                damage.expected
            ),
        ))
    }

    #[cold]
    #[inline(never)]
    fn out_of_memory(&self, size: usize) -> ! {
        fail(refuse(
            WorkerErrorKind::OutOfMemory,
            format!(
                "thread {} was refused {size} bytes; give the run more memory or address space, or a smaller scale",
                self.thread
            ),
        ))
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.lines.give_back(self.line);
    }
}
