//! Each rule of the verdict on records with known effects, and what summaries make of failed and repeated runs.

use std::collections::BTreeMap;

use fragbench_decide::{Aa, Candidate, Evidence, judge, summarize};
use fragbench_model::{
    Allocator, AllocatorKind, Better, Caution, CautionKind, Cell, Confidence, Contrast, DEFAULT_RELEVANT, Doubt,
    Effects, Failure, FailureKind, Interval, MachineLoad, Plan, PlannedRun, Reason, RunRecord, RunStatus, Settings,
    Standing, Verdict, VerdictKind, Weighing, WorkloadSpec,
};

const NOISE: f64 = 0.02;

/// An effect known to a hundredth.
fn known(median: f64) -> Contrast {
    contrast(median, 0.01)
}

/// An effect whose interval reaches `half` to either side; beyond noise when it excludes 1.
fn contrast(median: f64, half: f64) -> Contrast {
    let ratio = Interval { median, lo: median - half, hi: median + half, n: 15 };
    let beyond = |share: f64| ratio.hi < 1.0 - share || ratio.lo > 1.0 + share;
    let standing = if beyond(0.0) { Standing::Significant } else { Standing::Noise };
    Contrast { ratio, p: Some(0.001), noise: Some(NOISE), standing, relevant: beyond(DEFAULT_RELEVANT) }
}

fn change(name: &str, settings: Settings) -> Allocator {
    Allocator {
        name: name.into(),
        kind: AllocatorKind::Other,
        library: None,
        libc: None,
        environment: settings.clone(),
        settings,
        notes: Vec::new(),
    }
}

fn candidate(allocator: &str, arena_max: Option<u32>, memory: f64, throughput: f64) -> Candidate {
    Candidate {
        change: change(
            allocator,
            arena_max.map(|n| ("MALLOC_ARENA_MAX".to_owned(), n.to_string())).into_iter().collect(),
        ),
        workloads: 2,
        failed: 0,
        effects: Effects {
            memory: Some(known(memory)),
            throughput: Some(known(throughput)),
            peak: Some(known(memory)),
            ..Effects::default()
        },
    }
}

fn evidence(candidates: Vec<Candidate>) -> Evidence {
    let aa = Some(Aa { floor: NOISE, differs: false });
    Evidence {
        baseline: Some(change("glibc", Settings::new())),
        workloads: 2,
        memory_aa: aa,
        throughput_aa: aa,
        cost_aa: None,
        weighing: Weighing::Loop,
        disturbed: 0.0,
        relevant: DEFAULT_RELEVANT,
        memory_alone: false,
        candidates,
    }
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
    let Reason::Recommended(tried) = &v.reasons[0] else { panic!("{:?}", v.reasons) };
    assert_eq!((tried.label().as_str(), tried.effects.memory), ("jemalloc", Some(known(0.6))));
    assert_eq!((v.confidence, v.doubts.len()), (Some(Confidence::High), 0));
    assert!(v.risks.iter().any(|r| r.name == "decay when idle" && r.source.contains("jemalloc(3)")), "{:?}", v.risks);
}

#[test]
fn a_gain_that_is_real_but_of_no_consequence_is_left_alone() {
    let small = evidence(vec![candidate("jemalloc", None, 0.96, 1.0)]);
    assert_eq!(kind_and_label(&small), (VerdictKind::Leave, "glibc".into()));
    assert!(matches!(judge(&small).reasons[2], Reason::NotBetter(_)), "{:?}", judge(&small).reasons);
    let mut demanding = evidence(vec![candidate("jemalloc", None, 0.96, 1.0)]);
    demanding.relevant = 0.01;
    demanding.candidates[0].effects.memory.as_mut().unwrap().relevant = true;
    assert_eq!(judge(&demanding).kind, VerdictKind::Switch, "who asks for one percent gets it");
}

#[test]
fn a_gain_inside_the_noise_is_not_claimed_and_not_denied() {
    let mut noisy = evidence(vec![candidate("jemalloc", None, 0.8, 1.0)]);
    noisy.candidates[0].effects.memory.as_mut().unwrap().standing = Standing::Noise;
    noisy.memory_aa = Some(Aa { floor: 0.25, differs: false });
    let v = judge(&noisy);
    assert_eq!(v.kind, VerdictKind::NotEnoughData, "so much noise may hide a gain");
    assert_eq!(v.reasons[0], Reason::NoisyBaseline(0.25));
    let mut wide = candidate("jemalloc", None, 0.8, 1.0);
    wide.effects.memory = Some(contrast(0.8, 0.3));
    let v = judge(&evidence(vec![wide]));
    assert_eq!(v.kind, VerdictKind::NotEnoughData, "more blocks would settle it");
    let labels = vec!["jemalloc".to_owned()];
    assert_eq!(v.reasons[0], Reason::Unsettled { labels: labels.clone(), relevant: DEFAULT_RELEVANT });
    let mut straddling = candidate("jemalloc", None, 0.92, 1.0);
    straddling.effects.memory = Some(contrast(0.92, 0.04));
    assert_eq!(judge(&evidence(vec![straddling])).kind, VerdictKind::NotEnoughData, "real, perhaps of consequence");
    let mut flat = candidate("jemalloc", None, 0.99, 1.0);
    flat.effects.memory = Some(contrast(0.99, 0.08));
    let v = judge(&evidence(vec![flat]));
    assert_eq!((v.kind, v.confidence), (VerdictKind::Leave, Some(Confidence::Medium)));
    assert_eq!(v.doubts, [Doubt::Wide { labels, relevant: DEFAULT_RELEVANT }]);
}

#[test]
fn every_doubt_lowers_the_confidence() {
    let sure = || evidence(vec![candidate("jemalloc", None, 0.6, 1.0)]);
    let mut few = sure();
    let memory = few.candidates[0].effects.memory.as_mut().unwrap();
    (memory.ratio.n, memory.p, memory.standing) = (2, None, Standing::Preliminary);
    let mut differs = sure();
    differs.throughput_aa = Some(Aa { floor: NOISE, differs: true });
    let mut disturbed = sure();
    disturbed.disturbed = 0.5;
    for (case, level, doubt) in [
        (few, Confidence::Low, Doubt::TooFewBlocks { blocks: 2, needed: 6, compared: 1 }),
        (differs, Confidence::Medium, Doubt::BaselineDiffers { in_memory: false, in_time: true }),
        (disturbed, Confidence::Medium, Doubt::Disturbed(0.5)),
    ] {
        let v = judge(&case);
        assert_eq!((v.kind, v.confidence), (VerdictKind::Switch, Some(level)));
        assert_eq!(v.doubts, [doubt]);
    }
}

#[test]
fn what_the_user_measures_besides_counts_as_a_cost() {
    let mut slow = candidate("jemalloc", None, 0.8, 1.0);
    slow.effects.others.insert("p99_ms".into(), (Better::Less, known(1.5)));
    let v = judge(&evidence(vec![slow]));
    assert_eq!(v.kind, VerdictKind::Leave);
    assert!(costs(&v, "jemalloc", true), "{:?}", v.reasons);
    let mut better = candidate("jemalloc", None, 0.8, 1.0);
    better.effects.others.insert("hits_per_s".into(), (Better::More, known(1.5)));
    assert_eq!(judge(&evidence(vec![better])).kind, VerdictKind::Switch);
}

/// Whether a verdict says that this one costs what it gains, or `more`.
fn costs(v: &Verdict, label: &str, more: bool) -> bool {
    v.reasons.iter().any(
        |reason| matches!(reason, Reason::CostsItsGain { tried, more: is } if tried.label() == label && *is == more),
    )
}

#[test]
fn a_loss_as_great_as_the_gain_is_not_recommended() {
    let slow = evidence(vec![candidate("slow", None, 0.8, 0.7)]);
    let v = judge(&slow);
    assert_eq!(v.kind, VerdictKind::Leave);
    assert!(costs(&v, "slow", true), "{:?}", v.reasons);
    let even = judge(&evidence(vec![candidate("even", None, 0.8, 0.82)]));
    assert!(costs(&even, "even", false), "{:?}", even.reasons);
    let mut spiky = candidate("spiky", None, 0.9, 1.0);
    spiky.effects.peak = Some(known(1.4));
    let v = judge(&evidence(vec![spiky]));
    assert_eq!(v.kind, VerdictKind::Leave);
    assert!(costs(&v, "spiky", true), "{:?}", v.reasons);
    assert_eq!(
        kind_and_label(&evidence(vec![candidate("fair", None, 0.6, 0.9)])),
        (VerdictKind::Switch, "fair".into())
    );
}

#[test]
fn a_loss_counts_when_it_is_established_and_only_then() {
    // What is called noise is no loss, however far its median lies.
    let noise = Contrast { standing: Standing::Noise, ..contrast(0.41, 0.7) };
    let mut noisy = candidate("glibc", Some(2), 0.2, 1.0);
    noisy.effects.throughput = Some(noise);
    let v = judge(&evidence(vec![noisy]));
    assert_eq!(v.kind, VerdictKind::Tune, "{:?}", v.reasons);
    // What is established is one, however noisy the baseline is.
    let lost = Contrast { noise: Some(0.5), ..known(0.65) };
    let mut slow = candidate("glibc", Some(2), 0.7, 1.0);
    slow.effects.throughput = Some(lost);
    let v = judge(&evidence(vec![slow]));
    assert_eq!(v.kind, VerdictKind::Leave, "30 % gained, 35 % lost: {:?}", v.reasons);
}

#[test]
fn time_is_weighed_by_the_servers_own_where_it_is_known() {
    let with_cost = |cost: f64, weighing| {
        let mut slow_loop = candidate("glibc", Some(2), 0.41, 0.7);
        slow_loop.effects.cost = Some(known(cost));
        let mut e = evidence(vec![slow_loop]);
        (e.weighing, e.cost_aa) = (weighing, e.throughput_aa);
        judge(&e)
    };
    let server = Weighing::ServerTime { cpu_s: 17.0, span_s: 60.0, workloads: 2 };
    let v = with_cost(1.08, server);
    assert_eq!(v.kind, VerdictKind::Tune, "{:?}", v.reasons);
    assert!((v.price.unwrap().extra_cpu_s - 1.36).abs() < 1e-9);
    assert_eq!((v.weighing, v.reasons[1].clone()), (server, Reason::WeighedBy));
    assert!(v.reasons[1].is_finding());
    assert_eq!(with_cost(1.7, server).kind, VerdictKind::Leave, "a server that needs 70 % more is no bargain");
    let without = judge(&evidence(vec![candidate("glibc", Some(2), 0.41, 0.7)]));
    assert_eq!((without.weighing, without.reasons[1].clone()), (Weighing::Loop, Reason::WeighedBy));
    let dear = with_cost(1.15, server);
    assert_eq!(dear.kind, VerdictKind::Leave, "more than a tenth of the server's time");
    assert!(dear.reasons.iter().any(|reason| matches!(reason, Reason::TooDear(_))), "{:?}", dear.reasons);
}

#[test]
fn the_baseline_is_what_the_copy_is_of() {
    let plan = plan(&[("jemalloc", false), ("jemalloc", true), ("glibc", false)], 3);
    let records: Vec<RunRecord> =
        (0..9).map(|run| record(&plan, run, [600.0, 605.0, 1000.0][plan.runs[run as usize].cell])).collect();
    let s = summarize(&plan, &records, false, DEFAULT_RELEVANT);
    assert_eq!(s.comparisons.len(), 1);
    assert_eq!(s.comparisons[0].allocator, "glibc");
    assert_eq!((s.verdict.kind, s.verdict.allocator.as_deref()), (VerdictKind::Leave, Some("jemalloc")));
    assert!(s.verdict.reasons.iter().any(|r| matches!(r, Reason::NotBetter(_))), "{:?}", s.verdict.reasons);
}

#[test]
fn a_faster_allocator_that_costs_no_memory_is_a_switch() {
    let e = evidence(vec![candidate("mimalloc", None, 1.0, 1.3)]);
    assert_eq!(kind_and_label(&e), (VerdictKind::Switch, "mimalloc".into()));
    assert_eq!(judge(&evidence(vec![candidate("hungry", None, 1.5, 1.3)])).kind, VerdictKind::Leave);
}

#[test]
fn a_setting_that_comes_within_a_tenth_of_the_best_is_preferred() {
    let near = evidence(vec![candidate("glibc", Some(2), 0.65, 1.0), candidate("jemalloc", None, 0.6, 1.0)]);
    assert_eq!(kind_and_label(&near), (VerdictKind::Tune, "glibc arena_max=2".into()));
    let v = judge(&near);
    assert!(matches!(&v.reasons[1], Reason::LessTrouble { best, .. } if best.label() == "jemalloc"), "{:?}", v.reasons);
    assert_eq!((v.alternatives[0].allocator.as_str(), v.alternatives[0].share_of_best), ("jemalloc", 1.0));
    assert_eq!(v.risks.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["arena contention"]);
    let far = evidence(vec![candidate("glibc", Some(2), 0.68, 1.0), candidate("jemalloc", None, 0.6, 1.0)]);
    assert_eq!(kind_and_label(&far), (VerdictKind::Switch, "jemalloc".into()));
}

#[test]
fn of_two_ways_to_the_same_gain_the_one_that_is_less_trouble_is_taken() {
    let mut tuned = candidate("jemalloc", None, 0.55, 1.0);
    tuned.change.settings.insert("MALLOC_CONF".into(), "dirty_decay_ms:0".into());
    let e = evidence(vec![tuned.clone(), candidate("jemalloc", None, 0.6, 1.0)]);
    assert_eq!(kind_and_label(&e), (VerdictKind::Switch, "jemalloc".into()));
    let e = evidence(vec![tuned, candidate("jemalloc", None, 0.8, 1.0)]);
    assert_eq!(kind_and_label(&e), (VerdictKind::Switch, "jemalloc MALLOC_CONF=dirty_decay_ms:0".into()));
    let mut frozen = candidate("glibc", None, 0.6, 1.0);
    frozen.change.settings.insert("MALLOC_TRIM_THRESHOLD_".into(), "65536".into());
    let e = evidence(vec![frozen, candidate("glibc", Some(2), 0.65, 1.0)]);
    assert_eq!(kind_and_label(&e), (VerdictKind::Tune, "glibc arena_max=2".into()));
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
    assert!(v.reasons.contains(&Reason::Failed { label: "jemalloc".into(), runs: 1 }), "{:?}", v.reasons);
    assert!(v.reasons.contains(&Reason::Lacking("mimalloc".into())), "{:?}", v.reasons);
}

#[test]
fn without_baseline_noise_or_pairs_nothing_is_said() {
    let good = || vec![candidate("jemalloc", None, 0.5, 1.0)];
    let mut no_baseline = evidence(good());
    no_baseline.workloads = 0;
    let mut no_noise = evidence(good());
    no_noise.throughput_aa = None;
    let mut single = evidence(good());
    single.candidates[0].effects.memory.as_mut().unwrap().ratio = Interval { median: 0.5, lo: 0.5, hi: 0.5, n: 1 };
    for (case, reason) in [
        (no_baseline, Reason::NoBaseline),
        (no_noise, Reason::NoCopy { of_memory: false }),
        (single, Reason::TooFewPairs { most: 1, least: 2 }),
    ] {
        let v = judge(&case);
        assert_eq!(v.kind, VerdictKind::NotEnoughData);
        assert_eq!(v.reasons, [reason]);
        assert_eq!(v.allocator, None);
    }
}

fn plan(names: &[(&str, bool)], repetitions: u32) -> Plan {
    let cell = |&(name, aa): &(&str, bool)| Cell {
        workload: WorkloadSpec::Named { name: "w".into(), parameters: BTreeMap::new(), pace: Default::default() },
        allocator: change(name, Settings::new()),
        aa,
        thp: None,
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
        recording: None,
        aa: cell.aa,
        status: RunStatus::Ok,
        started_unix_s: 0,
        attempt: 1,
        environment: BTreeMap::new(),
        proof: None,
        libc: None,
        processes: Vec::new(),
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
    let s = summarize(&plan, &records, false, DEFAULT_RELEVANT);
    assert_eq!(s.cells.len(), 2, "the A/A copy is no cell of its own");
    assert_eq!(s.cells[1].metrics["heap_rss_idle_bytes"].median, 600.0);
    assert!((s.noise_floor["heap_rss_idle_bytes"] - 0.01).abs() < 0.003, "{:?}", s.noise_floor);
    assert_eq!(s.verdict.kind, VerdictKind::Switch);
    let effect = &s.comparisons[0].effects["heap_rss_idle_bytes"];
    assert_eq!((effect.ratio.n, effect.p, effect.standing), (3, None, Standing::Preliminary));
    assert_eq!(s.verdict.memory_ratio.unwrap().median, 0.6);
}

#[test]
fn failed_runs_are_counted_not_averaged_and_a_repeated_run_counts_once() {
    let plan = plan(&[("glibc", false), ("glibc", true), ("jemalloc", false)], 2);
    let mut records: Vec<RunRecord> = (0..6).map(|run| record(&plan, run, 1000.0)).collect();
    // Run 2 (jemalloc) fails for good with a figure that must not be used; run 5 is repeated and then clean.
    records[2].status = RunStatus::Failed(Failure { kind: FailureKind::Crashed, reason: "killed by signal 9".into() });
    records[2].metrics.insert("heap_rss_idle_bytes".into(), 1.0);
    records[5].cautions.push(Caution { kind: CautionKind::Steal, text: "12 % of CPU time was stolen".into() });
    let mut again = record(&plan, 5, 900.0);
    again.attempt = 2;
    records.push(again);
    let s = summarize(&plan, &records, true, DEFAULT_RELEVANT);
    let jemalloc = &s.cells[1];
    assert_eq!((jemalloc.runs, jemalloc.failed), (1, 1));
    assert_eq!(jemalloc.metrics["heap_rss_idle_bytes"].median, 900.0);
    assert!(jemalloc.cautions.is_empty(), "the disturbed attempt was replaced");
    assert!(s.partial);
}

#[test]
fn a_planned_cell_without_any_run_is_listed_empty() {
    let plan = plan(&[("glibc", false), ("jemalloc", false)], 1);
    let s = summarize(&plan, &[], true, DEFAULT_RELEVANT);
    assert_eq!(s.cells.len(), 2);
    assert!(s.cells.iter().all(|c| c.runs == 0 && c.failed == 0 && c.metrics.is_empty()));
    assert_eq!(s.verdict.kind, VerdictKind::NotEnoughData);
}
