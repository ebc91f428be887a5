//! Plans carried out by a runner that runs nothing: what is stopped, what goes on.

use fragbench_model::{Allocator, AllocatorKind, Common, Driver, Failure, ResultKind};

use super::*;
use crate::plan::{Selection, build, tests::selection};
use crate::results::{Conditions, new_manifest};
use crate::session::RunLimits;

/// Says of each run whether it succeeds.
struct Pretend<F: FnMut(&Cell) -> bool> {
    succeeds: F,
    runs: usize,
    /// Run at which the user stops it.
    interrupted_at: usize,
}

impl<F: FnMut(&Cell) -> bool> Runner for Pretend<F> {
    fn prepare(&mut self, _cells: &[Cell]) {}

    fn run(&mut self, order: &Order, _interrupted: &AtomicBool) -> (RunRecord, Vec<Sample>) {
        self.runs += 1;
        let mut record = RunRecord::begin(order.cell.workload.name(), &order.cell.allocator, 0);
        let kind = if self.runs == self.interrupted_at { FailureKind::Interrupted } else { FailureKind::ExitStatus };
        if kind == FailureKind::Interrupted || !(self.succeeds)(order.cell) {
            record.status = RunStatus::Failed(Failure { kind, reason: "so it was wanted".into() });
        }
        (record, Vec::new())
    }
}

fn manifest(repetitions: u32) -> Manifest {
    let plan = build(&Selection { repetitions, ..selection() });
    let limits = RunLimits { timeout: Duration::from_secs(1), mem_limit_bytes: 1 << 30, sample_interval_ns: 1_000_000 };
    let common = Common { seed: 7, idle_ms: 0, driver: Some(Driver::default()) };
    let kind = ResultKind::Comparison;
    let conditions = Conditions { kind, profile: "quick", programs: &[], common, limits, relevant: 0.05, part: None };
    new_manifest(conditions, plan)
}

fn pretend<F: FnMut(&Cell) -> bool>(succeeds: F) -> Pretend<F> {
    Pretend { succeeds, runs: 0, interrupted_at: 0 }
}

fn carry_out(campaign: &mut Campaign, runner: &mut dyn Runner) -> Ending {
    campaign.run(runner, &mut StoppingRule::all(), &AtomicBool::new(false), &mut |_| ()).unwrap()
}

#[test]
fn a_plan_is_given_up_after_the_first_block_in_which_every_run_failed() {
    let mut campaign = Campaign::begin(None, manifest(3)).unwrap();
    assert_eq!(carry_out(&mut campaign, &mut pretend(|_| false)), Ending::AllFailed);
    assert_eq!(campaign.records.len(), 6, "one block of six cells");
    assert!(!campaign.is_partial() && campaign.manifest.plan.runs.len() == 6);

    let mut campaign = Campaign::begin(None, manifest(3)).unwrap();
    let mut some = pretend(|cell| cell.allocator.kind == AllocatorKind::Glibc);
    assert_eq!(carry_out(&mut campaign, &mut some), Ending::Finished);
    assert_eq!(campaign.records.len(), campaign.manifest.plan.runs.len());
    assert!(campaign.manifest.ended_unix_s.is_some());
}

#[test]
fn an_interrupted_plan_is_finished_without_running_anything_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let mut campaign = Campaign::begin(Some(&path), manifest(2)).unwrap();
    let planned = campaign.manifest.plan.runs.len();
    let mut runner = Pretend { interrupted_at: 4, ..pretend(|_| true) };
    assert_eq!(carry_out(&mut campaign, &mut runner), Ending::Interrupted);
    assert_eq!((campaign.records.len(), campaign.is_partial()), (3, true));
    drop(campaign);

    let mut campaign = Campaign::resume(&path).unwrap();
    assert_eq!(campaign.manifest.ended_unix_s, None);
    let mut runner = pretend(|_| true);
    assert_eq!(carry_out(&mut campaign, &mut runner), Ending::Finished);
    assert_eq!(runner.runs, planned - 3);
    let mut runs: Vec<u32> = campaign.records.iter().map(|record| record.run).collect();
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), planned);
}

fn glibc(settings: &[(&str, &str)]) -> Allocator {
    Allocator {
        name: "glibc".into(),
        kind: AllocatorKind::Glibc,
        library: None,
        libc: None,
        settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        environment: Default::default(),
        notes: Vec::new(),
    }
}

/// Gives each run what its settings multiply the memory by, exactly but for a part in a thousand.
struct Landscape(fn(&fragbench_model::Settings) -> f64, u32);

impl Runner for Landscape {
    fn prepare(&mut self, _cells: &[Cell]) {}

    fn run(&mut self, order: &Order, _interrupted: &AtomicBool) -> (RunRecord, Vec<Sample>) {
        self.1 += 1;
        let mut record = RunRecord::begin(order.cell.workload.name(), &order.cell.allocator, 0);
        let jitter = 1.0 + 0.001 * f64::from(self.1 * 7 % 5);
        let memory = 1e8 * (self.0)(&order.cell.allocator.settings) * jitter;
        record.metrics = [("heap_rss_peak_bytes".to_owned(), memory), ("ops_per_s".to_owned(), 1e6 * jitter)].into();
        (record, Vec::new())
    }
}

#[test]
fn a_setting_that_does_not_earn_its_place_is_left_out_and_not_recommended() {
    let memory: fn(&fragbench_model::Settings) -> f64 = |settings| {
        // The arena limit halves it; the top pad does next to nothing, but looks a little better.
        let arenas = if settings.contains_key("MALLOC_ARENA_MAX") { 0.5 } else { 1.0 };
        arenas * if settings.contains_key("MALLOC_TOP_PAD_") { 0.98 } else { 1.0 }
    };
    let both = [("MALLOC_ARENA_MAX", "2"), ("MALLOC_TOP_PAD_", "0")];
    let candidates = vec![glibc(&both), glibc(&[("MALLOC_CHECK_", "0")])];
    let plan = Search::first_plan(&selection().workloads.remove(0), glibc(&[]), candidates, 7);
    let mut campaign = Campaign::begin(None, Manifest { plan, ..manifest(1) }).unwrap();
    let resolve = |name: &str, settings: &fragbench_model::Settings| {
        assert_eq!(name, "glibc");
        Some(Allocator { settings: settings.clone(), ..glibc(&[]) })
    };
    let metric = "heap_rss_peak_bytes";
    let mut search = Search::new(&campaign.manifest, metric, Duration::from_secs(3600), &resolve);
    let (mut runner, not_interrupted) = (Landscape(memory, 0), AtomicBool::new(false));
    search.pilot(&mut campaign.manifest, &mut runner, &not_interrupted);
    campaign.run(&mut runner, &mut search, &not_interrupted, &mut |_| ()).unwrap();
    let finalists = search.finalists(&campaign.manifest, &campaign.records);
    let settings = |cell: &usize| &campaign.manifest.plan.cells[*cell].allocator.settings;
    for wanted in [&both[..], &both[..1], &both[1..]] {
        assert!(finalists.iter().any(|cell| *settings(cell) == glibc(wanted).settings), "{wanted:?} is judged");
    }
    let (plan, records) = (&campaign.manifest.plan, &campaign.records);
    let tuning = fragbench_decide::tuning(plan, records, &finalists, metric, 0.05, false);
    let recommended = tuning.recommendation.expect("half the memory");
    assert_eq!(recommended.settings, glibc(&both[..1]).settings);
    assert!(!recommended.preliminary, "the finalists have the blocks their test needs: {:?}", tuning.verdict.doubts);
}

#[test]
fn however_short_the_time_the_thresholds_are_tried() {
    let names = ["MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_"];
    let candidates = names.map(|name| glibc(&[(name, "131072")])).to_vec();
    let plan = Search::first_plan(&selection().workloads.remove(0), glibc(&[]), candidates, 7);
    let mut manifest = Manifest { plan, ..manifest(1) };
    let mut search = Search::new(&manifest, "heap_rss_peak_bytes", Duration::ZERO, &|_, _| None);
    let outlook = search.pilot(&mut manifest, &mut pretend(|_| true), &AtomicBool::new(false));
    assert_eq!(outlook.affordable, 0);
    let planned: Vec<usize> = manifest.plan.runs.iter().map(|run| run.cell).filter(|cell| *cell > 1).collect();
    let mut tried: Vec<&String> =
        planned.iter().flat_map(|cell| manifest.plan.cells[*cell].allocator.settings.keys()).collect();
    tried.sort();
    assert_eq!(tried, ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"]);
}

#[test]
fn a_search_goes_on_where_it_was_interrupted() {
    let workload = selection().workloads.remove(0);
    let candidates = (1..9).map(|n| glibc(&[("MALLOC_ARENA_MAX", &n.to_string())])).collect();
    let plan = Search::first_plan(&workload, glibc(&[]), candidates, 7);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let mut campaign = Campaign::begin(Some(&path), Manifest { plan, ..manifest(1) }).unwrap();
    let (time, not_interrupted) = (Duration::from_secs(3600), AtomicBool::new(false));
    let mut search = Search::new(&campaign.manifest, "heap_rss_peak_bytes", time, &|_, _| None);
    let mut runner = Pretend { interrupted_at: 5, ..pretend(|_| true) };
    let outlook = search.pilot(&mut campaign.manifest, &mut runner, &not_interrupted);
    assert_eq!((outlook.candidates, outlook.affordable), (8, 8));
    let ending = campaign.run(&mut runner, &mut search, &not_interrupted, &mut |_| ()).unwrap();
    assert_eq!((ending, campaign.records.len()), (Ending::Interrupted, 3), "the pilot is not kept");
    search.keep(&mut campaign.manifest);
    campaign.keep_manifest().unwrap();

    let mut campaign = Campaign::resume(&path).unwrap();
    let mut search = Search::new(&campaign.manifest, "heap_rss_peak_bytes", time, &|_, _| None);
    let mut runner = pretend(|_| true);
    search.pilot(&mut campaign.manifest, &mut runner, &not_interrupted);
    let ending = campaign.run(&mut runner, &mut search, &not_interrupted, &mut |_| ()).unwrap();
    assert_eq!(ending, Ending::Finished);
    assert!(search.progress().0 > 0, "it went on to further rungs");
    let first: Vec<_> = campaign.records.iter().filter(|record| record.repetition == 0).collect();
    assert_eq!(first.len(), 10, "the block that was interrupted is whole");
}
