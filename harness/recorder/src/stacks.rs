//! The call stack of each allocation: unwound (`unwind.rs`, else by libgcc), known by a hash, and written to the spool when
//! first met.
//!
//! A table of hashes in shared memory (10 MiB with the rules of unwinding) takes no lock: a stack's number is its place there. Whoever puts a hash in
//! writes the stack, with each frame as an offset in a loaded file, so that it can be named when the file is long unloaded.
//! Addresses may be used again after `dlclose`; the number of such calls is part of the hash.
//!
//! While a thread is being unwound nothing it does (in a signal handler, in the unwinder) is unwound again: what
//! allocates then is recorded without a stack. The loader's list of files is walked by `dl_iterate_phdr`, whose lock is
//! never held while constructors run; no lock of the recorder is held when it is taken.
//!
//! Refuses: frames of code without unwinding tables, where a stack ends early; more than some 900,000 stacks and 4096
//! files; to see files that libc itself unloads (character sets, name services).
//!
//! Source: Itanium C++ ABI, Exception Handling 1.3 (`_Unwind_Backtrace`, `_Unwind_GetIPInfo`); dl_iterate_phdr(3); the
//! hash is FNV-1a's step over words, with a last mix of its high half.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use fragbench_trace::spool::SpoolKind;
use fragbench_trace::spool::format::{BLOCK_HEADER_LEN, BlockKind};
use fragbench_trace::spool::stacks::{BUILD_ID_MAX, DEPTH_MAX, STACK_MAX, put_frames};

use crate::config::PATH_MAX;
use crate::lock::Lock;
use crate::process::PROCESS;
use crate::raw::{self, Quiet};
use crate::real;
use crate::tls::Tls;
use crate::unwind::{self, Known, RULES};

const HASHES: usize = 1 << 20;
/// Places looked at for a hash. At nine tenths full, linear probing looks at 50 on average for a new one (Knuth 6.4).
const PROBES: usize = 400;
const MODULES: usize = 4096;
const MODULE_LEN: usize = BLOCK_HEADER_LEN + 1 + BUILD_ID_MAX + 2 * PATH_MAX;

#[repr(C)]
struct Table {
    /// 0 is empty.
    hashes: [AtomicU64; HASHES],
    rules: [Known; RULES],
    modules: UnsafeCell<Modules>,
}
// SAFETY: the modules are used under their lock.
unsafe impl Sync for Table {}

struct Modules {
    /// Hashes of what is known of each.
    seen: [u64; MODULES],
    /// Of the module in hand. Not on the stack, which is the program's and may be small.
    block: [u8; MODULE_LEN],
}

/// All zero when stacks are not recorded.
pub(crate) struct Stacks {
    depth: AtomicU32,
    table: AtomicPtr<Table>,
    /// Held to read and add modules.
    lock: Lock,
    modules: AtomicU32,
    /// Where this library's code is.
    own: [AtomicU64; 2],
}

/// Calls of `dlclose` so far.
static UNLOADED: AtomicU64 = AtomicU64::new(0);

#[repr(C)]
struct Context([u8; 0]);

unsafe extern "C" {
    fn _Unwind_Backtrace(each: extern "C" fn(*mut Context, *mut c_void) -> c_int, arg: *mut c_void) -> c_int;
    fn _Unwind_GetIPInfo(context: *mut Context, before_instruction: *mut c_int) -> usize;
}
/// `_URC_NO_REASON` and `_URC_END_OF_STACK`.
const GO_ON: c_int = 0;
const ENOUGH: c_int = 5;

/// A stack while it is unwound.
struct Unwound {
    frames: [u64; DEPTH_MAX],
    len: usize,
    depth: usize,
    own: [u64; 2],
}

/// The number of the calling thread's stack, for an event that allocates.
///
/// # Safety
/// `tls` is the calling thread's.
#[inline]
pub(crate) unsafe fn of(tls: *mut Tls, kind: &SpoolKind) -> Option<u32> {
    use SpoolKind::{Aligned, Calloc, Malloc, Realloc};
    let depth = PROCESS.stacks.depth();
    let allocates = matches!(kind, Malloc { .. } | Calloc { .. } | Aligned { .. } | Realloc { .. });
    // SAFETY: the thread's own word.
    let unwinding = unsafe { (*tls).unwinding };
    if depth == 0 || unwinding || !allocates {
        return None;
    }
    // Volatile, so that a signal handler sees it.
    // SAFETY: the thread's own word.
    unsafe { (&raw mut (*tls).unwinding).write_volatile(true) };
    let number = PROCESS.stacks.unwind(depth as usize);
    // SAFETY: as above.
    unsafe { (&raw mut (*tls).unwinding).write_volatile(false) };
    number
}

extern "C" fn frame(context: *mut Context, arg: *mut c_void) -> c_int {
    // SAFETY: `unwind` passes its own.
    let unwound = unsafe { &mut *arg.cast::<Unwound>() };
    let mut before = 0;
    // SAFETY: the context is the unwinder's, for the time of this call.
    let ip = unsafe { _Unwind_GetIPInfo(context, &raw mut before) } as u64;
    if ip == 0 {
        return ENOUGH;
    }
    // A return address belongs to the call before it, which may be the last instruction of its function.
    let at = ip - u64::from(before == 0);
    if unwound.push(at) { ENOUGH } else { GO_ON }
}

impl Unwound {
    /// Takes a frame, unless it is this library's at the inner end. True when there are enough.
    #[inline]
    fn push(&mut self, at: u64) -> bool {
        if self.len > 0 || !(self.own[0]..self.own[1]).contains(&at) {
            self.frames[self.len] = at;
            self.len += 1;
        }
        self.len == self.depth
    }
}

impl Stacks {
    pub(crate) const fn new() -> Self {
        Self {
            depth: AtomicU32::new(0),
            table: AtomicPtr::new(ptr::null_mut()),
            lock: Lock::new(),
            modules: AtomicU32::new(0),
            own: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// Frames of a stack; 0 when none are recorded.
    #[inline]
    pub(crate) fn depth(&self) -> u32 {
        self.depth.load(Ordering::Relaxed)
    }

    /// Bytes mapped.
    pub(crate) fn mapped(&self) -> u64 {
        if self.table.load(Ordering::Relaxed).is_null() { 0 } else { size_of::<Table>() as u64 }
    }

    /// Makes ready for stacks of so many frames. False when there are to be none, or is no memory for them.
    pub(crate) fn set_up(&self, depth: u32) -> bool {
        if depth == 0 {
            self.depth.store(0, Ordering::Release);
            return false;
        }
        // Of an earlier recording: its numbers mean nothing in this one's spool.
        let earlier = self.table.swap(ptr::null_mut(), Ordering::AcqRel);
        if !earlier.is_null() {
            // SAFETY: mapped below, and nobody is inside this library when a recording begins anew.
            unsafe { raw::unmap(earlier.cast(), size_of::<Table>()) };
            self.modules.store(0, Ordering::Relaxed);
        }
        let Some(table) = raw::map_shared(size_of::<Table>()) else { return false };
        // A forked child makes its own.
        raw::madvise(table, size_of::<Table>(), libc::MADV_DONTFORK);
        self.table.store(table.cast(), Ordering::Release);
        let mut own = [0, 0];
        each_code(&mut |_, code| {
            if (code[0]..code[1]).contains(&(frame as *const () as u64)) {
                own = code;
            }
            own[1] != 0
        });
        for (to, from) in self.own.iter().zip(own) {
            to.store(from, Ordering::Relaxed);
        }
        self.depth.store(depth, Ordering::Release);
        true
    }

    #[inline(never)]
    fn unwind(&self, depth: usize) -> Option<u32> {
        let own = [0, 1].map(|i| self.own[i].load(Ordering::Relaxed));
        // SAFETY: mapped by `set_up` in this process, for good.
        let table = unsafe { self.table.load(Ordering::Acquire).as_ref() }?;
        let unloaded = UNLOADED.load(Ordering::Relaxed);
        let mut unwound = Unwound { frames: [0; DEPTH_MAX], len: 0, depth, own };
        if !unwind::walk(&table.rules, unloaded, |at| unwound.push(at)) {
            unwound.len = 0;
            // SAFETY: the callback is of the type asked for and gets what it expects.
            unsafe { _Unwind_Backtrace(frame, (&raw mut unwound).cast()) };
        }
        let frames = &unwound.frames[..unwound.len];
        let mut hash = unloaded ^ 0xcbf2_9ce4_8422_2325;
        for at in frames {
            hash = (hash ^ at).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
        hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1);
        let first = (hash >> 44) as usize;
        for place in (first..first + PROBES).map(|place| place % HASHES) {
            let slot = &table.hashes[place];
            let known = match slot.load(Ordering::Relaxed) {
                0 => slot.compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed).unwrap_or_else(|other| other),
                known => known,
            };
            if known == 0 {
                self.write(place as u32, frames);
            }
            if known == 0 || known == hash {
                return Some(place as u32);
            }
        }
        None
    }

    /// Writes a stack that was not met before.
    #[cold]
    fn write(&self, number: u32, frames: &[u64]) {
        let _quiet = Quiet::new();
        let mut resolved = [(None, 0); DEPTH_MAX];
        resolved.iter_mut().zip(frames).for_each(|(to, at)| *to = (None, *at));
        let resolved = &mut resolved[..frames.len()];
        let mut left = frames.len();
        each_code(&mut |object, code| {
            let mut module = None;
            for (frame, at) in resolved.iter_mut().zip(frames).filter(|(_, at)| (code[0]..code[1]).contains(at)) {
                let module = *module.get_or_insert_with(|| self.module(object));
                if module.is_some() {
                    *frame = (module, at.wrapping_sub(object.dlpi_addr));
                }
                left -= 1;
            }
            left == 0
        });
        let mut block = [0; BLOCK_HEADER_LEN + STACK_MAX];
        let mut payload = [0; STACK_MAX];
        let len = put_frames(resolved, &mut payload);
        block[BLOCK_HEADER_LEN..].copy_from_slice(&payload);
        PROCESS.write_once(BlockKind::Stack, number, &mut block, len);
    }

    /// The number of a loaded file, which is written when first met.
    fn module(&self, object: &libc::dl_phdr_info) -> Option<u32> {
        // SAFETY: mapped by `set_up` in this process, for good.
        let table = unsafe { self.table.load(Ordering::Acquire).as_ref() }?;
        let _held = self.lock.hold();
        // SAFETY: the lock is held.
        let modules = unsafe { &mut *table.modules.get() };
        let len = describe(object, &mut modules.block);
        let mut identity = object.dlpi_addr;
        for byte in &modules.block[BLOCK_HEADER_LEN..len] {
            identity = (identity ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let known = self.modules.load(Ordering::Relaxed) as usize;
        if let Some(number) = modules.seen[..known].iter().position(|m| *m == identity) {
            return Some(number as u32);
        }
        *modules.seen.get_mut(known)? = identity;
        self.modules.store(known as u32 + 1, Ordering::Relaxed);
        PROCESS.write_once(BlockKind::Module, known as u32, &mut modules.block, len - BLOCK_HEADER_LEN);
        Some(known as u32)
    }
}

/// A loaded file's path, of at most `out`'s length.
pub(crate) fn path_of<'o>(object: &libc::dl_phdr_info, out: &'o mut [u8; 512]) -> &'o [u8] {
    // SAFETY: the loader's string, as long as its lock is held; it may be null.
    let name = if object.dlpi_name.is_null() { c"" } else { unsafe { CStr::from_ptr(object.dlpi_name) } };
    let name = name.to_bytes();
    let n = if name.is_empty() {
        raw::program(&mut out[..])
    } else {
        let n = name.len().min(out.len());
        out[..n].copy_from_slice(&name[..n]);
        n
    };
    &out[..n]
}

/// Puts a module's payload behind the place of its header; answers where it ends.
fn describe(object: &libc::dl_phdr_info, block: &mut [u8; MODULE_LEN]) -> usize {
    let mut at = BLOCK_HEADER_LEN;
    let mut push = |from: &[u8]| {
        let n = from.len().min(MODULE_LEN - at);
        block[at..at + n].copy_from_slice(&from[..n]);
        at += n;
    };
    let id = build_id(object);
    push(&[id.len() as u8]);
    push(id);
    // SAFETY: the loader's string, as long as its lock is held; it may be null.
    let name = if object.dlpi_name.is_null() { c"" } else { unsafe { CStr::from_ptr(object.dlpi_name) } };
    let name = name.to_bytes();
    // What the kernel maps (linux-vdso.so.1) is no file and has no directory.
    if name.is_empty() {
        return at + raw::program(&mut block[at..][..PATH_MAX]);
    }
    if name[0] != b'/' && name.contains(&b'/') {
        at += raw::directory(&mut block[at..][..PATH_MAX]);
        block[at] = b'/';
        at += 1;
    }
    let n = name.len().min(MODULE_LEN - at);
    block[at..at + n].copy_from_slice(&name[..n]);
    at + n
}

/// Shows the code of each loaded file, from and to, until told that it is enough.
pub(crate) fn each_code(show: &mut dyn FnMut(&libc::dl_phdr_info, [u64; 2]) -> bool) {
    unsafe extern "C" fn object(info: *mut libc::dl_phdr_info, _: usize, arg: *mut c_void) -> c_int {
        // SAFETY: the loader's description of a file, for the time of this call, and what is passed below.
        let (info, show) =
            unsafe { (&*info, &mut *arg.cast::<&mut dyn FnMut(&libc::dl_phdr_info, [u64; 2]) -> bool>()) };
        for segment in segments(info) {
            if segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_X != 0 {
                let from = info.dlpi_addr.wrapping_add(segment.p_vaddr);
                if show(info, [from, from.wrapping_add(segment.p_memsz)]) {
                    return 1;
                }
            }
        }
        0
    }
    let mut show = show;
    // SAFETY: the callback is of the type asked for and gets what it expects; it does not outlive the call.
    unsafe { libc::dl_iterate_phdr(Some(object), (&raw mut show).cast()) };
}

pub(crate) fn segments(object: &libc::dl_phdr_info) -> &[libc::Elf64_Phdr] {
    if object.dlpi_phdr.is_null() {
        return &[];
    }
    // SAFETY: the loader's table of this many entries.
    unsafe { core::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) }
}

/// The build id in a loaded file's notes; empty without one. Notes are aligned to four bytes: size of the name and of
/// the contents, type, name, contents.
pub(crate) fn build_id(object: &libc::dl_phdr_info) -> &[u8] {
    for note in segments(object).iter().filter(|s| s.p_type == libc::PT_NOTE && s.p_flags & libc::PF_R != 0) {
        let (start, len) = (object.dlpi_addr.wrapping_add(note.p_vaddr) as *const u8, note.p_memsz as usize);
        // SAFETY: a readable segment of the file, mapped while the loader's lock is held.
        let notes = unsafe { core::slice::from_raw_parts(start, len) };
        let word = |at: usize| notes.get(at..at + 4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]) as usize);
        let mut at = 0;
        while let (Some(name), Some(contents), Some(kind)) = (word(at), word(at + 4), word(at + 8)) {
            let name_end = at + 12 + name.next_multiple_of(4);
            let found = notes.get(name_end..name_end + contents);
            if kind == 3
                && notes.get(at + 12..at + 16) == Some(b"GNU\0")
                && let Some(id) = found
            {
                return &id[..id.len().min(BUILD_ID_MAX)];
            }
            at = name_end + contents.next_multiple_of(4);
        }
    }
    &[]
}

/// libc's `dlclose`, counted: addresses of what it unloads may come to mean something else.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dlclose(handle: *mut c_void) -> c_int {
    let next = real::next(c"dlclose");
    if next.is_null() {
        return -1;
    }
    // SAFETY: libc's function of that name is of that type; the caller's contract is that of the function.
    let result =
        unsafe { core::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void) -> c_int>(next)(handle) };
    UNLOADED.fetch_add(1, Ordering::Relaxed);
    result
}
