//! `summary.csv`: one line a cell and metric, so that any spreadsheet or data frame reads it without knowing the
//! metrics beforehand.

use anyhow::{Context, Result};
use fragbench_model::{METRICS, Summary, metric};

const HEADER: [&str; 10] = ["workload", "allocator", "settings", "runs", "failed", "metric", "median", "lo", "hi", "n"];

/// The summary in long form. Cells without any figure have one line with empty metric fields, so that a failed cell
/// is not lost.
///
/// # Errors
/// When the writer fails, which it does not for memory.
pub fn summary_csv(summary: &Summary) -> Result<String> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(HEADER)?;
    for cell in &summary.cells {
        let settings: Vec<String> = cell.settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let head = [
            cell.workload.clone(),
            cell.allocator.clone(),
            settings.join(" "),
            cell.runs.to_string(),
            cell.failed.to_string(),
        ];
        if cell.metrics.is_empty() {
            out.write_record(head.iter().map(String::as_str).chain([""; 5]))?;
        }
        // The order of the METRICS table, not the alphabet's; then the user's own.
        let known = METRICS.iter().map(|m| m.name);
        let own = cell.metrics.keys().map(String::as_str).filter(|name| metric(name).is_none());
        for name in known.chain(own) {
            let Some(i) = cell.metrics.get(name) else { continue };
            let figures = [name.to_owned(), i.median.to_string(), i.lo.to_string(), i.hi.to_string(), i.n.to_string()];
            out.write_record(head.iter().chain(&figures))?;
        }
    }
    let bytes = out.into_inner().map_err(|e| e.into_error()).context("writing summary.csv")?;
    String::from_utf8(bytes).context("summary.csv")
}
