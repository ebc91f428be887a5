//! Thread-owned bump allocation out of chunks mapped without reserve.
//!
//! A thread's position lives in initial-exec thread-local storage: one load and one segment-relative access, valid
//! from the loader's first call of `malloc` on and needing no allocation itself (Rust's `thread_local!` in a shared
//! library calls `__tls_get_addr`, which may allocate). A forked child goes on in its copy of the chunk.
//!
//! Refuses: architectures other than x86-64, whose thread-local access is not written here.
//!
//! Source: U. Drepper, "ELF Handling For Thread-Local Storage", 4.3 (the initial-exec model on x86-64).

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::api::fail;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the null allocator's thread-local position is written for x86-64 only");

/// Address space of all chunks, in bytes.
pub(crate) static MAPPED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Address space a thread takes at a time, in bytes: rare mmap calls, and room for a million threads.
const CHUNK: usize = 64 << 20;
/// Larger requests get a mapping of their own, so that at most a quarter of a chunk is left behind unused.
const OWN_MAPPING: usize = CHUNK / 4;
/// Bytes before a block that hold its usable size.
const HEADER: usize = 8;
/// Alignment of every block, glibc's `MALLOC_ALIGNMENT`.
const ALIGN: usize = 16;
/// The largest request of any allocator.
const MAX_SIZE: usize = isize::MAX as usize;

/// Where the calling thread's next block starts, and where its chunk ends. Both 0 in a new thread; `next` is
/// `ALIGN`-aligned and has its header's room before it.
#[repr(C)]
struct Position {
    next: usize,
    end: usize,
}

core::arch::global_asm!(
    ".pushsection .tbss.fragbench_null_position,\"awT\",@nobits",
    ".globl fragbench_null_position",
    ".hidden fragbench_null_position",
    ".type fragbench_null_position,@object",
    ".size fragbench_null_position,16",
    ".balign 16",
    "fragbench_null_position:",
    ".zero 16",
    ".popsection",
);

/// The calling thread's position.
#[inline(always)]
fn position() -> *mut Position {
    let (thread, offset): (usize, usize);
    // SAFETY: reads the thread pointer and the constant offset the loader stored for the symbol above; see 4.3 of
    // the source named at the top.
    unsafe {
        core::arch::asm!(
            "mov {thread}, qword ptr fs:[0]",
            "mov {offset}, qword ptr [rip + fragbench_null_position@GOTTPOFF]",
            thread = out(reg) thread,
            offset = out(reg) offset,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    thread.wrapping_add(offset) as *mut Position
}

/// Bytes from one block's start to the next's for a request of `size`, which is at most [`MAX_SIZE`].
#[inline(always)]
fn stride(size: usize) -> usize {
    (size + HEADER + ALIGN - 1) & !(ALIGN - 1)
}

/// A zeroed block of `size` bytes; null with `errno` set when memory ends.
#[inline(always)]
pub(crate) fn allocate(size: usize) -> *mut c_void {
    // SAFETY: the position is the calling thread's own and nothing else refers to it.
    let position = unsafe { &mut *position() };
    let room = position.end - position.next;
    // The first comparison keeps the sum in the second from overflowing.
    if size < room && stride(size) <= room { place(position, position.next, size) } else { refill(ALIGN, size) }
}

/// A zeroed block of `size` bytes at a multiple of `align`, a power of two; null with `errno` set when memory ends.
pub(crate) fn allocate_aligned(align: usize, size: usize) -> *mut c_void {
    if align <= ALIGN {
        return allocate(size);
    }
    // SAFETY: the position is the calling thread's own and nothing else refers to it.
    let position = unsafe { &mut *position() };
    let room = position.end - position.next;
    if size < room && align < room {
        let block = position.next.next_multiple_of(align);
        if block + stride(size) <= position.end {
            return place(position, block, size);
        }
    }
    refill(align, size)
}

/// Hands out a block of `size` bytes at `block`; both lie in the position's chunk.
#[inline(always)]
fn place(position: &mut Position, block: usize, size: usize) -> *mut c_void {
    let stride = stride(size);
    position.next = block + stride;
    let block = block as *mut c_void;
    // SAFETY: the header's room before the block is in the chunk and no other block's.
    unsafe { block.cast::<usize>().sub(1).write(stride - HEADER) };
    block
}

/// The first block of a new chunk, or of a mapping of its own when it is large.
///
/// `extern "C"`, which cannot unwind, lets `malloc` end in a jump to it.
#[cold]
#[inline(never)]
extern "C" fn refill(align: usize, size: usize) -> *mut c_void {
    // Room for the first header, the alignment, and the block. Neither sum can overflow below half the range each.
    if size > MAX_SIZE - CHUNK || align > MAX_SIZE {
        return fail(libc::ENOMEM);
    }
    let exact = (ALIGN + align + stride(size)).next_multiple_of(crate::api::page_size());
    // SAFETY: the position is the calling thread's own and nothing else refers to it.
    let own = unsafe { &mut *position() };
    let mut apart = Position { next: 0, end: 0 };
    let (position, mapped) = if exact > OWN_MAPPING {
        let mapped = apart.map(exact);
        (&mut apart, mapped)
    } else {
        // A limit on address space may refuse a whole chunk and still have room for the block.
        let mapped = own.map(CHUNK) || own.map(exact);
        (own, mapped)
    };
    if !mapped {
        return fail(libc::ENOMEM);
    }
    place(position, position.next.next_multiple_of(align), size)
}

impl Position {
    /// Moves to a new mapping of `bytes`; stays where it is when the kernel refuses.
    fn map(&mut self, bytes: usize) -> bool {
        // SAFETY: a new private mapping touches no existing memory.
        let start = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return false;
        }
        MAPPED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        *self = Position { next: start as usize + ALIGN, end: start as usize + bytes };
        true
    }
}

/// Bytes the block can hold.
///
/// # Safety
/// `block` is one this heap handed out.
#[inline(always)]
pub(crate) unsafe fn usable_size(block: *mut c_void) -> usize {
    // SAFETY: the header precedes every block.
    unsafe { block.cast::<usize>().sub(1).read() }
}

/// Grows the block to `size` bytes in place when it is the last of the calling thread's chunk.
///
/// # Safety
/// `block` is one this heap handed out.
pub(crate) unsafe fn extend(block: *mut c_void, size: usize) -> bool {
    // SAFETY: the position is the calling thread's own; the block has a header.
    let (position, old) = unsafe { (&mut *position(), usable_size(block)) };
    let room = position.end.wrapping_sub(block as usize);
    if block as usize + old + HEADER != position.next || size > MAX_SIZE || stride(size) > room {
        return false;
    }
    place(position, block as usize, size);
    true
}
