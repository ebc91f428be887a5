//! How the runs of a workload compare with the server it stands for: what a reader must know before using the figures.

use fragbench_model::{CellSummary, Manifest, RecordingFact, Summary, label};

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
    /// `None` where no cell ran what was recorded.
    fn of(fact: &RecordingFact, summary: &Summary) -> Option<Self> {
        let same = |cell: &&CellSummary| {
            cell.workload == fact.workload && cell.allocator == fact.allocator && cell.settings == fact.settings
        };
        let cell = summary.cells.iter().find(same)?;
        let moments = [
            ("peak", "heap_rss_peak_bytes", fact.heap_peak_bytes),
            ("mean", "heap_rss_mean_bytes", fact.heap_mean_bytes),
            ("end", "heap_rss_end_bytes", fact.heap_end_bytes),
        ];
        let moments: Vec<_> = moments
            .into_iter()
            .filter_map(|(name, metric, server)| Some((name, cell.metrics.get(metric)?.median, server as f64)))
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
                format!("{name} {} against {} ({off:+.1} %)", bytes(*replay), bytes(*server))
            })
            .collect();
        let warning = if self.worst() > FAR {
            format!(
                "; that is beyond {:.0} %: where the server held more it may have mapped memory of its own, such as a buffer \
                 pool (`fragbench inspect` shows it apart), else decide by a trial on the server",
                100.0 * FAR
            )
        } else {
            String::new()
        };
        format!(
            "{}: heap of the replay under {} against anonymous memory of the recorded server, its own mappings included: \
             {}{warning}.",
            fact.workload,
            label(&fact.allocator, &fact.settings),
            each.join(", ")
        )
    }
}

/// Sentences on a workload, or on all when none is named: how far a replay is from its server, and where its huge pages
/// differ.
pub fn server_notes(manifest: &Manifest, summary: &Summary, workload: Option<&str>) -> Vec<String> {
    let of = |name: &str| workload.is_none_or(|workload| workload == name);
    let replays = manifest
        .recordings
        .iter()
        .filter(|fact| of(&fact.workload))
        .filter_map(|fact| Some(Fidelity::of(fact, summary)?.sentence(fact)));
    let huge_pages = manifest.huge_pages.iter().filter(|fact| of(&fact.workload)).filter_map(|fact| {
        Some(format!("{}: resident memory differs for that alone; --thp chooses.", fact.caution()?))
    });
    replays.chain(huge_pages).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fidelity(replay: f64) -> String {
        let fact = RecordingFact {
            workload: "replay/x".into(),
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

    #[test]
    fn a_far_replay_warns_and_a_near_one_does_not() {
        assert_eq!(
            fidelity(0.98),
            "replay/x: heap of the replay under glibc against anonymous memory of the recorded server, its own mappings \
             included: peak 98 MiB against 100 MiB (-2.0 %)."
        );
        assert!(fidelity(1.16).contains("(+16.0 %); that is beyond 15 %"));
    }
}
