//! Many allocators on many workloads at a glance: a matrix of ratios to the baseline, worst first, for memory and for
//! speed. The tables of each workload follow it; where there is one workload they are the overview.

use std::collections::BTreeMap;

use fragbench_decide::{NULL, PEAK};
use fragbench_model::{Better, Comparison, Summary, label, metric};

use crate::table::{Row, Table, Value, ratio_value, workloads};
use crate::units::digits;

/// What the matrices mean.
pub(crate) const LEGEND: &str = "Ratios to the baseline of the same workload, median over the blocks; the worst allocator stands first, and so does the \
worst workload. \"worst\" is the worst of the row, \"all\" the geometric mean of its workloads. ≈: not told apart from noise; ?: too few blocks to \
exclude chance; !: beyond noise and relevant.";

/// Figures that get a matrix, each with its heading; of a command there is time instead of throughput.
const MATRICES: [(&str, &str); 3] = [
    (PEAK, "Resident heap at its peak, relative to the baseline"),
    ("ops_per_s", "Throughput, relative to the baseline"),
    ("wall_s", "Time of the command, relative to the baseline"),
];

/// A matrix for each figure that several workloads and several allocators have.
pub(crate) fn overview(summary: &Summary) -> Vec<(&'static str, Table)> {
    // A loop's time is its throughput.
    let loops = summary.comparisons.iter().any(|c| c.effects.contains_key("ops_per_s"));
    let wanted = MATRICES.into_iter().filter(|(name, _)| *name != "wall_s" || !loops);
    wanted.filter_map(|(name, heading)| Some((heading, matrix(summary, name)?))).collect()
}

fn matrix(summary: &Summary, name: &str) -> Option<Table> {
    let less = metric(name)?.better == Some(Better::Less);
    // Greater is worse, whatever the figure.
    let harm = |ratio: f64| if less { ratio } else { -ratio };
    let mut rows: BTreeMap<String, BTreeMap<&str, &Comparison>> = BTreeMap::new();
    for comparison in summary.comparisons.iter().filter(|c| c.allocator != NULL && c.effects.contains_key(name)) {
        let row = rows.entry(label(&comparison.allocator, &comparison.settings)).or_default();
        row.insert(&comparison.workload, comparison);
    }
    let ratio = |c: &Comparison| c.effects[name].ratio.median;
    let worst = |ratios: &mut dyn Iterator<Item = f64>| ratios.max_by(|a, b| harm(*a).total_cmp(&harm(*b)));
    let mut names = workloads(summary);
    names.retain(|workload| rows.values().any(|row| row.contains_key(workload)));
    if names.len() < 2 || rows.len() < 2 {
        return None;
    }
    let of_workload = |workload: &str| worst(&mut rows.values().filter_map(|row| row.get(workload)).map(|c| ratio(c)));
    names.sort_by(|a, b| {
        let harm = |workload: &str| of_workload(workload).map_or(f64::NEG_INFINITY, harm);
        harm(b).total_cmp(&harm(a))
    });
    let mut lines: Vec<(f64, Row)> = rows
        .iter()
        .map(|(label, row)| {
            let ratios: Vec<f64> = row.values().map(|c| ratio(c)).collect();
            let least = worst(&mut ratios.iter().copied()).unwrap_or(1.0);
            // Of a row with gaps the mean would be of other workloads than its neighbours'.
            let whole = row.len() == names.len() && ratios.iter().all(|r| *r > 0.0);
            let mean = (ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len() as f64).exp();
            let plain = |v: f64| Some(Value { text: digits(v), interval: None, mark: None });
            let each = names.iter().map(|workload| {
                let value = ratio_value(&row.get(workload)?.effects[name]);
                Some(Value { interval: None, ..value })
            });
            let values = [plain(least), whole.then(|| plain(mean)).flatten()].into_iter().chain(each).collect();
            (harm(least), Row { label: label.clone(), values })
        })
        .collect();
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    Some(Table {
        corner: "allocator".into(),
        columns: ["worst", "all"].into_iter().chain(names).map(str::to_owned).collect(),
        rows: lines.into_iter().map(|line| line.1).collect(),
        notes: Vec::new(),
    })
}
