//! Samples a worker while it runs: its `statm` and its counter page in the same instant, at a fixed interval.
//!
//! The sampler keeps one descriptor open, allocates nothing while it runs but the samples themselves, and measures
//! its own cost. It is also the memory guard: a worker whose anonymous memory passes the limit is ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use fragbench_model::Sample;
use fragbench_proc::StatmReader;

use crate::sys::{self, Counters};

/// What the sampler brings home.
#[derive(Debug, Default)]
pub(crate) struct Sampled {
    /// Samples in order of time, the harness's own mappings not yet subtracted from `vm_bytes`.
    pub(crate) samples: Vec<Sample>,
    /// Its own CPU time as a share of a core.
    pub(crate) cpu_ratio: Option<f64>,
    /// Anonymous bytes at which the guard ended the worker, if it did.
    pub(crate) guarded: Option<u64>,
}

pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Sampled>,
}

impl Sampler {
    /// Starts sampling. `end_worker` is called once when anonymous memory passes `limit_bytes`.
    pub(crate) fn start(
        statm: StatmReader,
        counters: Arc<Counters>,
        interval_ns: u64,
        start_ns: u64,
        limit_bytes: u64,
        end_worker: impl FnOnce() + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut sampled = Sampled { samples: Vec::with_capacity(4096), ..Default::default() };
            let mut end_worker = Some(end_worker);
            let cpu_before = sys::thread_cpu_ns();
            let mut next = start_ns;
            while !stopped.load(Ordering::Acquire) {
                let Ok(memory) = statm.read() else { break };
                let sums = counters.page().sums();
                let recorded_ns = counters.page().recorded_ns.load(Ordering::Relaxed);
                let now = sys::monotonic_ns();
                sampled.samples.push(Sample {
                    at_ns: now.saturating_sub(start_ns),
                    recorded_ns: (recorded_ns > 0).then_some(recorded_ns),
                    vm_bytes: memory.vm_bytes,
                    rss_bytes: memory.rss_bytes,
                    heap_rss_bytes: memory.anon_bytes,
                    live_bytes: Some(sums.live_bytes),
                    live_blocks: Some(sums.live_blocks),
                    ops: Some(sums.ops),
                    ..Sample::default()
                });
                if memory.anon_bytes > limit_bytes
                    && let Some(end) = end_worker.take()
                {
                    sampled.guarded = Some(memory.anon_bytes);
                    end();
                }
                // Moments that were missed are left out rather than made up for in a burst.
                next = (next + interval_ns).max(now);
                sys::sleep_until(next);
            }
            let wall = sys::monotonic_ns().saturating_sub(start_ns);
            let cpu = sys::thread_cpu_ns() - cpu_before;
            sampled.cpu_ratio = (wall > 0).then(|| cpu as f64 / wall as f64);
            sampled
        });
        Self { stop, thread }
    }

    /// Stops and hands over what was sampled.
    pub(crate) fn finish(self) -> Sampled {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap_or_default()
    }
}
