//! Tables as data: which cells, which figures, what is marked. `terminal`, `markdown` and `html` only draw them.

use fragbench_decide::{Comparison, NULL, against_baseline, cell_runs};
use fragbench_model::{
    Better, CellSummary, FailureKind, Interval, Metric, Plan, RunRecord, RunStatus, Summary, label, metric,
};

use crate::ResultData;
use crate::units::{digits, human};

/// Columns of the result table: metric and heading. VIRT stands apart from RSS.
pub const COLUMNS: &[(&str, &str)] = &[
    ("heap_rss_peak_bytes", "RSS peak"),
    ("heap_rss_mean_bytes", "RSS mean"),
    ("heap_rss_end_bytes", "RSS end"),
    ("heap_rss_idle_bytes", "RSS idle"),
    ("heap_rss_after_purge_bytes", "RSS purged"),
    ("rss_over_live_at_live_peak_ratio", "RSS/live at peak"),
    ("vm_peak_bytes", "VIRT peak"),
    ("ops_per_s", "ops"),
    ("malloc_p99_ns", "malloc p99"),
    ("arena_count", "arenas"),
    ("purge_ms", "purge"),
];

/// Columns of the page's table of memory: those of [`COLUMNS`] that are.
pub const MEMORY_COLUMNS: &[(&str, &str)] = COLUMNS.split_at(7).0;

/// Columns of the page's table of time and arenas.
pub const SPEED_COLUMNS: &[(&str, &str)] = &[
    ("ops_per_s", "calls"),
    ("malloc_p50_ns", "malloc median"),
    ("malloc_p99_ns", "malloc 99\u{a0}%"),
    ("malloc_p999_ns", "malloc 99.9\u{a0}%"),
    ("malloc_max_ns", "malloc longest"),
    ("free_p99_ns", "free 99 %"),
    ("minor_faults_count", "page faults"),
    ("arena_count", "arenas"),
];

/// Columns of the purge table.
pub const PURGE_COLUMNS: &[(&str, &str)] = &[
    ("purge_ms", "first purge"),
    ("purge_released_bytes", "given back"),
    ("purge_second_ms", "second purge"),
    ("purge_stall_max_ns", "longest stall"),
    ("heap_rss_after_purge_bytes", "RSS after"),
    ("refault_count", "refaults"),
];

/// Columns of the table relative to the baseline.
pub const RATIO_COLUMNS: &[(&str, &str)] = &[
    ("heap_rss_mean_bytes", "RSS mean"),
    ("heap_rss_peak_bytes", "RSS peak"),
    ("heap_rss_idle_bytes", "RSS idle"),
    ("vm_peak_bytes", "VIRT peak"),
    ("ops_per_s", "throughput"),
    ("malloc_p99_ns", "malloc p99"),
];

/// Best or worst of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The best.
    Best,
    /// The worst.
    Worst,
}

impl Mark {
    /// The sign that stands beside the figure: a mark must not need colour.
    pub fn sign(self) -> &'static str {
        match self {
            Mark::Best => "▲",
            Mark::Worst => "▽",
        }
    }
}

/// What the marks mean, below a table.
pub(crate) const LEGEND: &str =
    "▲ best, ▽ worst of the column; not marked where they differ by no more than noise; null never is.";

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Median in human units.
    pub text: String,
    /// 95 % interval in human units, when there is more than one run and it is not a point.
    pub interval: Option<String>,
    /// Best or worst of the column.
    pub mark: Option<Mark>,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What the row is about.
    pub label: String,
    /// One a column; `None` is missing.
    pub values: Vec<Option<Value>>,
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Heading of the label column.
    pub corner: String,
    /// Headings.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Row>,
    /// Lines below the table: failures by name with their reason.
    pub notes: Vec<String>,
}

impl Table {
    /// Takes a column out by its heading, if there is one.
    pub(crate) fn remove_column(&mut self, heading: &str) {
        if let Some(i) = self.columns.iter().position(|c| c == heading) {
            self.columns.remove(i);
            for row in &mut self.rows {
                row.values.remove(i);
            }
        }
    }
}

/// Workloads in the summary's order.
pub(crate) fn workloads(summary: &Summary) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for cell in &summary.cells {
        if !names.contains(&cell.workload.as_str()) {
            names.push(&cell.workload);
        }
    }
    names
}

/// The result table of a workload, with failed cells named below it.
pub fn result_table(summary: &Summary, plan: &Plan, records: &[RunRecord], workload: &str) -> Table {
    let mut table = metric_table(summary, workload, COLUMNS);
    table.notes = failures(plan, records, workload);
    table
}

/// The purge table of a workload. Cells that have no figure of a purge are left out.
pub fn purge_table(summary: &Summary, workload: &str) -> Table {
    let mut table = metric_table(summary, workload, PURGE_COLUMNS);
    table.rows.retain(|r| r.values.iter().any(Option::is_some));
    table
}

/// What [`ratio_table`] means.
pub(crate) const RATIO_LEGEND: &str = "Ratio to glibc with default settings, paired by repetition, with its 95 % interval. \
≈: not told apart from 1, because the interval reaches into the noise floor (the baseline against itself).";

/// The ratios of [`RATIO_COLUMNS`], for [`ratio_table`].
pub(crate) fn ratios(data: &ResultData) -> Vec<Comparison> {
    let names: Vec<&str> = RATIO_COLUMNS.iter().map(|c| c.0).collect();
    against_baseline(&data.manifest.plan, &data.records, &names)
}

/// Every cell of a workload relative to the baseline; no rows when the baseline did not run.
pub(crate) fn ratio_table(summary: &Summary, ratios: &[Comparison], workload: &str) -> Table {
    let rows = ratios
        .iter()
        .filter(|c| c.workload == workload && !c.ratios.is_empty())
        .map(|c| Row {
            label: label(&c.allocator, &c.settings),
            values: RATIO_COLUMNS
                .iter()
                .map(|(name, _)| {
                    let ratio = c.ratios.get(*name)?;
                    // Without an A/A pair the noise is unknown and nothing can be told apart from it.
                    let noise = summary.noise_floor.get(*name).copied().unwrap_or(f64::INFINITY);
                    let apart = ratio.hi < 1.0 - noise || ratio.lo > 1.0 + noise;
                    let text = format!("{}{}", if apart { "" } else { "≈ " }, digits(ratio.median));
                    let interval = (ratio.n > 1).then(|| format!("{} – {}", digits(ratio.lo), digits(ratio.hi)));
                    Some(Value { text, interval, mark: None })
                })
                .collect(),
        })
        .collect();
    let columns = RATIO_COLUMNS.iter().map(|(_, head)| (*head).to_owned()).collect();
    Table { corner: "allocator".into(), columns, rows, notes: Vec::new() }
}

/// A table of a workload with these columns; best and worst are marked.
pub(crate) fn metric_table(summary: &Summary, workload: &str, columns: &[(&str, &str)]) -> Table {
    let cells: Vec<&CellSummary> = summary.cells.iter().filter(|c| c.workload == workload).collect();
    let mut rows: Vec<Row> = cells
        .iter()
        .map(|c| {
            let mut name = label(&c.allocator, &c.settings);
            if c.failed > 0 {
                name.push_str(&format!(" ({} of {} failed)", c.failed, c.failed + c.runs));
            } else if c.runs == 0 {
                name.push_str(" (not run)");
            }
            Row { label: name, values: Vec::new() }
        })
        .collect();
    for (name, _) in columns {
        let Some(metric) = metric(name) else { continue };
        let figures: Vec<Option<Interval>> = cells.iter().map(|c| c.metrics.get(*name).copied()).collect();
        let noise = summary.noise_floor.get(*name).copied().unwrap_or(0.0);
        let contest: Vec<f64> = cells
            .iter()
            .zip(&figures)
            .filter(|(c, _)| c.allocator != NULL)
            .filter_map(|(_, f)| f.map(|f| f.median))
            .collect();
        let ends = marked_values(metric, &contest, noise);
        for ((row, cell), figure) in rows.iter_mut().zip(&cells).zip(figures) {
            row.values.push(figure.map(|i| {
                let mut value = value(metric, &i);
                if let Some((best, worst)) = &ends
                    && cell.allocator != NULL
                {
                    value.mark = match &value.text {
                        t if t == best => Some(Mark::Best),
                        t if t == worst => Some(Mark::Worst),
                        _ => None,
                    };
                }
                value
            }));
        }
    }
    Table {
        corner: "allocator".into(),
        columns: columns.iter().map(|(_, head)| (*head).to_owned()).collect(),
        rows,
        notes: Vec::new(),
    }
}

/// Best and worst as they will be shown; values that look the same are marked the same.
fn marked_values(metric: &Metric, values: &[f64], noise: f64) -> Option<(String, String)> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let most = values.iter().copied().max_by(f64::total_cmp)?;
    if values.len() < 2 || most - least <= noise * least.abs() {
        return None;
    }
    let (low, high) = (human(metric, least), human(metric, most));
    match metric.better? {
        _ if low == high => None,
        Better::Less => Some((low, high)),
        Better::More => Some((high, low)),
    }
}

fn value(metric: &Metric, i: &Interval) -> Value {
    let (lo, hi) = (human(metric, i.lo), human(metric, i.hi));
    let interval = (i.n > 1 && lo != hi).then(|| match (lo.split_once(' '), hi.split_once(' ')) {
        // One unit is enough when both ends have the same.
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number} – {hi}"),
        _ => format!("{lo} – {hi}"),
    });
    Value { text: human(metric, i.median), interval, mark: None }
}

/// One line a cell of a workload that has failed runs.
pub(crate) fn failures(plan: &Plan, records: &[RunRecord], workload: &str) -> Vec<String> {
    cell_runs(plan, records)
        .iter()
        .filter(|c| c.cell.workload.name() == workload && !c.failed.is_empty())
        .map(|c| {
            let mut reasons: Vec<String> = c.failed.iter().map(|r| failure_text(r)).collect();
            reasons.sort();
            reasons.dedup();
            let copy = if c.cell.aa { " (A/A copy)" } else { "" };
            format!(
                "{}{copy}: {} of {} runs failed: {}",
                c.cell.allocator.label(),
                c.failed.len(),
                c.failed.len() + c.ok.len(),
                reasons.join("; ")
            )
        })
        .collect()
}

/// Class and reason of a failed run; empty for one that succeeded.
pub fn failure_text(record: &RunRecord) -> String {
    let RunStatus::Failed(failure) = &record.status else { return String::new() };
    let kind = match failure.kind {
        FailureKind::Spawn => "could not start",
        FailureKind::NotInPlace => "allocator not in place",
        FailureKind::Crashed => "crashed",
        FailureKind::TimedOut => "timed out",
        FailureKind::OutOfMemory => "out of memory",
        FailureKind::Corruption => "corruption",
        FailureKind::Disagrees => "disagrees with the other allocators",
        FailureKind::Refused => "refused",
        FailureKind::Interrupted => "interrupted",
    };
    format!("{kind}: {}", failure.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_a_metric() {
        for (name, _) in COLUMNS.iter().chain(PURGE_COLUMNS).chain(RATIO_COLUMNS).chain(SPEED_COLUMNS) {
            assert!(metric(name).is_some(), "{name}");
        }
    }

    #[test]
    fn marks_follow_the_better_direction_and_respect_noise() {
        let rss = metric("heap_rss_peak_bytes").unwrap();
        let ops = metric("ops_per_s").unwrap();
        assert_eq!(marked_values(rss, &[1024.0, 4096.0], 0.1), Some(("1 KiB".into(), "4 KiB".into())));
        assert_eq!(marked_values(ops, &[1000.0, 4000.0], 0.1), Some(("4 k/s".into(), "1 k/s".into())));
        assert_eq!(marked_values(rss, &[1000.0, 1050.0], 0.1), None);
        assert_eq!(marked_values(rss, &[1000.0], 0.0), None);
        assert_eq!(marked_values(metric("arena_count").unwrap(), &[1.0, 2.0], 0.0), None);
    }
}
