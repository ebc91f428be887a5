//! Questions to the allocator in place: who it is, what it holds, and to give memory back.
//!
//! The library that owns `malloc` decides which family is asked; a control function counts only when the same library
//! defines it, so that a preload of one allocator beside another is not taken for it.

mod glibc;
mod jemalloc;
mod mimalloc;
mod null;
mod sys;

pub(crate) use sys::{malloc_is_libcs, mallopt, trim};
mod tcmalloc;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fragbench_model::{AllocatorAnswer, AllocatorKind, AllocatorStats, LibcAnswer, Purge};

use crate::{Spawner, clock, heap};
use sys::Object;

/// What a family of allocators can be asked.
trait Family: Debug + Send + Sync {
    fn kind(&self) -> AllocatorKind;
    fn version(&self) -> String;
    /// Settings in force, as far as it tells.
    fn effective(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    fn stats(&self) -> AllocatorStats {
        AllocatorStats::default()
    }
    /// Name of the call that gives memory back; `None` when there is none.
    fn purge_call(&self) -> Option<&'static str> {
        None
    }
    /// Makes that call.
    fn purge(&self) {}
}

/// Any library that answers none of the known questions: it is known by its mapping alone.
#[derive(Debug)]
struct Unknown;

impl Family for Unknown {
    fn kind(&self) -> AllocatorKind {
        AllocatorKind::Other
    }

    fn version(&self) -> String {
        String::new()
    }
}

/// A way to recognise a family by its own functions in `object`.
type Recognise = fn(&Object) -> Option<Arc<dyn Family>>;

/// One line a family, in the order they are asked.
const FAMILIES: &[(&str, Recognise)] = &[
    ("glibc", glibc::recognise),
    ("jemalloc", jemalloc::recognise),
    ("mimalloc", mimalloc::recognise),
    ("tcmalloc", tcmalloc::recognise),
    ("null", null::recognise),
];

/// Which C library this process runs on.
pub(crate) fn libc_answer() -> LibcAnswer {
    let object = sys::libc_object();
    LibcAnswer {
        version: crate::sys::libc_version(),
        build_id: object.as_ref().and_then(sys::build_id),
        path: object.map(|object| object.path).unwrap_or_default(),
    }
}

/// The allocator in place.
#[derive(Debug)]
pub struct Probe {
    family: Arc<dyn Family>,
    malloc_object: String,
}

/// Size of the working thread's blocks during a purge: past every tcache, so that each pair reaches the arena.
const STALL_SIZE: usize = 2000;

impl Probe {
    /// Finds out who answers `malloc`. To be called before the work: what glibc needs for being asked is allocated
    /// here.
    pub fn find() -> Probe {
        let object = sys::malloc_object();
        let known = object.as_ref().and_then(|o| FAMILIES.iter().find_map(|(_, recognise)| recognise(o)));
        let family = known.unwrap_or_else(|| Arc::new(Unknown));
        Probe { family, malloc_object: object.map(|o| o.path).unwrap_or_default() }
    }

    /// Who it is.
    pub fn answer(&self) -> AllocatorAnswer {
        AllocatorAnswer {
            kind: self.family.kind(),
            version: self.family.version(),
            malloc_object: self.malloc_object.clone(),
            effective: self.family.effective(),
        }
    }

    /// What it says it holds.
    pub fn stats(&self) -> AllocatorStats {
        self.family.stats()
    }

    /// Asks it to give back what it can, from this thread.
    pub fn purge(&self) -> Purge {
        purge(&*self.family)
    }

    /// As [`Self::purge`], from another thread, while this one allocates and frees without a pause; `stall_max_ns` is
    /// its longest pair.
    pub fn purge_with_stall(&self, spawner: &Spawner) -> Purge {
        const READY: u32 = 0;
        const GO: u32 = 1;
        const DONE: u32 = 2;
        let state = Arc::new(AtomicU32::new(READY));
        let (family, shared) = (self.family.clone(), state.clone());
        let helper = spawner.spawn(move |_| {
            while shared.load(Ordering::Acquire) == READY {
                std::hint::spin_loop();
            }
            let purge = purge(&*family);
            shared.store(DONE, Ordering::Release);
            purge
        });
        // The first pairs belong to no purge: they make the block that later ones reuse.
        for _ in 0..100 {
            pair_ns();
        }
        state.store(GO, Ordering::Release);
        let mut longest = 0;
        while state.load(Ordering::Acquire) != DONE {
            longest = longest.max(pair_ns());
        }
        let mut purge = helper.join();
        purge.stall_max_ns = purge.supported.then_some(longest);
        purge
    }
}

fn purge(family: &dyn Family) -> Purge {
    let Some(call) = family.purge_call() else {
        return Purge { call: "none".to_owned(), duration_ns: 0, stall_max_ns: None, supported: false };
    };
    let start = clock::monotonic_ns();
    family.purge();
    let duration_ns = clock::monotonic_ns() - start;
    Purge { call: call.to_owned(), duration_ns, stall_max_ns: None, supported: true }
}

/// Duration of one malloc and free.
fn pair_ns() -> u64 {
    let start = clock::monotonic_ns();
    heap::pair(STALL_SIZE);
    clock::monotonic_ns() - start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_this_directory_is_in_the_table() {
        let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/probe"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|name| name != "mod" && name != "sys")
            .collect();
        files.sort();
        let mut table: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
        table.sort_unstable();
        assert_eq!(files, table);
    }

    #[test]
    fn the_test_itself_runs_under_glibc_and_says_so() {
        let probe = Probe::find();
        let answer = probe.answer();
        assert_eq!(answer.kind, AllocatorKind::Glibc);
        assert!(answer.malloc_object.contains("libc.so"), "{}", answer.malloc_object);
        assert_eq!(probe.purge().call, "malloc_trim(0)");
        let libc = libc_answer();
        assert_eq!((libc.path, libc.version), (answer.malloc_object, answer.version));
        assert!(libc.build_id.is_some_and(|id| id.len() >= 16));
        let stalled = probe.purge_with_stall(&Spawner::new(crate::Share::default()));
        assert!(stalled.supported && stalled.stall_max_ns > Some(0));
    }
}
