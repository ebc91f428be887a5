//! The verdict on made-up runs whose truth is known: an A/A comparison recommends nothing, whatever the noise looks like, and
//! what is found is not yet of consequence. How often the test itself errs is in `paired.rs`.

use std::collections::BTreeMap;

use fragbench_decide::summarize;
use fragbench_model::{
    Allocator, AllocatorKind, Cell, DEFAULT_RELEVANT, MachineLoad, Plan, PlannedRun, RunRecord, RunStatus, Settings,
    Standing, Summary, VerdictKind, WorkloadSpec,
};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Normal};
use rand_pcg::Pcg64Mcg;

/// What memory and throughput of a run are multiplied with by chance.
type Noise = fn(&mut Pcg64Mcg) -> f64;

fn normal(rng: &mut Pcg64Mcg, deviation: f64) -> f64 {
    Normal::new(0.0, deviation).expect("a deviation").sample(rng).exp()
}

/// A machine where runs differ by 2 %.
fn two_percent(rng: &mut Pcg64Mcg) -> f64 {
    normal(rng, 0.02)
}

/// A noisy machine.
fn ten_percent(rng: &mut Pcg64Mcg) -> f64 {
    normal(rng, 0.1)
}

/// Resident memory that lands on one of two levels, as arenas' placement decides.
fn two_levels(rng: &mut Pcg64Mcg) -> f64 {
    if rng.random_bool(0.3) { 1.25 } else { 1.0 }
}

/// Heavy tails: one run in ten is far off.
fn tails(rng: &mut Pcg64Mcg) -> f64 {
    if rng.random_bool(0.1) { normal(rng, 0.3) } else { normal(rng, 0.01) }
}

/// Peak heap RSS of sixty runs of glibc at default settings (`replay/connection-storm`, fast pace), as shares of
/// their median: measured, not made up.
const RECORDED: [f64; 60] = include!("recorded_noise.in");

fn recorded(rng: &mut Pcg64Mcg) -> f64 {
    RECORDED[rng.random_range(0..RECORDED.len())]
}

const NOISES: [(&str, Noise); 5] = [
    ("two percent", two_percent),
    ("ten percent", ten_percent),
    ("two levels", two_levels),
    ("tails", tails),
    ("recorded", recorded),
];

/// Baseline, its copy, and candidates whose memory is multiplied by `shift`; in every block the machine is slower or faster
/// by up to a half for all alike.
fn simulate(rng: &mut Pcg64Mcg, noise: Noise, blocks: u32, candidates: usize, shift: f64) -> Summary {
    let names: Vec<(String, bool)> = [("glibc".to_owned(), false), ("glibc".to_owned(), true)]
        .into_iter()
        .chain((0..candidates).map(|i| (format!("other{i}"), false)))
        .collect();
    let cells: Vec<Cell> = names
        .iter()
        .map(|(name, aa)| Cell {
            workload: WorkloadSpec::Named { name: "w".into(), parameters: BTreeMap::new(), pace: Default::default() },
            allocator: Allocator {
                name: name.clone(),
                kind: AllocatorKind::Other,
                library: None,
                libc: None,
                settings: Settings::new(),
                environment: BTreeMap::new(),
                notes: Vec::new(),
            },
            aa: *aa,
            thp: None,
        })
        .collect();
    let runs: Vec<PlannedRun> = (0..blocks)
        .flat_map(|repetition| (0..cells.len()).map(move |cell| (repetition, cell)))
        .enumerate()
        .map(|(run, (repetition, cell))| PlannedRun { run: run as u32, cell, repetition })
        .collect();
    let plan = Plan { seed: 1, cells, runs };
    let drift: Vec<f64> = (0..blocks).map(|_| 1.0 + 0.5 * rng.random::<f64>()).collect();
    let records: Vec<RunRecord> = plan
        .runs
        .iter()
        .map(|planned| {
            let drift = drift[planned.repetition as usize];
            let own = if planned.cell >= 2 { shift } else { 1.0 };
            let peak = 1e8 * own * noise(rng);
            record(
                &plan,
                planned,
                [("heap_rss_peak_bytes", peak), ("heap_rss_idle_bytes", peak), ("ops_per_s", 1e6 * drift * noise(rng))],
            )
        })
        .collect();
    summarize(&plan, &records, false, DEFAULT_RELEVANT)
}

fn record(plan: &Plan, planned: &PlannedRun, metrics: [(&str, f64); 3]) -> RunRecord {
    let cell = &plan.cells[planned.cell];
    RunRecord {
        schema: fragbench_model::SCHEMA,
        run: planned.run,
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
        metrics: metrics.map(|(k, v)| (k.to_owned(), v)).into(),
        phases: Vec::new(),
        done: None,
        load: MachineLoad::default(),
        sampler_cpu_ratio: None,
        samples: None,
        cautions: Vec::new(),
    }
}

#[test]
fn found_and_of_consequence_are_two_things() {
    let mut rng = Pcg64Mcg::seed_from_u64(5);
    let small = simulate(&mut rng, two_percent, 30, 1, 0.97);
    let effect = small.comparisons[0].effects["heap_rss_peak_bytes"];
    assert_eq!((effect.standing, effect.relevant), (Standing::Significant, false), "{effect:?}");
    assert_ne!(small.verdict.kind, VerdictKind::Switch);
    let large = simulate(&mut rng, two_percent, 15, 1, 0.8);
    let effect = large.comparisons[0].effects["heap_rss_peak_bytes"];
    assert_eq!((effect.standing, effect.relevant), (Standing::Significant, true), "{effect:?}");
    assert_eq!(large.verdict.kind, VerdictKind::Switch);
}

#[test]
fn the_same_allocator_under_other_names_is_never_recommended() {
    for (name, noise) in NOISES {
        for blocks in [2, 5, 6, 15] {
            let mut rng = Pcg64Mcg::seed_from_u64(u64::from(blocks));
            let recommended = (0..20)
                .filter(|_| {
                    let verdict = simulate(&mut rng, noise, blocks, 1, 1.0).verdict;
                    matches!(verdict.kind, VerdictKind::Switch | VerdictKind::Tune)
                })
                .count();
            assert_eq!(recommended, 0, "{name}, {blocks} blocks: of twenty");
        }
    }
}

/// A result of so many blocks, each a repetition of the first `blocks.len()`: for each block the figures (memory, throughput)
/// of the baseline, its copy and the candidates.
fn repeated(blocks: &[Vec<(f64, f64)>], times: usize) -> Summary {
    let cell = |i: usize| Cell {
        workload: WorkloadSpec::Named { name: "w".into(), parameters: BTreeMap::new(), pace: Default::default() },
        allocator: Allocator {
            name: if i < 2 { "glibc".into() } else { format!("other{i}") },
            kind: AllocatorKind::Other,
            library: None,
            libc: None,
            settings: Settings::new(),
            environment: BTreeMap::new(),
            notes: Vec::new(),
        },
        aa: i == 1,
        thp: Default::default(),
    };
    let cells: Vec<Cell> = (0..blocks[0].len()).map(cell).collect();
    let mut plan = Plan { seed: 1, cells, runs: Vec::new() };
    for repetition in 0..times {
        for cell in 0..plan.cells.len() {
            plan.runs.push(PlannedRun { run: plan.runs.len() as u32, cell, repetition: repetition as u32 });
        }
    }
    let records: Vec<RunRecord> = plan
        .runs
        .iter()
        .map(|planned| {
            let (memory, speed) = blocks[planned.repetition as usize % blocks.len()][planned.cell];
            let figures = [("heap_rss_peak_bytes", memory), ("heap_rss_idle_bytes", memory), ("ops_per_s", speed)];
            record(&plan, planned, figures)
        })
        .collect();
    summarize(&plan, &records, false, DEFAULT_RELEVANT)
}

fn recommends(summary: &Summary) -> bool {
    matches!(summary.verdict.kind, VerdictKind::Switch | VerdictKind::Tune)
}

#[test]
fn more_equal_blocks_never_take_a_recommendation_away() {
    let mut rng = Pcg64Mcg::seed_from_u64(12);
    let mut recommended = 0;
    for round in 0..60 {
        let candidates = 1 + round % 6;
        // Memory and throughput of each candidate: some gain much, some nothing, some lose.
        let truth: Vec<(f64, f64)> = (0..candidates)
            .map(|_| {
                let speed = [1.0, 1.0, 0.9, 0.5][rng.random_range(0..4)];
                ([0.18, 0.4, 0.7, 1.0, 1.3][rng.random_range(0..5)], speed)
            })
            .collect();
        let deviation = [0.0, 0.01, 0.03][rng.random_range(0..3)];
        let distinct = rng.random_range(1..=2);
        let blocks: Vec<Vec<(f64, f64)>> = (0..distinct)
            .map(|_| {
                let of = |(memory, speed): (f64, f64), rng: &mut Pcg64Mcg| {
                    (1e8 * memory * normal(rng, deviation), 1e6 * speed * normal(rng, deviation))
                };
                let all = [(1.0, 1.0); 2].iter().chain(&truth);
                all.map(|truth| of(*truth, &mut rng)).collect()
            })
            .collect();
        let mut before = false;
        for times in 2..=12 {
            let summary = repeated(&blocks, times);
            let now = recommends(&summary);
            assert!(
                now || !before,
                "round {round}: {times} blocks of {candidates} candidates take it away: {truth:?}, {:?}",
                summary.verdict.reasons
            );
            before = now;
        }
        recommended += usize::from(before);
    }
    assert!(recommended >= 20, "{recommended} of 60: the property is about recommendations");
}

#[test]
fn a_great_saving_in_every_block_is_recommended_with_any_number_of_them() {
    // What serial peaks do: an arena limit holds 16 instead of 89 MiB, the run's time is mostly chance.
    let mut rng = Pcg64Mcg::seed_from_u64(89);
    for blocks in 2..=12 {
        for candidates in 1..=6 {
            let block = |rng: &mut Pcg64Mcg| -> Vec<(f64, f64)> {
                let memory = [89.0, 89.0, 16.0, 16.0, 89.0, 70.0, 60.0, 95.0];
                memory[..2 + candidates].iter().map(|m| (m * normal(rng, 0.01), normal(rng, 0.3))).collect()
            };
            let all: Vec<_> = (0..blocks).map(|_| block(&mut rng)).collect();
            let summary = repeated(&all, blocks);
            assert!(recommends(&summary), "{blocks} blocks, {candidates} candidates: {:?}", summary.verdict.reasons);
        }
    }
}
