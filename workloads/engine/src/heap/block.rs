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
pub(crate) const TAG: usize = 16;

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

    /// Writes the tag and what else the policy asks for in the first `pages` pages' worth of the block, the last of them to
    /// its middle: as many pages when it begins with a page, and half a page more on average when it begins anywhere, as
    /// a program's writing of so many bytes would be.
    #[inline(always)]
    pub(crate) fn mark(&self, touch: Touch, pages: u32) {
        self.mark_from(touch, TAG, pages);
    }

    /// Writes what a realloc from `old_size` has left to write: the tag for the new size, and what lies past the old
    /// end.
    #[inline(always)]
    pub(crate) fn mark_grown(&self, touch: Touch, old_size: usize, pages: u32) {
        self.mark_from(touch, old_size, pages);
    }

    #[inline(always)]
    fn mark_from(&self, touch: Touch, from: usize, pages: u32) {
        if matches!(touch, Touch::None) {
            return;
        }
        self.write_tag();
        // A block within one page is resident by its tag: most are, and take this branch alone.
        let start = self.ptr as usize % PAGE;
        let more = matches!(touch, Touch::Page) && start + self.size > PAGE || matches!(touch, Touch::Full);
        if more {
            self.write(touch, from, (pages as usize).saturating_mul(PAGE).saturating_sub(PAGE / 2));
        }
    }

    /// Writes what the policy asks for in the bytes `from..to` of the block: a program has come to use them.
    #[inline]
    pub(crate) fn write(&self, touch: Touch, from: usize, to: usize) {
        let (from, to) = (from.max(TAG), to.min(self.size));
        if from < to {
            // SAFETY: the block is live and ours; from..to lies within it.
            unsafe { touch_range(self.ptr.add(from), to - from, self.filler(), touch) };
        }
    }

    #[inline(always)]
    fn tag(&self) -> (u64, u64) {
        let word = mix(self.id, self.size);
        (word, !word.rotate_left(29))
    }

    fn tag_bytes(&self) -> [u8; TAG] {
        let (low, high) = self.tag();
        (u128::from(low) | (u128::from(high) << 64)).to_le_bytes()
    }

    #[inline(always)]
    fn write_tag(&self) {
        if self.size >= TAG {
            let words = self.ptr.cast::<u64>();
            // SAFETY: the block is live, ours, and holds at least TAG bytes.
            unsafe {
                words.write_unaligned(self.tag().0.to_le());
                words.add(1).write_unaligned(self.tag().1.to_le());
            }
        } else {
            // SAFETY: as above, for the bytes that fit; a null block has size 0.
            unsafe { std::ptr::copy_nonoverlapping(self.tag_bytes().as_ptr(), self.ptr, self.size) };
        }
    }

    /// What is written besides the tag; never zero, so that it can be told from fresh memory.
    #[inline(always)]
    fn filler(&self) -> u8 {
        mix(self.id, self.size) as u8 | 1
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
        if self.size >= TAG {
            let words = self.ptr.cast::<u64>();
            // SAFETY: the block is live, ours, and its first TAG bytes were written by `mark`. They are read as they
            // were written, word by word: a wider load would wait for both stores.
            let found = unsafe { (words.read_unaligned(), words.add(1).read_unaligned()) };
            let (low, high) = self.tag();
            if found == (low.to_le(), high.to_le()) { Ok(()) } else { Err(self.damage()) }
        } else {
            self.check_short()
        }
    }

    #[inline(never)]
    fn check_short(&self) -> Result<(), Damage> {
        if self.found() == &self.tag_bytes()[..self.size] { Ok(()) } else { Err(self.damage()) }
    }

    /// The tag's bytes as they stand in the block.
    fn found(&self) -> &[u8] {
        if self.ptr.is_null() {
            return &[];
        }
        // SAFETY: the block is live, ours, and `mark` wrote these bytes.
        unsafe { std::slice::from_raw_parts(self.ptr, self.size.min(TAG)) }
    }

    #[cold]
    fn damage(&self) -> Damage {
        let (tag, found) = (self.tag_bytes(), self.found());
        let offset = tag.iter().zip(found).position(|(a, b)| a != b).unwrap_or(0);
        Damage { offset, expected: tag[offset], found: found[offset] }
    }
}

/// Writes `byte` to the first byte and to every page start of the range, or to every byte, as the policy has it.
///
/// # Safety
/// The range lies within a live block of the caller's.
#[inline(never)]
unsafe fn touch_range(ptr: *mut u8, len: usize, byte: u8, touch: Touch) {
    match touch {
        Touch::None | Touch::Header => {}
        Touch::Page => {
            let mut at = 0;
            while at < len {
                // SAFETY: `at` lies within the range.
                unsafe { ptr.add(at).write_volatile(byte) };
                at += PAGE - (ptr as usize + at) % PAGE;
            }
        }
        // SAFETY: the caller's range.
        Touch::Full => unsafe { std::ptr::write_bytes(ptr, byte, len) },
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
        unsafe { std::slice::from_raw_parts(block.ptr, block.size) }
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

    /// What the test below watches from outside: it ends the process.
    #[test]
    #[ignore = "run by the test below"]
    fn free_a_damaged_block() {
        let spawner = crate::Spawner::new(crate::Share { touch: Touch::Header, latency_every: 0 });
        let thread = spawner.spawn(|ledger| {
            let block = ledger.malloc(0xb10c, 300);
            poke(&block, 5);
            ledger.free(block);
        });
        thread.join();
    }

    #[test]
    fn a_damaged_block_ends_the_run_with_its_name_size_and_thread() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact", "heap::block::tests::free_a_damaged_block"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.find("{\"message\"").map(|at| &line[at..])).unwrap();
        let fragbench_model::Message::Error(error) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        assert_eq!(error.kind, fragbench_model::WorkerErrorKind::Corruption);
        for part in ["block 0xb10c", "of 300 bytes", "thread 1", "byte 5"] {
            assert!(error.text.contains(part), "{part}: {}", error.text);
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
    fn page_touches_each_page_up_to_the_middle_of_the_last_asked_for_and_full_all() {
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
            let used = b.size.min((pages as usize * PAGE).saturating_sub(PAGE / 2));
            assert_eq!(touched, (0..(b.ptr as usize + used - first).div_ceil(PAGE)).collect());
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
        let written: Vec<usize> = (PAGE..b.size).filter(|i| bytes(&b)[*i] != 0).collect();
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
