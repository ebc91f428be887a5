//! Shared mappings of memory files, and how much address space the harness holds.
//!
//! Every mapping has a file of its own, closed at once, so that unmapping it gives its memory back and no descriptor
//! stays open. They show as `/memfd:fragbench` in `/proc/PID/maps`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Address space mapped by the harness, bytes.
static VM_BYTES: AtomicU64 = AtomicU64::new(0);

/// Address space the harness holds in this process: its heap, its threads' stacks, the counter page, and whatever else
/// was reported by [`note_mapped`]. The program's own segments and the main thread's stack are not in it.
pub fn vm_bytes() -> u64 {
    VM_BYTES.load(Ordering::Relaxed)
}

/// Adds a mapping the harness made by itself, for instance of a trace file.
pub fn note_mapped(bytes: usize) {
    VM_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Takes away what [`note_mapped`] added.
pub fn note_unmapped(bytes: usize) {
    VM_BYTES.fetch_sub(bytes as u64, Ordering::Relaxed);
}

/// Maps `size` bytes (a multiple of the page size) of fresh zeroed shared memory; null when there is none.
pub(crate) fn map(size: usize) -> *mut u8 {
    // SAFETY: the name is a C string; the file is private to this call; the kernel picks the address.
    let ptr = unsafe {
        // By number: glibc has the function since 2.27 only, the kernel since 3.17.
        let file = libc::syscall(libc::SYS_memfd_create, c"fragbench".as_ptr(), libc::MFD_CLOEXEC) as libc::c_int;
        if file < 0 {
            return std::ptr::null_mut();
        }
        let ptr = if libc::ftruncate(file, size as libc::off_t) == 0 {
            libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file, 0)
        } else {
            libc::MAP_FAILED
        };
        libc::close(file);
        ptr
    };
    if ptr == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    note_mapped(size);
    ptr.cast()
}

/// Unmaps part of what [`map`] gave.
///
/// # Safety
/// Nobody uses the range any more.
pub(crate) unsafe fn unmap(ptr: *mut u8, size: usize) -> bool {
    // SAFETY: the caller's promise. Pages of a file that stays partly mapped are dropped first.
    let done = unsafe {
        libc::madvise(ptr.cast(), size, libc::MADV_REMOVE);
        libc::munmap(ptr.cast(), size) == 0
    };
    if done {
        note_unmapped(size);
    }
    done
}

/// Where dlmalloc gets its segments.
#[derive(Debug)]
pub(crate) struct MemoryFiles;

// SAFETY: every segment is a fresh mapping of its own; sizes are what was mapped.
unsafe impl dlmalloc::Allocator for MemoryFiles {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let ptr = map(size);
        if ptr.is_null() { (ptr, 0, 0) } else { (ptr, size, 0) }
    }

    fn remap(&self, _ptr: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        // A mapping cannot outgrow its file; dlmalloc copies instead.
        std::ptr::null_mut()
    }

    fn free_part(&self, ptr: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: dlmalloc gives up the tail it names.
        unsafe { unmap(ptr.add(new), old - new) }
    }

    fn free(&self, ptr: *mut u8, size: usize) -> bool {
        // SAFETY: dlmalloc gives up the segment.
        unsafe { unmap(ptr, size) }
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}
