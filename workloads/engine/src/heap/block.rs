//! A block of the heap under test with its identity, and the tag that proves that nobody else has written to it.
//!
//! The tag is a mix of identity and size, so two blocks that overlap disagree about it. It is written according to
//! the [`Touch`] policy and checked before a block is freed or reallocated; a realloc must also have carried it over.

use fragbench_model::Touch;

/// Page size that touching goes by. Larger pages of other machines only mean that each is touched more than once.
pub const PAGE: usize = 4096;
/// Stands for all pages of a block where the number of pages to touch is asked for.
pub const ALL_PAGES: u32 = u32::MAX;

/// Bytes of a whole tag.
const TAG: usize = 16;

/// Mixes identity and size into the tag's first word; also the block's share of the checksum. One multiplication by
/// the golden ratio (Knuth, TAOCP 3, 6.4) spreads both to the high bits, and the shift brings them to the low bytes
/// that short tags are made of.
#[inline(always)]
pub(crate) fn mix(id: u64, size: usize) -> u64 {
    let x = (id.rotate_left(32) ^ size as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 32)
}

/// A live block. Only [`crate::Ledger`] makes and ends one; dropping it leaks the block, as a program may.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a block that is dropped stays allocated for ever"]
pub struct Block {
    ptr: *mut u8,
    size: usize,
    id: u64,
}

// SAFETY: a block is owned by who holds it, and the malloc API may be called from any thread.
unsafe impl Send for Block {}
// SAFETY: a shared reference gives out numbers only.
unsafe impl Sync for Block {}

/// What a damaged block shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Offset of the first wrong byte.
    pub(crate) offset: usize,
    /// Byte that was written there.
    pub(crate) expected: u8,
    /// Byte found.
    pub(crate) found: u8,
}

impl Block {
    /// Puts together a block that [`Self::into_parts`] took apart.
    ///
    /// # Safety
    /// The parts come from `into_parts` of one block, and no other `Block` stands for it now.
    #[inline(always)]
    pub unsafe fn from_parts(ptr: *mut u8, size: usize, id: u64) -> Block {
        Block { ptr, size, id }
    }

    /// Address, size and identity, for keeping in a table of one's own.
    #[inline(always)]
    pub fn into_parts(self) -> (*mut u8, usize, u64) {
        (self.ptr, self.size, self.id)
    }

    /// Size asked for.
    #[inline(always)]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Identity given by who asked for it.
    #[inline(always)]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Address as a number, for adversaries that plan by it.
    #[inline(always)]
    pub fn address(&self) -> usize {
        self.ptr as usize
    }

    /// Writes the tag and touches up to `pages` pages, counted from the block's first.
    #[inline(always)]
    pub(crate) fn mark(&self, touch: Touch, pages: u32) {
        match touch {
            Touch::None => {}
            Touch::Header => self.write_tag(),
            Touch::Page => {
                self.write_tag();
                self.touch_pages(PAGE, pages);
            }
            Touch::Full => self.fill(0, pages),
        }
    }

    /// Writes what a realloc from `old_size` has left to write: the tag for the new size, and the bytes past the old end.
    #[inline(always)]
    pub(crate) fn mark_grown(&self, touch: Touch, old_size: usize, pages: u32) {
        match touch {
            Touch::None => {}
            Touch::Header => self.write_tag(),
            Touch::Page => {
                self.write_tag();
                self.touch_pages(old_size.max(1), pages);
            }
            Touch::Full => self.fill(old_size.min(self.size), pages),
        }
    }

    /// Writes what the policy asks for in the bytes `from..to` of the block: a program has come to use them.
    pub(crate) fn write(&self, touch: Touch, from: usize, to: usize) {
        let (from, to) = (from.max(TAG), to.min(self.size));
        if from >= to {
            return;
        }
        match touch {
            Touch::None | Touch::Header => {}
            Touch::Page => {
                let start = self.ptr as usize;
                let mut at = start + from;
                while at < start + to {
                    // SAFETY: `at` lies within the live block.
                    unsafe { (at as *mut u8).write_volatile(self.filler()) };
                    at = (at & !(PAGE - 1)) + PAGE;
                }
            }
            // SAFETY: from..to lies within the live block.
            Touch::Full => unsafe { std::ptr::write_bytes(self.ptr.add(from), self.filler(), to - from) },
        }
    }

    #[inline(always)]
    fn tag(&self) -> [u8; TAG] {
        let word = mix(self.id, self.size);
        (u128::from(word) | (u128::from(!word.rotate_left(29)) << 64)).to_le_bytes()
    }

    #[inline(always)]
    fn write_tag(&self) {
        let tag = self.tag();
        if self.size >= TAG {
            // SAFETY: the block is live, ours, and holds at least TAG bytes.
            unsafe { self.ptr.cast::<[u8; TAG]>().write_unaligned(tag) };
        } else {
            // SAFETY: as above, for the bytes that fit; a null block has size 0.
            unsafe { std::ptr::copy_nonoverlapping(tag.as_ptr(), self.ptr, self.size) };
        }
    }

    /// Writes one byte in every page from the one that holds `from` on. The tag's own bytes are never overwritten.
    #[inline(always)]
    fn touch_pages(&self, from: usize, pages: u32) {
        if self.size > TAG && self.size > from.saturating_sub(PAGE) {
            self.touch_pages_from(from, pages);
        }
    }

    fn touch_pages_from(&self, from: usize, pages: u32) {
        let start = self.ptr as usize;
        let first_page = start & !(PAGE - 1);
        let end = (start + self.size).min(first_page.saturating_add((pages as usize).saturating_mul(PAGE)));
        let mut at = ((start + from.min(self.size)) & !(PAGE - 1)).max(first_page + PAGE);
        let byte = self.filler();
        while at < end {
            if at >= start + TAG {
                // SAFETY: `at` lies within the live block.
                unsafe { (at as *mut u8).write_volatile(byte) };
            } else {
                // The tag straddles this page's start: the page is resident already.
            }
            at += PAGE;
        }
    }

    /// What is written besides the tag; never zero, so that it can be told from fresh memory.
    #[inline(always)]
    fn filler(&self) -> u8 {
        mix(self.id, self.size) as u8 | 1
    }

    /// Writes every byte from `from` to the end, or to the end of the last page asked for.
    fn fill(&self, from: usize, pages: u32) {
        let start = self.ptr as usize;
        let limit = (start & !(PAGE - 1)).saturating_add((pages as usize).saturating_mul(PAGE));
        let end = self.size.min(limit.saturating_sub(start));
        if from < end {
            // SAFETY: from..end lies within the live block.
            unsafe { std::ptr::write_bytes(self.ptr.add(from), self.filler(), end - from) };
        }
        self.write_tag();
    }

    /// Compares the tag with what should stand there after [`Self::mark`].
    ///
    /// # Errors
    /// The first byte that differs.
    #[inline(always)]
    pub(crate) fn check(&self, touch: Touch) -> Result<(), Damage> {
        if matches!(touch, Touch::None) {
            return Ok(());
        }
        let tag = self.tag();
        if self.size >= TAG {
            // SAFETY: the block is live, ours, and its first TAG bytes were written by `mark`.
            let found = unsafe { self.ptr.cast::<[u8; TAG]>().read_unaligned() };
            if found == tag { Ok(()) } else { Err(Self::damage(&tag, &found)) }
        } else {
            // SAFETY: as above, for the bytes that fit.
            let found = unsafe { std::slice::from_raw_parts(self.ptr_or_dangling(), self.size) };
            if found == &tag[..self.size] { Ok(()) } else { Err(Self::damage(&tag, found)) }
        }
    }

    #[inline(always)]
    fn ptr_or_dangling(&self) -> *const u8 {
        if self.ptr.is_null() { std::ptr::NonNull::dangling().as_ptr() } else { self.ptr }
    }

    #[cold]
    fn damage(tag: &[u8], found: &[u8]) -> Damage {
        let offset = tag.iter().zip(found).position(|(a, b)| a != b).unwrap_or(0);
        Damage { offset, expected: tag[offset], found: found[offset] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap;

    fn block(size: usize, id: u64) -> Block {
        // SAFETY: a fresh block of that size.
        unsafe { Block::from_parts(heap::calloc(size), size, id) }
    }

    fn bytes(block: &Block) -> &[u8] {
        // SAFETY: calloc wrote every byte, and the block lives as long as the reference.
        unsafe { std::slice::from_raw_parts(block.ptr_or_dangling(), block.size) }
    }

    fn poke(block: &Block, offset: usize) {
        // SAFETY: the offset lies within the block.
        unsafe { *block.ptr.add(offset) ^= 0x40 };
    }

    #[test]
    fn damage_is_found_in_blocks_of_any_size_and_names_the_byte() {
        for size in [1, 3, 8, 15, 16, 17, 100, 5000] {
            for touch in [Touch::Header, Touch::Page, Touch::Full] {
                let b = block(size, 7);
                b.mark(touch, ALL_PAGES);
                assert_eq!(b.check(touch), Ok(()), "size {size} {touch:?}");
                let offset = (size - 1).min(9);
                poke(&b, offset);
                assert_eq!(b.check(touch).unwrap_err().offset, offset, "size {size} {touch:?}");
            }
        }
    }

    #[test]
    fn another_identity_or_size_is_another_tag() {
        let b = block(64, 7);
        b.mark(Touch::Header, ALL_PAGES);
        let (ptr, _, _) = b.into_parts();
        for (size, id) in [(64, 8), (65, 7), (63, 7)] {
            // SAFETY: the block has 64 bytes and only its tag is read.
            assert!(unsafe { Block::from_parts(ptr, size, id) }.check(Touch::Header).is_err(), "{size} {id}");
        }
    }

    #[test]
    fn page_touches_one_byte_in_each_page_asked_for_and_full_all() {
        for pages in [1, 2, 5, ALL_PAGES] {
            let b = block(8 * PAGE, 3);
            b.mark(Touch::Page, pages);
            let first = b.ptr as usize & !(PAGE - 1);
            let touched: std::collections::BTreeSet<usize> = bytes(&b)
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte != 0)
                .map(|(i, _)| (b.ptr as usize + i - first) / PAGE)
                .collect();
            let spanned = (b.ptr as usize + b.size - first).div_ceil(PAGE);
            assert_eq!(touched, (0..spanned.min(pages as usize)).collect());
            assert_eq!(b.check(Touch::Page), Ok(()));
        }
        let b = block(3 * PAGE, 4);
        b.mark(Touch::Full, ALL_PAGES);
        assert!(bytes(&b)[TAG..].iter().all(|byte| *byte == b.filler()));
    }

    #[test]
    fn a_part_that_comes_into_use_is_touched_and_no_more() {
        let b = block(4 * PAGE, 5);
        b.mark(Touch::Page, 1);
        b.write(Touch::Page, 2 * PAGE, 2 * PAGE + 10);
        let written: Vec<usize> = (TAG..b.size).filter(|i| bytes(&b)[*i] != 0).collect();
        assert_eq!(written, [2 * PAGE]);
        b.write(Touch::Full, 0, usize::MAX);
        assert!(bytes(&b)[TAG..].iter().all(|byte| *byte == b.filler()));
        assert_eq!(b.check(Touch::Full), Ok(()));
    }

    #[test]
    fn an_empty_block_is_never_touched() {
        // SAFETY: size 0: nothing may be read or written.
        let b = unsafe { Block::from_parts(std::ptr::null_mut(), 0, 1) };
        b.mark(Touch::Full, ALL_PAGES);
        assert_eq!(b.check(Touch::Full), Ok(()));
    }
}
