//! Words of the target's memory through a cache of its pages. Only pages that are present are read, so nothing is
//! brought into the target; a word on any other page is `None`.
//!
//! The cache is direct-mapped: page number modulo the number of slots. It reads ahead as far as the last misses were
//! neighbours, so a walk through a heap is a few large copies and a list scattered over it one page a node.

use std::ops::Range;

use fragbench_proc::{Part, ProcError, Target};

/// Slots: 1 MiB of 4 KiB pages, which stays in the processor's own cache.
const SLOTS: usize = 256;
/// Pages read ahead at most: copies of 256 KiB.
const SPAN_MAX: u64 = 64;
const EMPTY: u64 = u64::MAX;

#[cfg(test)]
thread_local! {
    /// Words asked for by this thread: what the work of a survey is bounded by.
    pub(crate) static WORDS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A target's memory, word by word.
pub(crate) struct Pages<'a> {
    target: &'a dyn Target,
    shift: u32,
    data: Vec<u8>,
    /// Page number in each slot, doubled, plus one when its contents were read.
    tags: Vec<u64>,
    span: u64,
    last_miss: u64,
    /// The first failure that was not merely an address without memory.
    failure: Option<ProcError>,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(target: &'a dyn Target) -> Self {
        let page = target.page_bytes().max(16).next_power_of_two();
        Self {
            target,
            shift: page.trailing_zeros(),
            data: vec![0; SLOTS << page.trailing_zeros()],
            tags: vec![EMPTY; SLOTS],
            span: 1,
            last_miss: 0,
            failure: None,
        }
    }

    pub(crate) fn target(&self) -> &'a dyn Target {
        self.target
    }

    pub(crate) fn page_bytes(&self) -> u64 {
        1 << self.shift
    }

    /// What kept the target from being read at all, if anything did.
    pub(crate) fn failure(&mut self) -> Option<ProcError> {
        self.failure.take()
    }

    /// The word at an address that is a multiple of 8.
    #[inline]
    pub(crate) fn word(&mut self, address: u64) -> Option<u64> {
        #[cfg(test)]
        WORDS.set(WORDS.get() + 1);
        let page = address >> self.shift;
        let slot = page as usize % SLOTS;
        if self.tags[slot] != page * 2 + 1 {
            self.load(page)?;
        }
        let at = (slot << self.shift) + (address & (self.page_bytes() - 1)) as usize;
        let bytes = self.data.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The page of an address, if it has been read: its first address and its bytes.
    #[inline]
    pub(crate) fn cached(&self, address: u64) -> Option<(u64, &[u8])> {
        let page = address >> self.shift;
        let slot = page as usize % SLOTS;
        let at = slot << self.shift;
        (self.tags[slot] == page * 2 + 1).then(|| (page << self.shift, &self.data[at..at + (1 << self.shift)]))
    }

    /// The four bytes at an address that is a multiple of 4.
    pub(crate) fn half(&mut self, address: u64) -> Option<u32> {
        let word = self.word(address & !7)?;
        Some((word >> (8 * (address & 4))) as u32)
    }

    /// Forgets the page of an address, so that it is read again.
    pub(crate) fn forget(&mut self, address: u64) {
        let page = address >> self.shift;
        self.tags[page as usize % SLOTS] = EMPTY;
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&mut self) {
        self.tags.fill(EMPTY);
    }

    #[cold]
    fn load(&mut self, page: u64) -> Option<()> {
        let slot = page as usize % SLOTS;
        // Addresses past 2^63 are the kernel's.
        if self.failure.is_some() || self.tags[slot] == page * 2 || page >> (63 - self.shift) != 0 {
            return None;
        }
        let (span, backwards) = (self.span, page < self.last_miss);
        self.span = if page.abs_diff(self.last_miss) <= span { (span * 2).min(SPAN_MAX) } else { (span / 2).max(1) };
        let first = if backwards { page.saturating_sub(self.span - 1) } else { page };
        let range = first..first + self.span;
        self.last_miss = if backwards { range.start } else { range.end - 1 };
        if let Err(error) = self.fill(range) {
            self.failure = Some(error);
            return None;
        }
        (self.tags[slot] == page * 2 + 1).then_some(())
    }

    fn fill(&mut self, range: Range<u64>) -> Result<(), ProcError> {
        let bytes = (range.start << self.shift)..(range.end << self.shift);
        let present = match self.target.residency(bytes.clone())? {
            Some(residency) => residency.present,
            None => vec![bytes],
        };
        for page in range {
            self.tags[page as usize % SLOTS] = page * 2;
        }
        // Runs of pages that are neighbours in the target and in the slots. A span never exceeds the slots.
        let mut runs: Vec<Range<u64>> = Vec::new();
        for run in present {
            let (mut page, end) = (run.start >> self.shift, run.end >> self.shift);
            while page < end {
                let stop = end.min(page - page % SLOTS as u64 + SLOTS as u64);
                runs.push(page..stop);
                page = stop;
            }
        }
        runs.sort_unstable_by_key(|run| run.start % SLOTS as u64);
        let mut parts = Vec::with_capacity(runs.len());
        let (mut rest, mut taken) = (self.data.as_mut_slice(), 0);
        for run in &runs {
            let at = (run.start as usize % SLOTS) << self.shift;
            let len = ((run.end - run.start) as usize) << self.shift;
            let (_, tail) = rest.split_at_mut(at - taken);
            let (into, tail) = tail.split_at_mut(len);
            parts.push(Part::new(run.start << self.shift, into));
            (rest, taken) = (tail, at + len);
        }
        self.target.read(&mut parts)?;
        let done: Vec<bool> = parts.iter().map(|part| part.done).collect();
        for (run, done) in runs.into_iter().zip(done) {
            for page in run.clone() {
                // A page that went away meanwhile takes the rest of its run along: each is tried by itself.
                if done || run.end - run.start > 1 && self.read_one(page)? {
                    self.tags[page as usize % SLOTS] = page * 2 + 1;
                }
            }
        }
        Ok(())
    }

    fn read_one(&mut self, page: u64) -> Result<bool, ProcError> {
        let at = (page as usize % SLOTS) << self.shift;
        let len = 1 << self.shift;
        let mut part = [Part::new(page << self.shift, &mut self.data[at..at + len])];
        self.target.read(&mut part)?;
        Ok(part[0].done)
    }
}
