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

#[test]
fn a_search_goes_on_where_it_was_interrupted() {
    let glibc = |settings: &[(&str, &str)]| Allocator {
        name: "glibc".into(),
        kind: AllocatorKind::Glibc,
        library: None,
        libc: None,
        settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        environment: Default::default(),
        notes: Vec::new(),
    };
    let workload = selection().workloads.remove(0);
    let candidates = (1..9).map(|n| glibc(&[("MALLOC_ARENA_MAX", &n.to_string())])).collect();
    let plan = Search::first_plan(&workload, glibc(&[]), candidates, 7);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let mut campaign = Campaign::begin(Some(&path), Manifest { plan, ..manifest(1) }).unwrap();
    let (time, not_interrupted) = (Duration::from_secs(3600), AtomicBool::new(false));
    let mut search = Search::new(&campaign.manifest, "heap_rss_peak_bytes", time, &|_| None);
    let mut runner = Pretend { interrupted_at: 5, ..pretend(|_| true) };
    let outlook = search.pilot(&mut campaign.manifest, &mut runner, &not_interrupted);
    assert_eq!((outlook.candidates, outlook.affordable), (8, 8));
    let ending = campaign.run(&mut runner, &mut search, &not_interrupted, &mut |_| ()).unwrap();
    assert_eq!((ending, campaign.records.len()), (Ending::Interrupted, 3), "the pilot is not kept");
    search.keep(&mut campaign.manifest);
    campaign.keep_manifest().unwrap();

    let mut campaign = Campaign::resume(&path).unwrap();
    let mut search = Search::new(&campaign.manifest, "heap_rss_peak_bytes", time, &|_| None);
    let mut runner = pretend(|_| true);
    search.pilot(&mut campaign.manifest, &mut runner, &not_interrupted);
    let ending = campaign.run(&mut runner, &mut search, &not_interrupted, &mut |_| ()).unwrap();
    assert_eq!(ending, Ending::Finished);
    assert!(search.progress().0 > 0, "it went on to further rungs");
    let first: Vec<_> = campaign.records.iter().filter(|record| record.repetition == 0).collect();
    assert_eq!(first.len(), 10, "the block that was interrupted is whole");
}
