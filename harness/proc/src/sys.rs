//! System calls that read another process, behind safe calls: `process_vm_readv` and `PAGEMAP_SCAN`.
//!
//! Source: process_vm_readv(2); Documentation/admin-guide/mm/pagemap.rst and include/uapi/linux/fs.h of Linux 6.7.

use std::fs::File;
use std::io::{Error, Result};
use std::ops::Range;
use std::os::fd::AsRawFd;

use crate::target::Part;

/// Entries the kernel takes in one call (`UIO_MAXIOV`).
const MOST: usize = 1024;

/// Reads every part it can from another process. A part that cannot be read whole is left not done, and the next one is
/// tried.
///
/// # Errors
/// Anything but an address that is not there.
pub(crate) fn read_process(pid: u32, parts: &mut [Part<'_>]) -> Result<()> {
    let mut next = 0;
    while next < parts.len() {
        let end = parts.len().min(next + MOST);
        let batch = &mut parts[next..end];
        let entry = |base: *mut u8, len: usize| libc::iovec { iov_base: base.cast(), iov_len: len };
        let local: Vec<_> = batch.iter_mut().map(|p| entry(p.into.as_mut_ptr(), p.into.len())).collect();
        let remote: Vec<_> = batch.iter().map(|p| entry(p.address as *mut u8, p.into.len())).collect();
        // SAFETY: the local entries are exclusive borrows that outlive the call; the kernel checks the remote ones and
        // never writes to them.
        let got = unsafe {
            libc::process_vm_readv(
                pid as libc::pid_t,
                local.as_ptr(),
                local.len() as libc::c_ulong,
                remote.as_ptr(),
                remote.len() as libc::c_ulong,
                0,
            )
        };
        let mut left = match usize::try_from(got) {
            Ok(bytes) => bytes,
            Err(_) => match Error::last_os_error() {
                e if e.raw_os_error() == Some(libc::EFAULT) => 0,
                e => return Err(e),
            },
        };
        let mut done = 0;
        for part in batch.iter_mut() {
            let Some(rest) = left.checked_sub(part.into.len()) else { break };
            left = rest;
            part.done = true;
            done += 1;
        }
        // The first part that was not read is the one at fault.
        next += if done == batch.len() { done } else { done + 1 };
    }
    Ok(())
}

/// Pages of one kind in a row, as `PAGEMAP_SCAN` gives them (`struct page_region`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PageRegion {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) categories: u64,
}

/// `PAGE_IS_FILE`: of a file or of shared memory.
pub(crate) const IS_FILE: u64 = 1 << 2;
/// `PAGE_IS_PRESENT`.
pub(crate) const IS_PRESENT: u64 = 1 << 3;
/// `PAGE_IS_SWAPPED`.
pub(crate) const IS_SWAPPED: u64 = 1 << 4;
/// `PAGE_IS_GUARD`, since Linux 6.15: a guard made by `madvise`, which counts as swapped too and holds nothing.
pub(crate) const IS_GUARD: u64 = 1 << 8;

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: u64 = 3 << 30 | (size_of::<ScanArgument>() as u64) << 16 | (b'f' as u64) << 8 | 16;
/// Regions asked for in one call.
const REGIONS: usize = 1024;

/// Hands every run of pages of the range that are in memory or in swap to `found`, ascending, with those of the
/// categories `told` that hold for it. Holes cost nothing.
///
/// # Errors
/// `ENOTTY` where the kernel does not know the call (before 6.7), `EINVAL` where it does not know a category.
pub(crate) fn scan_pagemap(
    pagemap: &File,
    range: Range<u64>,
    told: u64,
    mut found: impl FnMut(PageRegion),
) -> Result<()> {
    let mut regions = [PageRegion::default(); REGIONS];
    let mut at = range.start;
    // A call that goes on where a full one ended can give the last run of that one again.
    let mut seen = range.start;
    while at < range.end {
        let mut argument = ScanArgument {
            size: size_of::<ScanArgument>() as u64,
            start: at,
            end: range.end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: REGIONS as u64,
            category_anyof_mask: IS_PRESENT | IS_SWAPPED,
            return_mask: told,
            ..ScanArgument::default()
        };
        // SAFETY: the argument and the regions it points at outlive the call, and `vec_len` is their number; without
        // the flags that ask for write protection the call only reads the page tables.
        let got = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN as libc::Ioctl, &mut argument) };
        let Ok(got) = usize::try_from(got) else { return Err(Error::last_os_error()) };
        for region in regions.iter().take(got) {
            let start = region.start.max(seen);
            seen = seen.max(region.end);
            if start < region.end {
                found(PageRegion { start, ..*region });
            }
        }
        if argument.walk_end <= at {
            break;
        }
        at = argument.walk_end;
    }
    Ok(())
}
