//! The spool file: created once an image, then only appended to, each block at a place of its own that is reserved
//! by one atomic addition, so that threads never write over each other and no lock is held while writing.
//!
//! Programs close descriptors they do not know, and reuse their numbers. Before each write the descriptor must still
//! be our file; if not, the file is opened again, and if that fails recording stops. It refuses to write anywhere else.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use fragbench_trace::spool::format::{HEADER_LEN, STATUS_AT};

use crate::config::PATH_MAX;
use crate::raw;

/// Descriptors from here on are rarely in a program's way, and its table of descriptors stays small.
const DESCRIPTOR_MIN: i32 = 900;
/// Images of one process (by exec), and chance files of an earlier process of the same number.
const NAMES_TRIED: u32 = 100_000;

/// All zero when there is none.
pub(crate) struct SpoolFile {
    /// Descriptor plus one.
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
    /// Where the next block goes.
    offset: AtomicU64,
    limit: AtomicU64,
}

/// The path, to open the file again.
struct Path {
    bytes: UnsafeCell<[u8; PATH_MAX]>,
    len: AtomicU32,
}
// SAFETY: written by the one thread that sets an image up, read afterwards.
unsafe impl Sync for Path {}
static PATH: Path = Path { bytes: UnsafeCell::new([0; PATH_MAX]), len: AtomicU32::new(0) };

/// Appends text to a path.
struct Text<'a> {
    out: &'a mut [u8; PATH_MAX],
    at: usize,
}

impl Text<'_> {
    fn push(&mut self, bytes: &[u8]) {
        let end = (self.at + bytes.len()).min(PATH_MAX);
        self.out[self.at..end].copy_from_slice(&bytes[..end - self.at]);
        self.at = end;
    }

    fn push_number(&mut self, mut n: u32) {
        let mut digits = [0; 10];
        let mut from = digits.len();
        loop {
            from -= 1;
            digits[from] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        self.push(&digits[from..]);
    }
}

impl SpoolFile {
    pub(crate) const fn new() -> Self {
        Self {
            fd: AtomicI32::new(0),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            limit: AtomicU64::new(0),
        }
    }

    /// Creates `PREFIX.PID.N.spool` with the least free N and writes its header. Errors are errno values.
    pub(crate) fn create(&self, prefix: &[u8], pid: u32, header: &[u8; HEADER_LEN], limit: u64) -> Result<(), i32> {
        let mut n = 0;
        let opened = loop {
            // SAFETY: the one thread that sets the image up.
            let mut text = Text { out: unsafe { &mut *PATH.bytes.get() }, at: 0 };
            text.push(prefix);
            text.push(b".");
            text.push_number(pid);
            text.push(b".");
            text.push_number(n);
            text.push(b".spool\0");
            PATH.len.store(text.at as u32, Ordering::Relaxed);
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
            match raw::open(&text.out[..text.at], flags) {
                Err(libc::EEXIST) if n < NAMES_TRIED => n += 1,
                other => break other?,
            }
        };
        let fd = self.adopt(opened);
        let (device, inode) = raw::identity(fd).ok_or(libc::EBADF)?;
        self.device.store(device, Ordering::Relaxed);
        self.inode.store(inode, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
        self.offset.store(HEADER_LEN as u64, Ordering::Relaxed);
        self.write(header, 0)
    }

    /// Lets go of an earlier recording's file. While nobody writes.
    pub(crate) fn forget(&self) {
        let ours = Some((self.device.load(Ordering::Relaxed), self.inode.load(Ordering::Relaxed)));
        let fd = self.fd.swap(0, Ordering::AcqRel) - 1;
        if fd >= 0 && raw::identity(fd) == ours {
            raw::close(fd);
        }
    }

    /// Moves the descriptor out of the program's way.
    fn adopt(&self, opened: i32) -> i32 {
        let fd = match raw::dup_above(opened, DESCRIPTOR_MIN) {
            Some(high) => {
                raw::close(opened);
                high
            }
            None => opened,
        };
        self.fd.store(fd + 1, Ordering::Release);
        fd
    }

    /// A descriptor that is our file for certain.
    fn descriptor(&self) -> Result<i32, i32> {
        let ours = Some((self.device.load(Ordering::Relaxed), self.inode.load(Ordering::Relaxed)));
        let fd = self.fd.load(Ordering::Acquire) - 1;
        if fd >= 0 && raw::identity(fd) == ours {
            return Ok(fd);
        }
        // SAFETY: written before the image was set up, and not since.
        let path = unsafe { &(&*PATH.bytes.get())[..PATH.len.load(Ordering::Relaxed) as usize] };
        let again = raw::open(path, libc::O_WRONLY | libc::O_CLOEXEC)?;
        if raw::identity(again) != ours {
            raw::close(again);
            return Err(libc::EBADF);
        }
        Ok(self.adopt(again))
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), i32> {
        let done = raw::write_at(self.descriptor()?, bytes, at);
        if done == Err(libc::EFBIG) {
            raw::drop_pending_xfsz();
        }
        done
    }

    /// Appends a block. `Err(0)` if it would pass the size limit, otherwise an errno value.
    pub(crate) fn append(&self, block: &[u8]) -> Result<(), i32> {
        let len = block.len() as u64;
        if len > self.room() {
            return Err(0);
        }
        let at = self.offset.fetch_add(len, Ordering::Relaxed);
        self.write(block, at)
    }

    /// Bytes left below the size limit.
    pub(crate) fn room(&self) -> u64 {
        self.limit.load(Ordering::Relaxed).saturating_sub(self.offset.load(Ordering::Relaxed))
    }

    /// Bytes of header and blocks so far.
    pub(crate) fn written(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Writes the second part of the header anew, if that is possible; it takes no room that was not taken before.
    pub(crate) fn rewrite_status(&self, status: &[u8; HEADER_LEN - STATUS_AT]) {
        let _ = self.write(status, STATUS_AT as u64);
    }
}
