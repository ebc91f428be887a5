//! Which pages of a larger block the program wrote to between `malloc` and `free`.
//!
//! Whether a page is resident does not tell: most memory a heap hands out was resident before. The contents of a
//! fresh block are indeterminate, so pages that are resident already are marked: a word every 512 bytes that only
//! this address can hold. At `free` a page counts if it is resident and a mark is gone. Pages that are not resident are
//! not made so. A block that was not marked (from `calloc`, `realloc` or before recording began) has all its resident
//! pages counted.
//!
//! Refuses: to see a page that was only read, or written in between the marks.
//!
//! Source: mincore(2); ISO C 7.24.3.6 (`malloc`: "whose value is indeterminate").

use crate::raw;

/// Distance of the marks. Objects of several pages, such as a server's sessions, are written here and there, which asks
/// for many; each costs a cache line, which asks for few. The first is at the start of the page.
const STEP: usize = 512;
const PAGE: usize = 4096;

/// What a mark at this address reads.
fn mark_at(at: usize) -> u64 {
    // Any odd constant with mixed bits does: a program does not write this by chance.
    (at as u64 ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// Marks the resident pages of a fresh block, but for the one it begins in.
///
/// # Safety
/// `p..p + len` is a block that `malloc` has just handed out and the program has not seen yet.
pub(crate) unsafe fn mark(p: usize, len: usize) {
    each_resident(p, len, |page| {
        for at in marks(page, p + len) {
            // SAFETY: within the block by `marks`; nothing of value is there yet.
            unsafe { (at as *mut u64).write_volatile(mark_at(at)) };
        }
    });
}

/// How much of the block was written to, in pages, for a replay under any alignment.
///
/// Of the page that the block begins in, some part belongs to it, and of the last page written on average half was. What
/// was written then counts as `n` pages when it is nearest to `n - 1/2` pages: the first page counts when more than half
/// of it is the block's, so that the mean over blocks is right wherever they begin. At least 1.
///
/// # Safety
/// `p..p + len` is a live block.
pub(crate) unsafe fn pages(p: usize, len: usize) -> u32 {
    // A block at a page's start has its first page among those that follow.
    let of_first = p.next_multiple_of(PAGE) - p;
    let mut touched = u32::from(of_first > PAGE / 2);
    each_resident(p, len, |page| {
        // SAFETY: within the block by `marks`.
        let mut held = marks(page, p + len).map(|at| unsafe { (at as *const u64).read_volatile() } == mark_at(at));
        touched += u32::from(!held.all(|held| held));
    });
    touched.max(1)
}

/// Addresses of a page's marks that lie within a block that ends at `end`.
fn marks(page: usize, end: usize) -> impl Iterator<Item = usize> {
    (page..page + PAGE).step_by(STEP).filter(move |at| at + size_of::<u64>() <= end)
}

/// Calls `f` with each resident page that starts within the block.
fn each_resident(p: usize, len: usize, mut f: impl FnMut(usize)) {
    let end = p + len;
    let mut from = p.next_multiple_of(PAGE);
    let mut vec = [0u8; 1024];
    while from < end {
        let pages = (end - from).div_ceil(PAGE).min(vec.len());
        if raw::mincore(from, &mut vec[..pages]) {
            for page in (0..pages).filter(|i| vec[*i] & 1 != 0) {
                f(from + page * PAGE);
            }
        }
        from += pages * PAGE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages counted of a block that begins `offset` into a page, of which the first `written` bytes are written.
    fn counted(offset: usize, written: usize) -> u32 {
        let mut memory = vec![1u8; 20 * PAGE];
        let p = (memory.as_mut_ptr() as usize).next_multiple_of(PAGE) + offset;
        // SAFETY: the block lies within the vector, which is used through this address alone.
        unsafe {
            mark(p, 16 * PAGE);
            (p as *mut u8).write_bytes(2, written);
            pages(p, 16 * PAGE)
        }
    }

    #[test]
    fn a_block_that_begins_with_a_page_has_it_counted_once() {
        assert_eq!(counted(0, 5 * PAGE), 5);
        assert_eq!(counted(16, 5 * PAGE - 16), 5);
        assert_eq!(counted(PAGE - 16, 5 * PAGE + 16), 5);
        assert_eq!(counted(PAGE - 16, 8), 1);
    }

    #[test]
    fn the_mean_over_all_beginnings_is_what_was_written_and_half_a_page() {
        let (written, step) = (6 * PAGE + PAGE / 2, 64);
        let total: u32 = (0..PAGE).step_by(step).map(|offset| counted(offset, written)).sum();
        let mean = f64::from(total) / (PAGE / step) as f64;
        assert!((mean - 7.0).abs() < 0.1, "{mean}");
    }
}
