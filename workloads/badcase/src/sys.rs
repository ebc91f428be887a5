//! What recipes ask of libc and the kernel besides the malloc API: limits, the program break, glibc's own statistics and
//! structures. All of the crate's `unsafe` is here. A call that the machine refuses ends the run with its name.

use fragbench_model::WorkerErrorKind;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use fragbench_engine::{Block, fail, heap, refuse};

unsafe extern "C" {
    /// unistd.h; the `libc` crate leaves it out on Linux.
    fn sbrk(increment: libc::intptr_t) -> *mut c_void;
}

/// Ends the run: `what` was refused.
fn refused(what: &str) -> ! {
    let error = io::Error::last_os_error();
    fail(refuse(WorkerErrorKind::Internal, format!("{what}: {error}; the case needs it")))
}

/// A lowered `RLIMIT_AS`; dropping it sets what was before.
#[derive(Debug)]
pub(crate) struct AddressSpaceLimit(libc::rlimit);

impl AddressSpaceLimit {
    /// Leaves the process `room` bytes of address space besides what it has mapped now.
    pub(crate) fn with_room(room: u64) -> AddressSpaceLimit {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a valid structure to write to.
        if unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut before) } != 0 {
            refused("getrlimit(RLIMIT_AS)");
        }
        let Some(now) = mapped_bytes() else { refused("VmSize of /proc/self/status") };
        let limit = libc::rlimit { rlim_cur: before.rlim_cur.min(now + room), ..before };
        // SAFETY: a valid structure to read.
        if unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) } != 0 {
            refused("setrlimit(RLIMIT_AS)");
        }
        AddressSpaceLimit(before)
    }
}

impl Drop for AddressSpaceLimit {
    fn drop(&mut self) {
        // SAFETY: a valid structure to read; the hard limit was not changed.
        unsafe { libc::setrlimit(libc::RLIMIT_AS, &self.0) };
    }
}

/// Address space mapped now: where a limit is to begin, not a figure of the run.
fn mapped_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// The end of the program's data segment.
pub(crate) fn program_break() -> usize {
    // SAFETY: moves nothing.
    unsafe { sbrk(0) as usize }
}

/// Takes `bytes` of the data segment for oneself, as a program with an allocator of its own does.
pub(crate) fn take_data_segment(bytes: usize) {
    // SAFETY: the new bytes are used by nobody; malloc copes with a break that others have moved.
    if unsafe { sbrk(bytes as libc::intptr_t) } as isize == -1 {
        refused("sbrk");
    }
}

/// Maps an inaccessible page just above the data segment, for good: it cannot grow past that.
pub(crate) fn block_data_segment() {
    // SAFETY: a plain question; a new mapping where none is, nothing is replaced.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let wanted = (program_break().next_multiple_of(page) + page) as *mut c_void;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        if libc::mmap(wanted, page, libc::PROT_NONE, flags, -1, 0) != wanted {
            refused("mmap above the data segment");
        }
    }
}

/// `mallopt(M_TOP_PAD)`. Other allocators have it without effect, or not at all: then it is glibc's.
pub(crate) fn set_top_pad(bytes: c_int) {
    // SAFETY: takes integers.
    unsafe { libc::mallopt(libc::M_TOP_PAD, bytes) };
}

/// Times the calling thread has gone to sleep of itself, as a thread does that waits for a lock.
pub(crate) fn times_slept() -> u64 {
    // SAFETY: a valid structure to write to; the call always succeeds for one's own thread.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage.ru_nvcsw as u64
    }
}

/// `madvise(MADV_HUGEPAGE)` on the pages that lie wholly within a block.
pub(crate) fn advise_huge_pages(block: &Block) {
    // SAFETY: a plain question; the advice changes no contents, and the range is a live block's.
    let status = unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let start = block.address().next_multiple_of(page);
        let end = (block.address() + block.size()) / page * page;
        libc::madvise(start as *mut c_void, end - start, libc::MADV_HUGEPAGE)
    };
    if status != 0 {
        refused("madvise(MADV_HUGEPAGE)");
    }
}

/// Bytes that `mallinfo` says malloc has from the system, mappings included: two `int`s, added up.
pub(crate) fn mallinfo_system() -> i64 {
    // SAFETY: takes nothing.
    let info = unsafe { libc::mallinfo() };
    i64::from(info.arena) + i64::from(info.hblkhd)
}

/// The same of `mallinfo2`; `None` before glibc 2.33.
pub(crate) fn mallinfo2_system() -> Option<u64> {
    // SAFETY: a C string; a function of this name has this type (malloc.h). When there is none, the linker's message is
    // freed again, as far as it can be.
    unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"mallinfo2".as_ptr());
        if symbol.is_null() {
            libc::dlerror();
            return None;
        }
        let call = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> libc::mallinfo2>(symbol);
        let info = call();
        Some((info.arena + info.hblkhd) as u64)
    }
}

/// What `malloc_stats` writes to standard error, which goes to a memory file for the length of the call.
pub(crate) fn malloc_stats() -> Option<String> {
    // SAFETY: names are C strings; the file is ours alone; descriptor 2 is what it was when this returns. No other thread
    // writes to it: workloads do not print.
    let mut file = unsafe {
        // By number: glibc has the function since 2.27 only.
        let memory = libc::syscall(libc::SYS_memfd_create, c"malloc_stats".as_ptr(), libc::MFD_CLOEXEC) as c_int;
        let kept = libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, 3);
        if memory < 0 || kept < 0 {
            refused("a second standard error");
        }
        let kept = OwnedFd::from_raw_fd(kept);
        libc::dup2(memory, libc::STDERR_FILENO);
        libc::malloc_stats();
        libc::dup2(kept.as_raw_fd(), libc::STDERR_FILENO);
        File::from_raw_fd(memory)
    };
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
    Some(text)
}

/// Bit of a chunk's size field: it lies in a thread's heap (malloc.c, `NON_MAIN_ARENA`).
const NON_MAIN_ARENA: usize = 4;
/// A thread's heap is aligned to this (arena.c, `HEAP_MAX_SIZE` on 64-bit machines).
const HEAP_MAX_SIZE: usize = 64 << 20;
/// Words before `size` in `heap_info` (arena.c): `ar_ptr`, `prev`. The same in all versions.
const HEAP_INFO_SIZE: usize = 2;

/// Where the usable part of the heap that a block lies in ends: the program break, or the end of what `mprotect` has made
/// usable of a thread's heap. Only for a block on a heap of glibc's, above 16 bytes and below the mmap threshold.
pub(crate) fn heap_end(block: &Block) -> usize {
    // SAFETY: glibc's chunk header is the word before a block; a chunk with the bit set lies in a heap that begins at a
    // multiple of its greatest size, with its `heap_info`.
    unsafe {
        let header = *((block.address() as *const usize).sub(1));
        if header & NON_MAIN_ARENA == 0 {
            return program_break();
        }
        let heap = block.address() & !(HEAP_MAX_SIZE - 1);
        heap + *(heap as *const usize).add(HEAP_INFO_SIZE)
    }
}

/// A copy of this process that has done its work and waits. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    /// The child ends when this does, however its parent ends.
    hold: Option<OwnedFd>,
}

/// Two ends of a pipe: to read from, to write to.
fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are then owned by nobody else.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            refused("pipe2");
        }
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

/// Forks; the child frees every `every`th of its copies of the blocks, and waits. Here they stay as they are. To be called
/// while no other thread runs.
pub(crate) fn fork_and_free(blocks: &[Block], every: usize) -> Child {
    let (done, tell) = pipe();
    let (held, hold) = pipe();
    // SAFETY: the child makes no call but free, which fork has made ready for it, and system calls; it uses no heap of
    // the harness, which it shares with the parent. Its blocks are copies that it owns alone.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            for block in blocks.iter().step_by(every) {
                heap::free(block.address() as *mut u8);
            }
            libc::close(hold.as_raw_fd());
            let mut byte = 0u8;
            libc::write(tell.as_raw_fd(), (&raw const byte).cast(), 1);
            libc::read(held.as_raw_fd(), (&raw mut byte).cast(), 1);
            libc::_exit(0);
        }
        pid
    };
    if pid < 0 {
        refused("fork");
    }
    drop(tell);
    if !matches!(File::from(done).read(&mut [0]), Ok(1)) {
        fail(refuse(WorkerErrorKind::Internal, "the forked child ended before its work was done"));
    }
    Child { pid, hold: Some(hold) }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.hold.take();
        // SAFETY: our own child, waited for once.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}
