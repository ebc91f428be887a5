//! From samples, snapshots and the worker's last word to figures by metric name. Pure.

use std::collections::BTreeMap;

use fragbench_model::{Done, PhaseRecord, Sample, Snapshot};

/// What a run gave.
pub(crate) struct Observed<'a> {
    /// Before the first phase.
    pub(crate) start: &'a Snapshot,
    /// All phases, the epilogue's included.
    pub(crate) phases: &'a [PhaseRecord],
    /// How many of them are the work.
    pub(crate) work_phases: usize,
    /// Further snapshots of the epilogue by name.
    pub(crate) purged: Option<&'a Snapshot>,
    /// Duration of the second purge.
    pub(crate) second_purge_ns: Option<u64>,
    /// Samples of the whole run.
    pub(crate) samples: &'a [Sample],
    /// The worker's last word.
    pub(crate) done: &'a Done,
}

/// All metrics that these observations allow.
pub(crate) fn derive(observed: &Observed) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let mut put = |name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            metrics.insert(name.to_owned(), value);
        }
    };
    let work = &observed.phases[..observed.work_phases];
    let done = observed.done;
    let wall_s = done.work_ns as f64 / 1e9;
    put("wall_s", Some(wall_s));
    put("ops_per_s", (wall_s > 0.0).then(|| done.ops as f64 / wall_s));

    if let Some(end) = work.last() {
        let s = &end.snapshot;
        put("cpu_s", Some(s.cpu_ns.saturating_sub(observed.start.cpu_ns) as f64 / 1e9));
        put("minor_faults_count", Some(s.minor_faults.saturating_sub(observed.start.minor_faults) as f64));
        put("major_faults_count", Some(s.major_faults.saturating_sub(observed.start.major_faults) as f64));
        put("heap_rss_end_bytes", Some(s.heap_rss_bytes as f64));
        put("live_end_bytes", Some(s.live_bytes as f64));
        if let Some(stats) = &end.stats {
            put("arena_count", stats.arena_count.map(|v| v as f64));
            put("heap_segment_count", stats.heap_segment_count.map(|v| v as f64));
            put("allocator_free_bytes", stats.free_bytes.map(|v| v as f64));
        }
        memory(&mut put, work, observed.samples);
    }

    let idle = observed.phases.iter().find(|p| p.name == "idle");
    if let Some(idle) = idle {
        put("heap_rss_idle_bytes", Some(idle.snapshot.heap_rss_bytes as f64));
    }
    if let Some(polled) = observed.phases.iter().find(|p| p.name == "polled") {
        put("heap_rss_polled_bytes", Some(polled.snapshot.heap_rss_bytes as f64));
    }
    let quiet = observed.phases.iter().find(|p| p.name != "resume" && p.purge.is_some());
    if let Some(quiet) = quiet
        && let (Some(purge), Some(after)) = (quiet.purge.as_ref().filter(|p| p.supported), observed.purged)
    {
        put("purge_ms", Some(purge.duration_ns as f64 / 1e6));
        put("purge_second_ms", observed.second_purge_ns.map(|ns| ns as f64 / 1e6));
        put("heap_rss_after_purge_bytes", Some(after.heap_rss_bytes as f64));
        put("vm_after_purge_bytes", Some(after.vm_bytes as f64));
        put("purge_released_bytes", Some(quiet.snapshot.heap_rss_bytes as f64 - after.heap_rss_bytes as f64));
        if let Some(resume) = observed.phases.iter().find(|p| p.name == "resume") {
            put("refault_count", Some(resume.snapshot.minor_faults.saturating_sub(after.minor_faults) as f64));
        }
    }
    if let Some(resume) = observed.phases.iter().find(|p| p.name == "resume") {
        put("purge_stall_max_ns", resume.purge.as_ref().and_then(|p| p.stall_max_ns).map(|v| v as f64));
    }

    if let Some(malloc) = &done.latency.malloc {
        put("malloc_p50_ns", Some(malloc.p50 as f64));
        put("malloc_p99_ns", Some(malloc.p99 as f64));
        put("malloc_p999_ns", Some(malloc.p999 as f64));
        put("malloc_max_ns", Some(malloc.max as f64));
    }
    put("free_p99_ns", done.latency.free.as_ref().map(|f| f.p99 as f64));
    metrics
}

/// Peaks, means and the four ratios, over the samples of the work and the snapshots at its barriers.
fn memory(put: &mut impl FnMut(&str, Option<f64>), work: &[PhaseRecord], samples: &[Sample]) {
    let mut seen: Vec<Sample> =
        samples.iter().filter(|s| work.iter().any(|p| (p.start_ns..=p.end_ns).contains(&s.at_ns))).copied().collect();
    seen.extend(work.iter().map(|phase| {
        let s = &phase.snapshot;
        Sample {
            // Quiet since the work of the phase ended, so the reading holds for that moment.
            at_ns: phase.end_ns,
            vm_bytes: s.vm_bytes,
            rss_bytes: s.rss_bytes,
            heap_rss_bytes: s.heap_rss_bytes,
            live_bytes: Some(s.live_bytes),
            live_blocks: Some(s.live_blocks),
            ops: Some(s.ops),
            ..Sample::default()
        }
    }));
    seen.sort_by_key(|s| s.at_ns);
    let live = |s: &Sample| s.live_bytes.unwrap_or_default() as f64;
    let Some(rss_peak) = seen.iter().max_by_key(|s| s.heap_rss_bytes) else { return };
    let Some(live_peak) = seen.iter().max_by_key(|s| s.live_bytes) else { return };
    put("heap_rss_peak_bytes", Some(rss_peak.heap_rss_bytes as f64));
    put("live_peak_bytes", Some(live(live_peak)));
    put("rss_peak_bytes", seen.iter().map(|s| s.rss_bytes).max().map(|v| v as f64));
    put("vm_peak_bytes", seen.iter().map(|s| s.vm_bytes).max().map(|v| v as f64));
    let (rss_mean, live_mean) = time_weighted_means(work, &seen);
    put("heap_rss_mean_bytes", rss_mean);
    let ratio = |rss: f64, live: f64| (live >= 1.0).then_some(rss / live);
    put("rss_over_live_at_live_peak_ratio", ratio(live_peak.heap_rss_bytes as f64, live(live_peak)));
    put("rss_peak_over_live_peak_ratio", ratio(rss_peak.heap_rss_bytes as f64, live(live_peak)));
    put("rss_over_live_at_rss_peak_ratio", ratio(rss_peak.heap_rss_bytes as f64, live(rss_peak)));
    if let (Some(rss), Some(live)) = (rss_mean, live_mean) {
        put("rss_mean_over_live_mean_ratio", ratio(rss, live));
    }
}

/// Means over the phases' own time by the trapezoid between neighbouring samples of one phase: recorded time where the work
/// goes by it, so that a stretch of quiet that passed in no time counts as long as it lasted.
fn time_weighted_means(work: &[PhaseRecord], seen: &[Sample]) -> (Option<f64>, Option<f64>) {
    let (mut time, mut rss, mut live) = (0.0, 0.0, 0.0);
    for phase in work {
        let inside: Vec<&Sample> = seen.iter().filter(|s| (phase.start_ns..=phase.end_ns).contains(&s.at_ns)).collect();
        let recorded: Vec<u64> = inside.iter().filter_map(|s| s.recorded_ns).collect();
        // The snapshot at the barrier has none: the last sample's time stands for it.
        let by_recording = recorded.windows(2).any(|pair| pair[1] > pair[0]);
        for pair in inside.windows(2) {
            let dt = match (by_recording, pair[0].recorded_ns, pair[1].recorded_ns) {
                (false, ..) => (pair[1].at_ns - pair[0].at_ns) as f64,
                (true, Some(from), Some(to)) => to.saturating_sub(from) as f64,
                (true, ..) => 0.0,
            };
            time += dt;
            rss += dt * (pair[0].heap_rss_bytes + pair[1].heap_rss_bytes) as f64 / 2.0;
            live += dt * (pair[0].live_bytes.unwrap_or_default() + pair[1].live_bytes.unwrap_or_default()) as f64 / 2.0;
        }
    }
    if time > 0.0 { (Some(rss / time), Some(live / time)) } else { (None, None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_model::{AllocatorStats, LatencySummary, Purge};

    fn snapshot(name: &str, heap_rss_bytes: u64, live_bytes: i64, minor_faults: u64) -> Snapshot {
        Snapshot {
            name: name.into(),
            at_ns: 0,
            vm_bytes: 10 * heap_rss_bytes,
            rss_bytes: 2 * heap_rss_bytes,
            heap_rss_bytes,
            anon_huge_bytes: None,
            swap_bytes: 0,
            live_bytes,
            live_blocks: 1,
            ops: 0,
            minor_faults,
            major_faults: 0,
            cpu_ns: 0,
            mappings: 1,
            children_private_bytes: None,
        }
    }

    fn phase(name: &str, start_ns: u64, end_ns: u64, snapshot: Snapshot) -> PhaseRecord {
        PhaseRecord { name: name.into(), start_ns, end_ns, snapshot, stats: None, purge: None }
    }

    fn sample(at_ns: u64, heap_rss_bytes: u64, live_bytes: i64) -> Sample {
        Sample {
            at_ns,
            vm_bytes: 10 * heap_rss_bytes,
            rss_bytes: 2 * heap_rss_bytes,
            heap_rss_bytes,
            live_bytes: Some(live_bytes),
            live_blocks: Some(1),
            ops: Some(0),
            ..Sample::default()
        }
    }

    fn done() -> Done {
        Done {
            ops: 3000,
            live_end_bytes: 100,
            checksum: 1,
            adaptive: false,
            work_ns: 2_000_000_000,
            threads_started: 1,
            harness_vm_bytes: 0,
            latency: LatencySummary::default(),
            facts: BTreeMap::new(),
        }
    }

    #[test]
    fn figures_follow_their_definitions() {
        let mut steady = phase("steady", 0, 100, snapshot("steady", 300, 100, 50));
        steady.stats = Some(AllocatorStats { arena_count: Some(3), ..Default::default() });
        let mut idle = phase("idle", 200, 300, snapshot("idle", 280, 100, 51));
        idle.purge =
            Some(Purge { call: "malloc_trim(0)".into(), duration_ns: 5_000_000, stall_max_ns: None, supported: true });
        let purge = idle.purge.take();
        let mut polled = phase("polled", 300, 350, snapshot("polled", 250, 100, 51));
        polled.purge = purge;
        let mut resume = phase("resume", 400, 500, snapshot("resume", 290, 100, 95));
        resume.purge =
            Some(Purge { call: "malloc_trim(0)".into(), duration_ns: 1, stall_max_ns: Some(77), supported: true });
        let phases = [steady, idle, polled, resume];
        let after = snapshot("purged", 120, 100, 55);
        // The sample at 150 lies between the phases and must not count.
        let samples = [sample(0, 100, 50), sample(50, 500, 200), sample(60, 400, 250), sample(150, 9000, 9000)];
        let m = derive(&Observed {
            start: &snapshot("start", 90, 0, 10),
            phases: &phases,
            work_phases: 1,
            purged: Some(&after),
            second_purge_ns: Some(2_000_000),
            samples: &samples,
            done: &done(),
        });
        let get = |name: &str| m.get(name).copied();
        assert_eq!(get("ops_per_s"), Some(1500.0));
        assert_eq!(get("minor_faults_count"), Some(40.0));
        assert_eq!(get("heap_rss_peak_bytes"), Some(500.0));
        assert_eq!(get("live_peak_bytes"), Some(250.0));
        assert_eq!(get("rss_over_live_at_live_peak_ratio"), Some(400.0 / 250.0));
        assert_eq!(get("rss_over_live_at_rss_peak_ratio"), Some(2.5));
        assert_eq!(get("rss_peak_over_live_peak_ratio"), Some(2.0));
        // 0–50: 300; 50–60: 450; 60–100: 350 → (15000 + 4500 + 14000) / 100.
        assert_eq!(get("heap_rss_mean_bytes"), Some(335.0));
        assert_eq!(get("vm_peak_bytes"), Some(5000.0));
        assert_eq!(get("arena_count"), Some(3.0));
        assert_eq!(get("purge_ms"), Some(5.0));
        assert_eq!(get("purge_second_ms"), Some(2.0));
        assert_eq!((get("heap_rss_idle_bytes"), get("heap_rss_polled_bytes")), (Some(280.0), Some(250.0)));
        assert_eq!(get("purge_released_bytes"), Some(130.0), "from what the second quiet has left");
        assert_eq!(get("vm_after_purge_bytes"), Some(1200.0));
        assert_eq!(get("refault_count"), Some(40.0));
        assert_eq!(get("purge_stall_max_ns"), Some(77.0));
        assert_eq!(get("malloc_p50_ns"), None, "no latency was sampled");
        for name in m.keys() {
            assert!(fragbench_model::metric(name).is_some(), "{name} is not in the table of metrics");
        }
    }

    #[test]
    fn means_are_over_recorded_time_where_the_work_goes_by_it() {
        let work = [phase("replay", 0, 100, snapshot("replay", 100, 10, 0))];
        // Half of the wall's time at 100, but a tenth of what was recorded.
        let mut seen = [sample(0, 100, 10), sample(50, 100, 10), sample(51, 300, 30), sample(100, 300, 30)];
        let by_wall = time_weighted_means(&work, &seen).0.unwrap();
        assert!((by_wall - 200.0).abs() < 2.0, "{by_wall}");
        for (sample, recorded_ns) in seen.iter_mut().zip([0, 10_000, 10_000, 100_000]) {
            sample.recorded_ns = Some(recorded_ns);
        }
        assert_eq!(time_weighted_means(&work, &seen), (Some(280.0), Some(28.0)));
        // The snapshot at the barrier has no recorded time and adds none.
        let with_barrier = [&seen[..], &[sample(100, 9000, 900)]].concat();
        assert_eq!(time_weighted_means(&work, &with_barrier), (Some(280.0), Some(28.0)));
    }

    #[test]
    fn an_allocator_without_a_purge_has_no_purge_figures() {
        let mut idle = phase("idle", 200, 300, snapshot("idle", 280, 0, 51));
        idle.purge = Some(Purge { call: "none".into(), duration_ns: 1, stall_max_ns: None, supported: false });
        let phases = [phase("steady", 0, 100, snapshot("steady", 300, 0, 50)), idle];
        let after = snapshot("purged", 280, 0, 51);
        let m = derive(&Observed {
            start: &snapshot("start", 90, 0, 10),
            phases: &phases,
            work_phases: 1,
            purged: Some(&after),
            second_purge_ns: None,
            samples: &[],
            done: &done(),
        });
        assert!(!m.contains_key("purge_ms") && !m.contains_key("purge_released_bytes"));
        assert!(!m.contains_key("rss_peak_over_live_peak_ratio"), "no live bytes, no ratio");
        assert_eq!(m["heap_rss_peak_bytes"], 300.0);
    }
}
