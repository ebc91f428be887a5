//! Packs the spools of a recording while their processes run, so that a recording takes little more room than its traces
//! and is packed when the program ends. Short recordings are left to the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fragbench_trace::LivePack;

use super::spools::SpoolDir;

/// Between two looks at the spools.
const TICK: Duration = Duration::from_millis(20);
/// A spool shorter than this is packed in the end: processes by the hundreds need no packer each.
const WORTH_IT: u64 = 8 << 20;
/// What the recorder is told of the time between two sweeps.
pub(crate) const SWEEP_MS: u64 = 50;

/// Spools being packed.
type Packs = BTreeMap<PathBuf, LivePack>;

struct Shared {
    packs: Mutex<Packs>,
    ended: AtomicBool,
}

impl Shared {
    fn packs(&self) -> MutexGuard<'_, Packs> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that packs.
pub(crate) struct Packing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Packing {
    /// Packs what grows in a directory of spools. `private`: only the owner may read the traces.
    pub(crate) fn start(spools: &SpoolDir, private: bool) -> Self {
        let shared = Arc::new(Shared { packs: Mutex::default(), ended: AtomicBool::new(false) });
        let thread = std::thread::spawn({
            let (shared, spools) = (shared.clone(), spools.clone());
            move || attend(&shared, &spools, private)
        });
        Self { shared, thread: Some(thread) }
    }

    /// Nothing is packed at all until the end.
    pub(crate) fn none() -> Self {
        let shared = Shared { packs: Mutex::default(), ended: AtomicBool::new(true) };
        Self { shared: Arc::new(shared), thread: None }
    }

    /// From here on nothing more is packed: what was packed lies in the past.
    pub(crate) fn hold(&self) {
        let _packs = self.shared.packs();
        self.shared.ended.store(true, Ordering::Release);
    }

    /// The spools that have been packed in part.
    pub(crate) fn end(mut self) -> Packs {
        self.shared.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic; if it did, what it had is still there.
            let _ = thread.join();
        }
        std::mem::take(&mut self.shared.packs())
    }
}

fn attend(shared: &Shared, spools: &SpoolDir, private: bool) {
    let mut given_up = BTreeSet::new();
    while !shared.ended.load(Ordering::Acquire) {
        for spool in spools.list().unwrap_or_default() {
            let mut packs = shared.packs();
            if shared.ended.load(Ordering::Acquire) {
                return;
            }
            if given_up.contains(&spool.path) || spool.path.metadata().map_or(0, |m| m.len()) < WORTH_IT {
                continue;
            }
            if let Err(error) = advance(&mut packs, &spool.path, private) {
                // The end tries again, and says what becomes of it.
                note!("{}: not packed while it grows: {error}", spool.path.display());
                packs.remove(&spool.path);
                given_up.insert(spool.path);
            }
        }
        std::thread::park_timeout(TICK);
    }
}

fn advance(packs: &mut Packs, spool: &Path, private: bool) -> Result<(), fragbench_trace::TraceError> {
    if let Some(pack) = packs.get_mut(spool) {
        return pack.advance();
    }
    if let Some(mut pack) = LivePack::open(spool, private)? {
        pack.advance()?;
        packs.insert(spool.to_owned(), pack);
    }
    Ok(())
}
