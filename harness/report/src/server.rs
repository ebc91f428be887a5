//! How the runs of a workload compare with the server it stands for: what a reader must know before using the figures.

use std::collections::BTreeMap;

use fragbench_decide::{CellRuns, cell_runs, median};
use fragbench_model::{Manifest, Plan, RecordingFact, RunRecord, label};

use crate::units::bytes;

/// Distance from the recorded server beyond which a reader is warned.
const FAR: f64 = 0.15;

/// A replay under what was recorded, beside what the recorded server held.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fidelity {
    /// Name of the moment, what the replay held and what the server held, bytes.
    pub(crate) moments: Vec<(&'static str, f64, f64)>,
}

impl Fidelity {
    /// `None` where no run had what was recorded.
    fn of(fact: &RecordingFact, cells: &[CellRuns]) -> Option<Self> {
        let same = |runs: &&CellRuns| {
            let cell = runs.cell;
            !cell.aa
                && cell.workload.name() == fact.workload
                && cell.allocator.name == fact.allocator
                && cell.allocator.settings == fact.settings
        };
        let runs = &cells.iter().find(same)?.ok;
        let replayed = |metric: &str| {
            let of_this = runs.iter().filter(|run| run.recording == fact.recording);
            median(&of_this.filter_map(|run| run.metrics.get(metric).copied()).collect::<Vec<_>>())
        };
        let moments = [
            ("peak", "heap_rss_peak_bytes", fact.heap_peak_bytes),
            ("mean", "heap_rss_mean_bytes", fact.heap_mean_bytes),
            ("end", "heap_rss_end_bytes", fact.heap_end_bytes),
        ];
        let moments: Vec<_> = moments
            .into_iter()
            .filter_map(|(name, metric, server)| Some((name, replayed(metric)?, server as f64)))
            .collect();
        (!moments.is_empty()).then_some(Self { moments })
    }

    /// Greatest distance as a share of what the server held.
    fn worst(&self) -> f64 {
        self.moments.iter().map(|(_, replay, server)| (replay / server.max(1.0) - 1.0).abs()).fold(0.0, f64::max)
    }

    fn sentence(&self, fact: &RecordingFact) -> String {
        let each: Vec<String> = self
            .moments
            .iter()
            .map(|(name, replay, server)| {
                let off = 100.0 * (replay / server.max(1.0) - 1.0);
                format!("{name} {} of {} ({off:+.0} %)", bytes(*replay), bytes(*server))
            })
            .collect();
        let recording = fact.recording.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        format!(
            "{}{recording}: heap of the replay under {} of what the recorded server held: {}{}.",
            fact.workload,
            label(&fact.allocator, &fact.settings),
            each.join(", "),
            if self.worst() > FAR { "; far" } else { "" }
        )
    }
}

/// How to read these sentences, where there are some: the server's figures are an upper bound.
fn bound_note(far: bool) -> String {
    let far = match far {
        true => format!(
            " Far is beyond {:.0} %: see with `fragbench inspect` what the server maps itself, or decide by a trial on the server.",
            100.0 * FAR
        ),
        false => String::new(),
    };
    format!(
        "What a server held is its anonymous memory without stacks, its own mappings such as a buffer pool included: an upper \
         bound of its heap.{far}"
    )
}

/// Sentences on a workload, or on all when none is named: how far a replay is from its server, and where its huge pages
/// differ.
pub fn server_notes(manifest: &Manifest, records: &[RunRecord], workload: Option<&str>) -> Vec<String> {
    let of = |name: &str| workload.is_none_or(|workload| workload == name);
    let cells = cell_runs(&manifest.plan, records);
    let replays: Vec<(Fidelity, &RecordingFact)> = manifest
        .recordings
        .iter()
        .filter(|fact| of(&fact.workload))
        .filter_map(|fact| Some((Fidelity::of(fact, &cells)?, fact)))
        .collect();
    let far = replays.iter().any(|(fidelity, _)| fidelity.worst() > FAR);
    let bound = (!replays.is_empty()).then(|| bound_note(far));
    let huge_pages = manifest.huge_pages.iter().filter(|fact| of(&fact.workload)).filter_map(|fact| {
        Some(format!("{}: resident memory differs for that alone; --thp chooses.", fact.caution()?))
    });
    replays.iter().map(|(fidelity, fact)| fidelity.sentence(fact)).chain(bound).chain(huge_pages).collect()
}

/// Which scatter the intervals of a plan's replays contain, in a line; `None` of a plan without replays.
pub fn recordings_note(plan: &Plan) -> Option<String> {
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    for cell in &plan.cells {
        let recordings = cell.workload.recordings().len();
        by_name.extend((recordings > 0).then(|| (cell.workload.name(), recordings)));
    }
    if by_name.is_empty() {
        return None;
    }
    let several: Vec<String> =
        by_name.iter().filter(|(_, n)| **n > 1).map(|(name, n)| format!("{name} {n} recordings in turn")).collect();
    let one = "one recording a replay: intervals do not contain what runs of the server scatter (--same-load adds recordings)";
    Some(match (several.is_empty(), several.len() == by_name.len()) {
        (true, _) => one.to_owned(),
        (_, true) => format!("{}: intervals contain what these runs of the server scatter", several.join(", ")),
        _ => format!("{}, else {one}", several.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use fragbench_model::{Cell, Pace, PlannedRun, WorkloadSpec, stem};

    use super::*;

    fn fidelity(replay: f64) -> String {
        let fact = RecordingFact {
            workload: "replay/x".into(),
            recording: None,
            allocator: "glibc".into(),
            settings: Default::default(),
            heap_peak_bytes: 100 << 20,
            heap_mean_bytes: 100 << 20,
            heap_end_bytes: 100 << 20,
            samples: Vec::new(),
        };
        let held = replay * f64::from(100 << 20);
        Fidelity { moments: vec![("peak", held, f64::from(100 << 20))] }.sentence(&fact)
    }

    fn plan(recordings: &[&[&str]]) -> Plan {
        let cells = recordings.iter().map(|names| {
            let mut files = names.iter().map(|name| format!("{name}.fbt").into());
            let workload = WorkloadSpec::Replay {
                trace: files.next().unwrap_or_default(),
                pace: Pace::Virtual,
                skew_us: 0,
                threads_scale: 1,
                same_load: files.collect(),
            };
            let allocator =
                serde_json::json!({ "name": "glibc", "kind": "glibc", "settings": {}, "environment": {}, "notes": [] });
            Cell::new(workload, serde_json::from_value(allocator).unwrap())
        });
        let cells: Vec<Cell> = cells.collect();
        let runs = (0..4).map(|n| PlannedRun { run: n, cell: 0, repetition: n }).collect();
        Plan { seed: 0, cells, runs }
    }

    #[test]
    fn each_recorded_server_is_held_against_the_runs_of_its_own_recording() {
        let plan = plan(&[&["a", "b"]]);
        let cell = &plan.cells[0];
        let records: Vec<RunRecord> = plan
            .runs
            .iter()
            .map(|planned| {
                let mut record = RunRecord::begin(cell.workload.name(), &cell.allocator, 0);
                (record.run, record.repetition) = (planned.run, planned.repetition);
                record.recording = cell.workload.recording_of(planned.repetition).map(stem);
                let held = if record.recording.as_deref() == Some("a") { 100 << 20 } else { 300 << 20 };
                record.metrics.insert("heap_rss_end_bytes".into(), f64::from(held));
                record
            })
            .collect();
        let cells = cell_runs(&plan, &records);
        let off = |name: &str, held: u64| {
            let fact = RecordingFact {
                workload: "replay/a".into(),
                recording: Some(name.into()),
                allocator: "glibc".into(),
                settings: Default::default(),
                heap_peak_bytes: held,
                heap_mean_bytes: held,
                heap_end_bytes: held,
                samples: Vec::new(),
            };
            Fidelity::of(&fact, &cells).unwrap().sentence(&fact)
        };
        let (a, b) = (off("a", 100 << 20), off("b", 200 << 20));
        assert!(a.starts_with("replay/a (a): ") && a.contains("(+0 %)"), "{a}");
        assert!(b.starts_with("replay/a (b): ") && b.contains("(+50 %)"), "{b}");
    }

    #[test]
    fn which_scatter_intervals_contain_is_said_once() {
        let said = |recordings: &[&[&str]]| recordings_note(&plan(recordings)).unwrap_or_default();
        assert_eq!(said(&[]), "");
        let one = "one recording a replay: intervals do not contain what runs of the server scatter (--same-load adds recordings)";
        assert_eq!(said(&[&["a"], &["b"]]), one);
        let in_turn = "replay/a 2 recordings in turn";
        assert_eq!(said(&[&["a", "b"]]), format!("{in_turn}: intervals contain what these runs of the server scatter"));
        assert_eq!(said(&[&["a", "b"], &["c"]]), format!("{in_turn}, else {one}"));
    }

    #[test]
    fn a_far_replay_warns_and_a_near_one_does_not() {
        assert_eq!(
            fidelity(0.98),
            "replay/x: heap of the replay under glibc of what the recorded server held: peak 98 MiB of 100 MiB (-2 %)."
        );
        assert!(fidelity(1.16).ends_with("(+16 %); far."));
        assert!(bound_note(true).contains("beyond 15 %") && !bound_note(false).contains("15 %"));
    }
}
