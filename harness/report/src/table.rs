//! Tables as data: which cells, which figures, what is marked. `terminal`, `markdown` and `html` only draw them.

use fragbench_decide::{NULL, cell_runs, user_metrics};
use fragbench_model::{
    Better, CellSummary, Comparison, Contrast, FailureKind, Interval, Plan, RunRecord, RunStatus, Standing, Summary,
    Unit, label, metric,
};

use crate::cautions::{Cautions, versioned};
use crate::units::{digits, in_unit};

/// Columns of the result table: metric and heading. VIRT stands apart from RSS.
pub const COLUMNS: &[(&str, &str)] = &[
    ("heap_rss_peak_bytes", "RSS peak"),
    ("heap_rss_mean_bytes", "RSS mean"),
    ("heap_rss_end_bytes", "RSS end"),
    ("heap_rss_idle_bytes", "idle, untouched"),
    ("heap_rss_polled_bytes", "idle, polled"),
    ("heap_rss_after_purge_bytes", "RSS purged"),
    ("rss_over_live_at_live_peak_ratio", "RSS/live at peak"),
    ("vm_peak_bytes", "VIRT peak"),
    ("ops_per_s", "ops"),
    ("minor_faults_count", "page faults"),
    ("malloc_p99_ns", "malloc p99"),
    ("arena_count", "arenas"),
    ("purge_ms", "purge"),
];

/// Columns of the page's table of memory: those of [`COLUMNS`] that are.
pub const MEMORY_COLUMNS: &[(&str, &str)] = COLUMNS.split_at(8).0;

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

/// Columns of the result table of a command, before the user's own figures.
pub const COMMAND_COLUMNS: &[(&str, &str)] = &[
    ("heap_rss_peak_bytes", "heap peak"),
    ("heap_rss_mean_bytes", "heap mean"),
    ("heap_rss_end_bytes", "heap end"),
    ("heap_rss_idle_bytes", "heap idle"),
    ("stack_rss_peak_bytes", "stacks peak"),
    ("shared_rss_peak_bytes", "shared peak"),
    ("file_rss_peak_bytes", "files peak"),
    ("wall_s", "wall time"),
    ("cpu_s", "CPU time"),
    ("minor_faults_count", "page faults"),
];

/// Columns of a command's table relative to the baseline, before the user's own figures.
pub const COMMAND_RATIO_COLUMNS: &[(&str, &str)] = &[
    ("heap_rss_peak_bytes", "heap peak"),
    ("heap_rss_mean_bytes", "heap mean"),
    ("heap_rss_idle_bytes", "heap idle"),
    ("wall_s", "wall time"),
    ("cpu_s", "CPU time"),
];

/// A column of figures.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) head: String,
    pub(crate) unit: Unit,
    pub(crate) better: Option<Better>,
}

/// Columns of metrics of the table; a name that is none is left out.
pub(crate) fn columns(list: &[(&str, &str)]) -> Vec<Column> {
    list.iter()
        .filter_map(|(name, head)| {
            let m = metric(name)?;
            Some(Column { name: (*name).to_owned(), head: (*head).to_owned(), unit: m.unit, better: m.better })
        })
        .collect()
}

/// Columns of the user's own figures.
pub(crate) fn own_columns(plan: &Plan) -> impl Iterator<Item = Column> {
    user_metrics(plan).map(|m| Column { name: m.name.clone(), head: m.name.clone(), unit: m.unit, better: m.better })
}

/// Whether a plan runs commands and not workers.
pub(crate) fn is_of_commands(plan: &Plan) -> bool {
    plan.cells.first().is_some_and(|cell| cell.workload.command().is_some())
}

/// These columns for workers, or those and the user's own for commands.
pub(crate) fn columns_of(plan: &Plan, workers: &[(&str, &str)], commands: &[(&str, &str)]) -> Vec<Column> {
    if is_of_commands(plan) {
        columns(commands).into_iter().chain(own_columns(plan)).collect()
    } else {
        columns(workers)
    }
}

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
    /// The table of some of its columns, without the notes.
    pub(crate) fn part(&self, columns: std::ops::Range<usize>) -> Table {
        let rows =
            self.rows.iter().map(|row| Row { label: row.label.clone(), values: row.values[columns.clone()].to_vec() });
        Table {
            corner: self.corner.clone(),
            columns: self.columns[columns.clone()].to_vec(),
            rows: rows.collect(),
            notes: Vec::new(),
        }
    }

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
    let mut table = metric_table(summary, workload, &columns_of(plan, COLUMNS, COMMAND_COLUMNS));
    table.notes = failures(plan, records, workload);
    table
}

/// The purge table of a workload. Cells that have no figure of a purge are left out.
pub fn purge_table(summary: &Summary, workload: &str) -> Table {
    let mut table = metric_table(summary, workload, &columns(PURGE_COLUMNS));
    table.rows.retain(|r| r.values.iter().any(Option::is_some));
    table
}

/// What [`ratio_table`] means.
pub(crate) const RATIO_LEGEND: &str = "Median of the ratios to glibc with default settings, block by block, with its 95 % interval (percentile bootstrap). \
Without a sign: beyond noise, that is chance is excluded at the 5 % level by the signed-rank test, corrected (Holm) for all cells compared in the column. \
?: too few blocks to exclude chance, but each lies beyond twice the noise floor. ≈: not told apart from noise. !: beyond noise, and the whole interval beyond \
the threshold of relevance. The last row is the noise floor: how far the baseline may be from itself.";

/// Every cell of a workload relative to the baseline, with the noise floor below; no rows when the baseline did not run.
pub(crate) fn ratio_table(summary: &Summary, plan: &Plan, workload: &str) -> Table {
    let mut columns = columns_of(plan, RATIO_COLUMNS, COMMAND_RATIO_COLUMNS);
    columns.retain(|c| c.better.is_some());
    let compared: Vec<&Comparison> =
        summary.comparisons.iter().filter(|c| c.workload == workload && !c.effects.is_empty()).collect();
    let mut rows: Vec<Row> = compared
        .iter()
        .map(|c| Row {
            label: label(&c.allocator, &c.settings),
            values: columns.iter().map(|column| Some(ratio_value(c.effects.get(&column.name)?))).collect(),
        })
        .collect();
    if !rows.is_empty() {
        let floor = |name: &str| compared.iter().find_map(|c| c.effects.get(name)?.noise);
        let values = columns.iter().map(|column| {
            let text = format!("±{} %", digits(100.0 * floor(&column.name)?));
            Some(Value { text, interval: None, mark: None })
        });
        rows.push(Row { label: "noise floor (A/A)".into(), values: values.collect() });
    }
    let columns = columns.into_iter().map(|column| column.head).collect();
    Table { corner: "allocator".into(), columns, rows, notes: Vec::new() }
}

/// A change in percent with its interval and how far it is told from noise.
pub(crate) fn signed(effect: &Contrast) -> Value {
    let change = |ratio: f64| format!("{:+.1}", 100.0 * (ratio - 1.0));
    let ratio = effect.ratio;
    let interval = (ratio.n > 1).then(|| format!("{} – {} %", change(ratio.lo), change(ratio.hi)));
    let sign = match effect.standing {
        Standing::Noise => "≈ ",
        Standing::Preliminary => "? ",
        Standing::Significant => "",
    };
    Value { text: format!("{sign}{} %", change(ratio.median)), interval, mark: None }
}

pub(crate) fn ratio_value(effect: &Contrast) -> Value {
    let ratio = effect.ratio;
    let sign = match effect.standing {
        Standing::Noise => "≈ ",
        Standing::Preliminary => "? ",
        Standing::Significant if effect.relevant => "! ",
        Standing::Significant => "",
    };
    let interval = (ratio.n > 1).then(|| format!("{} – {}", digits(ratio.lo), digits(ratio.hi)));
    Value { text: format!("{sign}{}", digits(ratio.median)), interval, mark: None }
}

/// A table of a workload with these columns; best and worst are marked.
pub(crate) fn metric_table(summary: &Summary, workload: &str, columns: &[Column]) -> Table {
    let cells: Vec<&CellSummary> = summary.cells.iter().filter(|c| c.workload == workload).collect();
    let cautions = Cautions::of_summary(summary);
    let mut rows: Vec<Row> = cells
        .iter()
        .map(|c| {
            let mut name = versioned(label(&c.allocator, &c.settings), &c.allocator, c.version.as_ref());
            name.push_str(&cautions.marks(c));
            if c.failed > 0 {
                name.push_str(&format!(" ({} of {} failed)", c.failed, c.failed + c.runs));
            } else if c.runs == 0 {
                name.push_str(" (not run)");
            }
            Row { label: name, values: Vec::new() }
        })
        .collect();
    for column in columns {
        let figures: Vec<Option<Interval>> = cells.iter().map(|c| c.metrics.get(&column.name).copied()).collect();
        let noise = summary.noise_floor.get(&column.name).copied().unwrap_or(0.0);
        let contest: Vec<f64> = cells
            .iter()
            .zip(&figures)
            .filter(|(c, _)| c.allocator != NULL)
            .filter_map(|(_, f)| f.map(|f| f.median))
            .collect();
        let ends = marked_values(column.unit, column.better, &contest, noise);
        for ((row, cell), figure) in rows.iter_mut().zip(&cells).zip(figures) {
            row.values.push(figure.map(|i| {
                let mut value = value(column.unit, &i);
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
        columns: columns.iter().map(|column| column.head.clone()).collect(),
        rows,
        notes: Vec::new(),
    }
}

/// Best and worst as they will be shown; values that look the same are marked the same.
fn marked_values(unit: Unit, better: Option<Better>, values: &[f64], noise: f64) -> Option<(String, String)> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let most = values.iter().copied().max_by(f64::total_cmp)?;
    if values.len() < 2 || most - least <= noise * least.abs() {
        return None;
    }
    let (low, high) = (in_unit(unit, least), in_unit(unit, most));
    match better? {
        _ if low == high => None,
        Better::Less => Some((low, high)),
        Better::More => Some((high, low)),
    }
}

fn value(unit: Unit, i: &Interval) -> Value {
    let (lo, hi) = (in_unit(unit, i.lo), in_unit(unit, i.hi));
    let interval = (i.n > 1 && lo != hi).then(|| match (lo.split_once(' '), hi.split_once(' ')) {
        // One unit is enough when both ends have the same.
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number} – {hi}"),
        _ => format!("{lo} – {hi}"),
    });
    Value { text: in_unit(unit, i.median), interval, mark: None }
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
        FailureKind::SettingIgnored => "setting was ignored",
        FailureKind::Crashed => "crashed",
        FailureKind::TimedOut => "timed out",
        FailureKind::OutOfMemory => "out of memory",
        FailureKind::Corruption => "corruption",
        FailureKind::Disagrees => "disagrees with the other allocators",
        FailureKind::Refused => "refused",
        FailureKind::NotReady => "not ready",
        FailureKind::NoFigure => "no figure",
        FailureKind::ExitStatus => "failed",
        FailureKind::Interrupted => "interrupted",
    };
    format!("{kind}: {}", failure.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_a_metric() {
        for (name, _) in
            [COLUMNS, PURGE_COLUMNS, RATIO_COLUMNS, SPEED_COLUMNS, COMMAND_COLUMNS, COMMAND_RATIO_COLUMNS].concat()
        {
            assert!(metric(name).is_some(), "{name}");
        }
    }

    #[test]
    fn marks_follow_the_better_direction_and_respect_noise() {
        let marked_values = |name: &str, values: &[f64], noise: f64| {
            let metric = metric(name).unwrap();
            super::marked_values(metric.unit, metric.better, values, noise)
        };
        let (rss, ops) = ("heap_rss_peak_bytes", "ops_per_s");
        assert_eq!(marked_values(rss, &[1024.0, 4096.0], 0.1), Some(("1 KiB".into(), "4 KiB".into())));
        assert_eq!(marked_values(ops, &[1000.0, 4000.0], 0.1), Some(("4 k/s".into(), "1 k/s".into())));
        assert_eq!(marked_values(rss, &[1000.0, 1050.0], 0.1), None);
        assert_eq!(marked_values(rss, &[1000.0], 0.0), None);
        assert_eq!(marked_values("arena_count", &[1.0, 2.0], 0.0), None);
    }
}
