//! Generated work beside the recording it was distilled from: distances, and resident memory under each allocator where
//! the result holds a replay of a recording of the same name.

use fragbench_model::{CellSummary, ProfileFact, label};

use crate::ResultData;
use crate::distance::distance_table;
use crate::table::{Row, Table, Value};
use crate::units::bytes;

/// Stands over both tables.
pub(crate) const HEADING: &str = "Generated from a profile";
/// What the tables say and what they do not.
pub(crate) const LEGEND: &str = "Measured on the generated work itself, beside the recording as the profile tells it. \
    KS: largest difference of two cumulative distributions, 0 equal, 1 disjoint. NRMSE: error of the live curve as a \
    share of its range.";

/// What is known of a workload that was generated.
pub(crate) fn fact<'a>(data: &'a ResultData, workload: &str) -> Option<&'a ProfileFact> {
    data.manifest.profiles.iter().find(|fact| fact.workload == workload)
}

/// Generated work and recording, figure by figure.
pub(crate) fn shape_table(fact: &ProfileFact) -> Table {
    let mut table = distance_table(&fact.generated, &fact.recording, &fact.distances);
    table.columns = vec!["generated".into(), "recording".into(), "distance".into()];
    table.corner = "whole length".into();
    table
}

const METRICS: [(&str, &str); 3] =
    [("heap_rss_peak_bytes", "peak"), ("heap_rss_end_bytes", "end"), ("heap_rss_idle_bytes", "idle")];

/// Resident heap under each allocator: replay of the recording, generated work, difference. `None` when the result
/// holds no replay of that name.
pub(crate) fn memory_table(data: &ResultData, workload: &str) -> Option<Table> {
    let replay = format!("replay/{}", workload.strip_prefix("profile/")?);
    let cells = |name: &str| data.summary.cells.iter().filter(move |c| c.workload == name).collect::<Vec<_>>();
    let recorded = cells(&replay);
    let rows: Vec<Row> = cells(workload)
        .into_iter()
        .filter_map(|work| {
            let twin = recorded.iter().find(|r| r.allocator == work.allocator && r.settings == work.settings)?;
            Some(row(twin, work))
        })
        .collect();
    let columns = METRICS.iter().flat_map(|(_, when)| {
        [format!("heap RSS {when}, replay"), format!("{when}, generated"), format!("{when}, difference")]
    });
    (!rows.is_empty()).then(|| Table {
        corner: "allocator".into(),
        columns: columns.collect(),
        rows,
        notes: Vec::new(),
    })
}

fn row(replay: &CellSummary, work: &CellSummary) -> Row {
    let values = METRICS.iter().flat_map(|(metric, _)| {
        let median = |cell: &CellSummary| cell.metrics.get(*metric).map(|i| i.median);
        let (a, b) = (median(replay), median(work));
        let apart = a.zip(b).filter(|(a, _)| *a > 0.0).map(|(a, b)| format!("{:+.1} %", 100.0 * (b / a - 1.0)));
        [a.map(bytes), b.map(bytes), apart].map(|text| text.map(|text| Value { text, interval: None, mark: None }))
    });
    Row { label: label(&work.allocator, &work.settings), values: values.collect() }
}
