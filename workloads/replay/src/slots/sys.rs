//! One slot and the protocol on it.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use fragbench_engine::Block;
use fragbench_trace::format::SIZE_MAX;

/// Bits of the size in `meta`; the generation is above them.
const SIZE_BITS: u32 = 40;
const _: () = assert!(SIZE_MAX == (1 << SIZE_BITS) - 1);

/// Stands for a block without an address (an allocator may answer `malloc(0)` with null): null means empty.
const NO_ADDRESS: *mut u8 = std::ptr::without_provenance_mut(1);

/// Room for one block.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Slot {
    /// Address; null when empty.
    ptr: AtomicPtr<u8>,
    /// Generation, and size of the block of that generation.
    meta: AtomicU64,
}

impl Slot {
    /// Empty slots, of generation 0. Their pages are not touched.
    pub(super) fn table(slots: usize) -> Box<[Slot]> {
        // SAFETY: all bytes zero is a null pointer and the number 0: an empty slot.
        unsafe { Box::<[Slot]>::new_zeroed_slice(slots).assume_init() }
    }

    /// Asks the processor for the first cache line of the block in the slot, if there is one.
    #[inline(always)]
    pub(crate) fn fetch_block(&self) {
        let ptr = self.ptr.load(Ordering::Relaxed).cast_const();
        // An empty slot stands for itself: to ask for page 0 would cost a walk of the page tables.
        prefetch(if ptr.is_null() { std::ptr::from_ref(self).cast() } else { ptr });
    }

    /// Whether a block may be put in.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.ptr.load(Ordering::Acquire).is_null()
    }

    /// The owner puts a block into an empty slot: the next generation.
    #[inline(always)]
    pub(crate) fn put(&self, block: Block) {
        let (ptr, size, _) = block.into_parts();
        let generation = (self.meta.load(Ordering::Relaxed) >> SIZE_BITS) + 1;
        // Who sees the new generation must not see the old address: the slot was emptied before.
        self.meta.store(generation << SIZE_BITS | size as u64, Ordering::Release);
        self.ptr.store(if ptr.is_null() { NO_ADDRESS } else { ptr }, Ordering::Release);
    }

    /// The owner leaves a block out that was here: only its generation goes by.
    pub(crate) fn skip(&self) {
        let generation = (self.meta.load(Ordering::Relaxed) >> SIZE_BITS) + 1;
        self.meta.store(generation << SIZE_BITS, Ordering::Release);
    }

    /// The owner takes its block out; `None` when there is none.
    #[inline(always)]
    pub(crate) fn take(&self, id: u64) -> Option<Block> {
        let ptr = self.ptr.load(Ordering::Relaxed);
        if ptr.is_null() {
            return None;
        }
        self.ptr.store(std::ptr::null_mut(), Ordering::Relaxed);
        Some(self.block(ptr, id))
    }

    /// Whether generation `generation` is here to be taken by another thread.
    pub(crate) fn holds(&self, generation: u32) -> bool {
        // The generation first: its address is stored after it.
        self.meta.load(Ordering::Acquire) >> SIZE_BITS == u64::from(generation) && !self.is_empty()
    }

    /// Another thread takes the block out, after [`Self::holds`] has said that it is there.
    pub(crate) fn take_other(&self, id: u64) -> Option<Block> {
        // The size before the slot is given up: the owner may fill it at once.
        let meta = self.meta.load(Ordering::Relaxed);
        let ptr = self.ptr.swap(std::ptr::null_mut(), Ordering::AcqRel);
        (!ptr.is_null()).then(|| Self::parts(ptr, meta, id))
    }

    #[inline(always)]
    fn block(&self, ptr: *mut u8, id: u64) -> Block {
        Self::parts(ptr, self.meta.load(Ordering::Relaxed), id)
    }

    #[inline(always)]
    fn parts(ptr: *mut u8, meta: u64, id: u64) -> Block {
        let ptr = if ptr == NO_ADDRESS { std::ptr::null_mut() } else { ptr };
        // SAFETY: address and size were put in together by `put`, and each address is taken out once: by the owner, or
        // by the one thread to which the trace gives this generation.
        unsafe { Block::from_parts(ptr, (meta & SIZE_MAX) as usize, id) }
    }
}

#[inline(always)]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint: it has no effect on memory and never faults, whatever the address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(address: usize, size: usize) -> Block {
        // SAFETY: never dereferenced: only numbers go through a slot.
        unsafe { Block::from_parts(std::ptr::without_provenance_mut(address), size, 7) }
    }

    #[test]
    fn a_slot_gives_back_what_was_put_in_once_and_counts_generations() {
        let table = Slot::table(2);
        let slot = &table[1];
        assert!(slot.is_empty() && !slot.holds(0));
        slot.put(block(4096, 100));
        assert!(slot.holds(1) && !slot.holds(2));
        assert_eq!(slot.take_other(7), Some(block(4096, 100)));
        assert_eq!(slot.take_other(7), None);
        slot.put(block(0, 0));
        assert!(slot.holds(2) && !slot.is_empty());
        assert_eq!(slot.take(7), Some(block(0, 0)));
        assert_eq!(slot.take(7), None);
    }
}
