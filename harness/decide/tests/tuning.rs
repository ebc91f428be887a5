//! The rules of a recommendation, each on records with known effects.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use fragbench_decide::{costs, tuning};
use fragbench_model::{
    Allocator, AllocatorKind, Cell, DEFAULT_RELEVANT, Done, Doubt, MachineLoad, Plan, PlannedRun, Reason, RunRecord,
    RunStatus, SCHEMA, SERVER_CPU_S, SERVER_SPAN_S, Settings, Standing, Tuning, WorkloadSpec,
};
use rand::SeedableRng;
use rand_distr::{Distribution, Normal};
use rand_pcg::Pcg64Mcg;

const IDLE: &str = "heap_rss_idle_bytes";

/// An allocator, its settings, and what it multiplies memory and throughput by.
type Effect<'a> = (&'a str, &'a [(&'a str, &'a str)], f64, f64);

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// A plan of the baseline, its copy and these, and the records of so many blocks with 1 % of noise.
fn measured(effects: &[Effect], blocks: u32, seed: u64) -> (Plan, Vec<RunRecord>) {
    let workload = WorkloadSpec::Named { name: "w".into(), parameters: Default::default(), pace: Default::default() };
    let all: Vec<(bool, Effect)> = [(false, ("glibc", &[][..], 1.0, 1.0)), (true, ("glibc", &[][..], 1.0, 1.0))]
        .into_iter()
        .chain(effects.iter().map(|e| (false, *e)))
        .collect();
    let cells: Vec<Cell> = all
        .iter()
        .map(|(aa, (name, own, ..))| Cell {
            workload: workload.clone(),
            allocator: Allocator {
                name: (*name).into(),
                kind: if *name == "glibc" { AllocatorKind::Glibc } else { AllocatorKind::Jemalloc },
                library: None,
                libc: None,
                settings: settings(own),
                environment: settings(own),
                notes: vec![],
            },
            aa: *aa,
            thp: None,
        })
        .collect();
    let mut plan = Plan { seed, cells, runs: Vec::new() };
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let noise = Normal::new(1.0, 0.01).unwrap();
    let mut records = Vec::new();
    for repetition in 0..blocks {
        for (cell, (aa, (name, own, memory, speed))) in all.iter().enumerate() {
            let run = records.len() as u32;
            plan.runs.push(PlannedRun { run, cell, repetition });
            let mut of = |value: f64| value * noise.sample(&mut rng);
            let metrics = [
                (IDLE, of(100e6 * memory)),
                ("heap_rss_peak_bytes", of(200e6)),
                ("ops_per_s", of(1e6 * speed)),
                ("malloc_p99_ns", of(5e3)),
            ];
            records.push(RunRecord {
                schema: SCHEMA,
                run,
                workload: "w".into(),
                allocator: (*name).into(),
                settings: settings(own),
                repetition,
                recording: None,
                aa: *aa,
                status: RunStatus::Ok,
                started_unix_s: 0,
                attempt: 1,
                environment: Default::default(),
                proof: None,
                libc: None,
                metrics: metrics.map(|(k, v)| (k.to_owned(), v)).into(),
                phases: vec![],
                done: None,
                load: MachineLoad::default(),
                sampler_cpu_ratio: None,
                samples: None,
                processes: Default::default(),
                cautions: vec![],
            });
        }
    }
    (plan, records)
}

fn tuned(effects: &[Effect], blocks: u32, seed: u64) -> Tuning {
    let (plan, records) = measured(effects, blocks, seed);
    let finalists: Vec<usize> = (2..plan.cells.len()).collect();
    tuning(&plan, &records, &finalists, IDLE, DEFAULT_RELEVANT, false)
}

fn recommended(tuning: &Tuning) -> Option<String> {
    tuning.recommendation.as_ref().map(|r| fragbench_model::label(&r.allocator, &r.settings))
}

fn worked() -> Done {
    Done {
        ops: 1,
        live_end_bytes: 0,
        checksum: 0,
        adaptive: false,
        work_ns: 1,
        threads_started: 1,
        harness_vm_bytes: 0,
        latency: Default::default(),
        facts: Default::default(),
    }
}

const ONE: &[(&str, &str)] = &[("MALLOC_ARENA_MAX", "1")];
const TWO: &[(&str, &str)] = &[("MALLOC_ARENA_MAX", "2")];
const FOUR: &[(&str, &str)] = &[("MALLOC_ARENA_MAX", "4")];
const EIGHT: &[(&str, &str)] = &[("MALLOC_ARENA_MAX", "8")];
const BOTH: &[(&str, &str)] = &[("MALLOC_ARENA_MAX", "2"), ("glibc.malloc.mxfast", "0")];

#[test]
fn a_saving_is_recommended_with_its_price_and_the_front_runs_from_it_to_the_fastest() {
    let t = tuned(&[("glibc", ONE, 0.5, 0.9), ("glibc", TWO, 0.55, 1.0), ("glibc", BOTH, 0.54, 1.0)], 12, 1);
    assert_eq!(recommended(&t).as_deref(), Some("glibc arena_max=2"), "nearly as good with less to set");
    let less_trouble = |r: &Reason| matches!(r, Reason::LessTrouble { best, .. } if best.settings == settings(BOTH));
    assert!(t.verdict.reasons.iter().any(less_trouble), "{:?}", t.verdict.reasons);
    let r = t.recommendation.unwrap();
    assert!((r.memory_ratio.median - 0.55).abs() < 0.02 && (r.saved_bytes - 45e6).abs() < 3e6, "{r:?}");
    assert_eq!(r.tried.effects.throughput.map(|e| e.standing), Some(Standing::Noise), "{r:?}");
    assert!(r.risks.iter().any(|risk| risk.name == "arena contention"));
    assert_eq!(r.change.environment, settings(TWO));
    assert_eq!(t.front[0].settings, settings(ONE), "least memory first");
    assert!(t.front.len() >= 2 && t.knee.is_none_or(|k| k < t.front.len()));
}

#[test]
fn equal_things_recommend_nothing_twenty_times_out_of_twenty() {
    for seed in 0..20 {
        let t = tuned(&[("glibc", ONE, 1.0, 1.0), ("glibc", TWO, 1.0, 1.0), ("jemalloc", &[], 1.0, 1.0)], 12, seed);
        assert_eq!(recommended(&t), None, "seed {seed}");
        assert!(matches!(t.verdict.reasons[0], Reason::NothingBetter(_)), "{:?}", t.verdict.reasons);
    }
}

#[test]
fn what_costs_as_much_as_it_saves_and_what_saves_too_little_is_not_recommended() {
    assert_eq!(recommended(&tuned(&[("glibc", ONE, 0.6, 0.6)], 12, 2)), None);
    assert_eq!(recommended(&tuned(&[("glibc", ONE, 0.97, 1.0)], 12, 3)), None);
    assert_eq!(recommended(&tuned(&[("glibc", ONE, 0.6, 0.9)], 12, 4)).as_deref(), Some("glibc arena_max=1"));
}

#[test]
fn too_few_blocks_for_so_many_finalists_are_said() {
    let five = |memory: f64| [ONE, TWO, FOUR, EIGHT, BOTH].map(|own| ("glibc", own, memory, 1.0));
    let effects = five(0.5);
    // Six blocks exclude chance for one comparison; for five, two more are needed.
    let t = tuned(&effects, 6, 5);
    assert!(t.recommendation.as_ref().is_some_and(|r| r.preliminary), "every block agrees: {:?}", t.verdict);
    assert_eq!(t.verdict.doubts[0], Doubt::TooFewBlocks { blocks: 6, needed: 8, compared: 5 });
    assert!(tuned(&effects, 8, 5).recommendation.is_some_and(|r| !r.preliminary));
    let equal = tuned(&five(1.0), 4, 6);
    assert_eq!(recommended(&equal), None, "{:?}", equal.verdict.reasons);
}

#[test]
fn another_allocator_must_save_clearly_more_than_a_setting() {
    let setting = ("glibc", TWO, 0.6, 1.0);
    let t = tuned(&[setting, ("jemalloc", &[], 0.57, 1.0)], 12, 6);
    assert_eq!(recommended(&t).as_deref(), Some("glibc arena_max=2"));
    assert_eq!(t.verdict.alternatives[0].allocator, "jemalloc", "what it would give stands beside");
    let t = tuned(&[setting, ("jemalloc", &[], 0.3, 1.0)], 12, 7);
    assert_eq!(recommended(&t).as_deref(), Some("jemalloc"));
    assert_eq!(t.verdict.alternatives[0].settings, settings(TWO));
}

#[test]
fn a_candidate_that_is_faster_only_is_none_of_a_search_for_less_memory() {
    assert_eq!(recommended(&tuned(&[("glibc", ONE, 1.0, 1.5)], 12, 11)), None);
    assert_eq!(recommended(&tuned(&[("glibc", ONE, 0.6, 1.5)], 12, 11)).as_deref(), Some("glibc arena_max=1"));
}

#[test]
fn the_servers_processor_time_is_the_price_where_the_recording_tells_it() {
    // Half the throughput of the loop; of the server's 10 s of processor time one part in twenty.
    let of = |cpu_of_the_setting: f64| {
        let (plan, mut records) = measured(&[("glibc", ONE, 0.5, 0.5)], 12, 12);
        for (i, record) in records.iter_mut().enumerate() {
            let cpu = if record.settings == settings(ONE) { cpu_of_the_setting } else { 1.0 };
            record.metrics.insert("cpu_s".into(), cpu + 0.001 * (i % 7) as f64);
            let facts = [(SERVER_CPU_S.to_owned(), 10.0), (SERVER_SPAN_S.to_owned(), 60.0)].into();
            record.done = Some(Done { facts, ..worked() });
        }
        let (costs, tolerance) = costs(&plan, &records, IDLE, DEFAULT_RELEVANT);
        (tuning(&plan, &records, &[2], IDLE, DEFAULT_RELEVANT, false), costs[2].unwrap(), tolerance)
    };
    let (t, cost, tolerance) = of(1.5);
    assert_eq!(recommended(&t).as_deref(), Some("glibc arena_max=1"), "{:?}", t.verdict.reasons);
    assert!((cost.time - 1.05_f64.ln()).abs() < 0.002 && tolerance.time < 0.06, "{cost:?} {tolerance:?}");
    assert!((t.verdict.price.unwrap().extra_cpu_s - 0.5).abs() < 0.02, "{:?}", t.verdict.price);
    let (t, ..) = of(2.5);
    assert_eq!(recommended(&t), None);
    assert!(matches!(t.verdict.reasons[2], Reason::TooDear(_)), "15 % of the server: {:?}", t.verdict.reasons);
}

#[test]
fn costs_are_relative_to_the_baseline_of_the_block_and_a_failed_run_has_none() {
    let (plan, mut records) = measured(&[("glibc", ONE, 0.5, 0.8), ("glibc", TWO, 1.0, 1.0)], 2, 8);
    let (known, tolerance) = costs(&plan, &records, IDLE, DEFAULT_RELEVANT);
    let one = known[2].unwrap();
    assert!((one.memory - 0.5_f64.ln()).abs() < 0.05 && (one.time + 0.8_f64.ln()).abs() < 0.05, "{one:?}");
    assert!(tolerance.memory >= DEFAULT_RELEVANT);
    let failed = records.iter_mut().find(|r| r.settings == settings(ONE)).unwrap();
    failed.status = RunStatus::Failed(fragbench_model::Failure {
        kind: fragbench_model::FailureKind::Crashed,
        reason: String::new(),
    });
    assert_eq!(costs(&plan, &records, IDLE, DEFAULT_RELEVANT).0[2], None);
}

#[test]
fn what_was_never_run_is_untried_and_neither_dropped_nor_on_the_front() {
    let (plan, mut records) =
        measured(&[("glibc", ONE, 0.5, 1.0), ("glibc", TWO, 0.4, 1.0), ("jemalloc", &[], 0.3, 1.0)], 8, 9);
    records.retain(|r| r.settings != settings(TWO) && r.allocator != "jemalloc");
    let t = tuning(&plan, &records, &[2, 3], IDLE, DEFAULT_RELEVANT, false);
    let untried: Vec<String> = t.untried.iter().map(|p| p.label()).collect();
    assert_eq!(untried, ["glibc arena_max=2", "jemalloc"]);
    assert_eq!((t.tried, t.finalists.len(), t.dropped.len()), (2, 1, 0));
    assert!(t.front.iter().all(|p| p.memory_bytes.is_some()), "{:?}", t.front);
    assert_eq!(recommended(&t).as_deref(), Some("glibc arena_max=1"));
    // Not even the baseline.
    let t = tuning(&plan, &[], &[], IDLE, DEFAULT_RELEVANT, false);
    assert_eq!(t.verdict.reasons, [Reason::NoBaseline]);
    assert_eq!((t.baseline.is_none(), t.front.len(), t.tried), (true, 0, 0));
}

#[test]
fn a_figure_of_the_users_that_becomes_worse_counts_as_a_loss_and_stands_in_the_price() {
    let own = fragbench_model::UserMetric {
        name: "p95_ms".into(),
        pattern: String::new(),
        unit: fragbench_model::Unit::Milliseconds,
        better: Some(fragbench_model::Better::Less),
    };
    let command = fragbench_model::CommandSpec {
        name: "w".into(),
        words: vec![],
        prepare: None,
        cleanup: None,
        server: None,
        metrics: vec![own],
        ignore_failure: false,
    };
    let of = |slower: f64| {
        let (mut plan, mut records) = measured(&[("glibc", ONE, 0.6, 1.0)], 12, 10);
        plan.cells.iter_mut().for_each(|c| c.workload = WorkloadSpec::Command { command: command.clone() });
        for (i, record) in records.iter_mut().enumerate() {
            let factor = if record.settings == settings(ONE) { slower } else { 1.0 };
            record.metrics.insert("p95_ms".into(), 10.0 * factor + 0.001 * i as f64);
            record.metrics.insert("runs_per_s".into(), 1.0 + 0.001 * (i % 7) as f64);
        }
        tuning(&plan, &records, &[2], IDLE, DEFAULT_RELEVANT, false)
    };
    let t = of(1.2);
    assert_eq!((t.throughput.as_str(), recommended(&t).as_deref()), ("runs_per_s", Some("glibc arena_max=1")));
    let (_, worse) = t.recommendation.unwrap().tried.effects.others["p95_ms"];
    assert!((worse.ratio.median - 1.2).abs() < 0.02 && worse.standing == Standing::Significant, "{worse:?}");
    assert_eq!(recommended(&of(1.5)), None, "40 % less memory for 50 % more latency");
}
