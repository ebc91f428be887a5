//! Each rule of the verdict on records with known effects, and what summaries make of failed and repeated runs.

use std::collections::BTreeMap;

use fragbench_decide::{Candidate, Evidence, finding, judge, summarize};
use fragbench_model::{
    Allocator, AllocatorKind, Caution, Cell, Failure, FailureKind, Interval, MachineLoad, Plan, PlannedRun, RunRecord,
    RunStatus, Settings, VerdictKind, WorkloadSpec,
};

const NOISE: f64 = 0.02;

fn ratio(median: f64) -> Option<Interval> {
    Some(Interval { median, lo: median - 0.01, hi: median + 0.01, n: 5 })
}

fn candidate(allocator: &str, arena_max: Option<u32>, memory: f64, throughput: f64) -> Candidate {
    Candidate {
        allocator: allocator.into(),
        settings: arena_max.map(|n| ("MALLOC_ARENA_MAX".to_owned(), n.to_string())).into_iter().collect(),
        workloads: 2,
        failed: 0,
        memory: ratio(memory),
        throughput: ratio(throughput),
        peak: ratio(memory),
    }
}

fn evidence(candidates: Vec<Candidate>) -> Evidence {
    let noise = ["heap_rss_peak_bytes", "ops_per_s", "heap_rss_idle_bytes"].map(|m| (m.to_owned(), NOISE)).into();
    Evidence { workloads: 2, noise, candidates }
}

fn kind_and_label(e: &Evidence) -> (VerdictKind, String) {
    let v = judge(e);
    (v.kind, fragbench_model::label(v.allocator.as_deref().unwrap_or("-"), &v.settings))
}

#[test]
fn a_clear_gain_without_a_loss_is_a_switch() {
    let v = judge(&evidence(vec![candidate("jemalloc", None, 0.6, 1.0)]));
    assert_eq!((v.kind, v.allocator.as_deref()), (VerdictKind::Switch, Some("jemalloc")));
    assert_eq!(v.memory_ratio.unwrap().median, 0.6);
    assert!(v.reasons[0].contains("40 % less resident memory (39 % to 41 %)"), "{:?}", v.reasons);
    assert!(v.reasons[0].contains("throughput not told apart from noise"), "{:?}", v.reasons);
}

#[test]
fn a_gain_below_the_threshold_or_inside_the_noise_is_left_alone() {
    let small = evidence(vec![candidate("jemalloc", None, 0.955, 1.0)]);
    assert_eq!(kind_and_label(&small), (VerdictKind::Leave, "glibc".into()));
    let mut noisy = evidence(vec![candidate("jemalloc", None, 0.8, 1.0)]);
    noisy.noise.insert("heap_rss_idle_bytes".into(), 0.25);
    let v = judge(&noisy);
    assert_eq!(v.kind, VerdictKind::NotEnoughData, "so much noise may hide a gain");
    assert!(v.reasons[0].contains("by up to 25 %"), "{:?}", v.reasons);
    let mut wide = candidate("jemalloc", None, 0.8, 1.0);
    wide.memory = Some(Interval { median: 0.8, lo: 0.5, hi: 1.1, n: 5 });
    assert_eq!(judge(&evidence(vec![wide])).kind, VerdictKind::Leave);
}

#[test]
fn a_loss_as_great_as_the_gain_is_not_recommended() {
    let slow = evidence(vec![candidate("slow", None, 0.8, 0.7)]);
    let v = judge(&slow);
    assert_eq!(v.kind, VerdictKind::Leave);
    assert!(v.reasons.iter().any(|r| r.starts_with("slow costs more than it gains")), "{:?}", v.reasons);
    let even = judge(&evidence(vec![candidate("even", None, 0.8, 0.82)]));
    assert!(even.reasons.iter().any(|r| r.starts_with("even costs about what it gains")), "{:?}", even.reasons);
    let mut spiky = candidate("spiky", None, 0.9, 1.0);
    spiky.peak = ratio(1.4);
    let v = judge(&evidence(vec![spiky]));
    assert_eq!(v.kind, VerdictKind::Leave);
    assert!(v.reasons.iter().any(|r| r.contains("peak 40 % higher")), "{:?}", v.reasons);
    assert_eq!(
        kind_and_label(&evidence(vec![candidate("fair", None, 0.6, 0.9)])),
        (VerdictKind::Switch, "fair".into())
    );
}

#[test]
fn a_faster_allocator_that_costs_no_memory_is_a_switch() {
    let e = evidence(vec![candidate("mimalloc", None, 1.0, 1.3)]);
    assert_eq!(kind_and_label(&e), (VerdictKind::Switch, "mimalloc".into()));
    assert_eq!(judge(&evidence(vec![candidate("hungry", None, 1.5, 1.3)])).kind, VerdictKind::Leave);
}

#[test]
fn a_setting_that_gets_most_of_the_gain_is_preferred() {
    let near = evidence(vec![candidate("glibc", Some(2), 0.68, 1.0), candidate("jemalloc", None, 0.6, 1.0)]);
    assert_eq!(kind_and_label(&near), (VerdictKind::Tune, "glibc arena_max=2".into()));
    assert!(judge(&near).reasons[1].contains("jemalloc would gain more"), "{:?}", judge(&near).reasons);
    let far = evidence(vec![candidate("glibc", Some(2), 0.85, 1.0), candidate("jemalloc", None, 0.6, 1.0)]);
    assert_eq!(kind_and_label(&far), (VerdictKind::Switch, "jemalloc".into()));
}

#[test]
fn of_several_settings_the_one_with_the_greatest_gain_less_cost_is_taken() {
    let e = evidence(vec![candidate("glibc", Some(1), 0.68, 0.75), candidate("glibc", Some(2), 0.7, 0.98)]);
    assert_eq!(kind_and_label(&e), (VerdictKind::Tune, "glibc arena_max=2".into()));
}

#[test]
fn the_null_allocator_is_never_recommended() {
    let e = evidence(vec![candidate("null", None, 0.2, 3.0), candidate("jemalloc", None, 1.0, 1.0)]);
    assert_eq!(judge(&e).kind, VerdictKind::Leave);
    assert_eq!(judge(&evidence(vec![candidate("null", None, 0.2, 3.0)])).kind, VerdictKind::NotEnoughData);
}

#[test]
fn a_cell_that_failed_or_lacks_a_workload_is_not_considered() {
    let mut failed = candidate("jemalloc", None, 0.5, 1.0);
    failed.failed = 1;
    let mut lacking = candidate("mimalloc", None, 0.5, 1.0);
    lacking.workloads = 1;
    let v = judge(&evidence(vec![failed, lacking]));
    assert_eq!(v.kind, VerdictKind::Leave);
    assert!(v.reasons.iter().any(|r| r.contains("1 of its runs failed")), "{:?}", v.reasons);
    assert!(v.reasons.iter().any(|r| r.contains("mimalloc is not considered: it lacks runs")), "{:?}", v.reasons);
}

#[test]
fn without_baseline_noise_or_pairs_nothing_is_said() {
    let good = || vec![candidate("jemalloc", None, 0.5, 1.0)];
    let mut no_baseline = evidence(good());
    no_baseline.workloads = 0;
    let mut no_noise = evidence(good());
    no_noise.noise.clear();
    let mut single = evidence(good());
    single.candidates[0].memory = Some(Interval { median: 0.5, lo: 0.5, hi: 0.5, n: 1 });
    for (case, word) in [(no_baseline, "No run of glibc"), (no_noise, "against itself"), (single, "--reps 3")] {
        let v = judge(&case);
        assert_eq!(v.kind, VerdictKind::NotEnoughData);
        assert!(v.reasons[0].contains(word), "{:?}", v.reasons);
        assert_eq!(v.allocator, None);
    }
}

fn plan(names: &[(&str, bool)], repetitions: u32) -> Plan {
    let cell = |&(name, aa): &(&str, bool)| Cell {
        workload: WorkloadSpec::Named { name: "w".into(), parameters: BTreeMap::new() },
        allocator: Allocator {
            name: name.into(),
            kind: AllocatorKind::Other,
            library: None,
            libc: None,
            settings: Settings::new(),
            environment: BTreeMap::new(),
            notes: Vec::new(),
        },
        aa,
    };
    let runs = (0..repetitions)
        .flat_map(|r| (0..names.len()).map(move |cell| (r, cell)))
        .enumerate()
        .map(|(i, (repetition, cell))| PlannedRun { run: i as u32, cell, repetition })
        .collect();
    Plan { seed: 1, cells: names.iter().map(cell).collect(), runs }
}

fn record(plan: &Plan, run: u32, memory: f64) -> RunRecord {
    let planned = plan.runs[run as usize];
    let cell = &plan.cells[planned.cell];
    RunRecord {
        schema: fragbench_model::SCHEMA,
        run,
        workload: cell.workload.name(),
        allocator: cell.allocator.name.clone(),
        settings: Settings::new(),
        repetition: planned.repetition,
        aa: cell.aa,
        status: RunStatus::Ok,
        started_unix_s: 0,
        attempt: 1,
        environment: BTreeMap::new(),
        proof: None,
        libc: None,
        metrics: [("heap_rss_idle_bytes", memory), ("heap_rss_peak_bytes", memory), ("ops_per_s", 1e6)]
            .map(|(k, v)| (k.to_owned(), v))
            .into(),
        phases: Vec::new(),
        done: None,
        load: MachineLoad::default(),
        sampler_cpu_ratio: None,
        samples: None,
        cautions: Vec::new(),
    }
}

#[test]
fn records_become_cells_noise_and_a_verdict() {
    let plan = plan(&[("glibc", false), ("glibc", true), ("jemalloc", false)], 3);
    let drift = [1.0, 1.3, 0.8];
    let records: Vec<RunRecord> = (0..9)
        .map(|run| {
            let planned = plan.runs[run as usize];
            let own = [1000.0, 1010.0, 600.0][planned.cell];
            record(&plan, run, own * drift[planned.repetition as usize])
        })
        .collect();
    let s = summarize(&plan, &records, false);
    assert_eq!(s.cells.len(), 2, "the A/A copy is no cell of its own");
    assert_eq!(s.cells[1].metrics["heap_rss_idle_bytes"].median, 600.0);
    assert!((s.noise_floor["heap_rss_idle_bytes"] - 0.01).abs() < 0.003, "{:?}", s.noise_floor);
    assert_eq!(s.verdict.kind, VerdictKind::Switch);
    let said = finding(&s);
    assert!(said.starts_with("Switch to jemalloc. ") && said.contains("40 % less resident memory"), "{said}");
}

#[test]
fn failed_runs_are_counted_not_averaged_and_a_repeated_run_counts_once() {
    let plan = plan(&[("glibc", false), ("glibc", true), ("jemalloc", false)], 2);
    let mut records: Vec<RunRecord> = (0..6).map(|run| record(&plan, run, 1000.0)).collect();
    // Run 2 (jemalloc) fails for good with a figure that must not be used; run 5 is repeated and then clean.
    records[2].status = RunStatus::Failed(Failure { kind: FailureKind::Crashed, reason: "killed by signal 9".into() });
    records[2].metrics.insert("heap_rss_idle_bytes".into(), 1.0);
    records[5].cautions.push(Caution { kind: "steal".into(), text: "12 % of CPU time was stolen".into() });
    let mut again = record(&plan, 5, 900.0);
    again.attempt = 2;
    records.push(again);
    let s = summarize(&plan, &records, true);
    let jemalloc = &s.cells[1];
    assert_eq!((jemalloc.runs, jemalloc.failed), (1, 1));
    assert_eq!(jemalloc.metrics["heap_rss_idle_bytes"].median, 900.0);
    assert!(jemalloc.cautions.is_empty(), "the disturbed attempt was replaced");
    assert!(s.partial && finding(&s).contains("1 of 4 runs failed") && finding(&s).contains("partial"));
}

#[test]
fn a_planned_cell_without_any_run_is_listed_empty() {
    let plan = plan(&[("glibc", false), ("jemalloc", false)], 1);
    let s = summarize(&plan, &[], true);
    assert_eq!(s.cells.len(), 2);
    assert!(s.cells.iter().all(|c| c.runs == 0 && c.failed == 0 && c.metrics.is_empty()));
    assert_eq!(s.verdict.kind, VerdictKind::NotEnoughData);
}
