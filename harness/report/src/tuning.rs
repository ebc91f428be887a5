//! The outcome of a search for people: a table, the recommendation with its price, files of a result directory.

use anyhow::{Context, Result};
use fragbench_decide::{AS_LINKED, BASELINE};
use fragbench_model::{TunePoint, Tuning, label, metric};

use crate::plots::tuning_plot;
use crate::table::{Row, Table, Value};
use crate::units::{bytes, count, duration_ns};
use crate::{RenderedFile, terminal};

/// The table of what was measured to the end, the baseline first, then by memory. `*` stands on the front, `k` at its knee.
pub fn tuning_table(tuning: &Tuning) -> Table {
    let value = |text: String| Some(Value { text, interval: None, mark: None });
    let ratio = |contrast: &Option<fragbench_model::Contrast>| {
        contrast.as_ref().and_then(|c| value(format!("{:+.1} %", 100.0 * (c.ratio.median - 1.0))))
    };
    let what =
        metric(&tuning.memory).map_or("memory", |m| if m.name.contains("idle") { "idle RSS" } else { "peak RSS" });
    let speed = match tuning.throughput.as_str() {
        "ops_per_s" => "throughput",
        "runs_per_s" => "runs a second",
        own => own,
    };
    let per_second = |v: f64| if tuning.throughput.ends_with("_per_s") { format!("{}/s", count(v)) } else { count(v) };
    let row = |point: &TunePoint| {
        let place = tuning.front.iter().position(|p| p.allocator == point.allocator && p.settings == point.settings);
        let sign = match place {
            Some(at) if tuning.knee == Some(at) => "*k",
            Some(_) => "*",
            None => "",
        };
        Row {
            label: point.label(),
            values: vec![
                point.memory_bytes.and_then(|v| value(bytes(v))),
                ratio(&point.memory),
                point.ops_per_s.and_then(|v| value(per_second(v))),
                ratio(&point.throughput),
                point.p99_ns.and_then(|v| value(duration_ns(v))),
                value(point.runs.to_string()),
                value(sign.to_owned()),
            ],
        }
    };
    Table {
        corner: tuning.workload.clone(),
        columns: [what, "memory change", speed, "speed change", "malloc p99", "runs", "front"]
            .map(str::to_owned)
            .to_vec(),
        rows: tuning.baseline.iter().chain(&tuning.finalists).map(row).collect(),
        notes: Vec::new(),
    }
}

/// What is recommended, in words with its price; what the others would give; how the search went.
pub fn tuning_text(tuning: &Tuning) -> String {
    let mut lines = Vec::new();
    match &tuning.recommendation {
        Some(r) => {
            let name = label(&r.allocator, &r.settings);
            let verb = match r.allocator.as_str() {
                BASELINE => "Tune",
                AS_LINKED => "Leave it",
                _ => "Switch",
            };
            let preliminary = if r.preliminary { " (preliminary)" } else { "" };
            lines.push(format!("{verb}{preliminary}: {name}, which saves {} here.", bytes(r.saved_bytes.max(0.0))));
            lines.extend(tuning.reasons.iter().map(|reason| format!("  {reason}")));
            lines.push("Price:".to_owned());
            lines.extend(r.price.iter().map(|price| format!("  {price}")));
            lines.extend(r.risks.iter().map(|risk| format!("  risk, {}: {} [{}]", risk.name, risk.text, risk.source)));
        }
        None => {
            lines.push("Nothing is recommended.".to_owned());
            lines.extend(tuning.reasons.iter().map(|reason| format!("  {reason}")));
        }
    }
    let stopped = if tuning.partial { "; stopped before its end" } else { "" };
    lines.push(format!(
        "{} settings tried in {} runs by successive halving, {} of them to the end{stopped}. * on the Pareto front, k its knee.",
        tuning.tried,
        tuning.runs,
        tuning.finalists.len()
    ));
    if !tuning.untried.is_empty() {
        let names: Vec<String> = tuning.untried.iter().map(TunePoint::label).collect();
        lines.push(format!("Not tried for lack of time (--max-time): {}.", names.join(", ")));
    }
    lines.extend(tuning.notes.iter().cloned());
    lines.join("\n")
}

/// `tuning.json`, `tuning.md` and the plot.
///
/// # Errors
/// When the plot cannot be drawn or figures cannot be written as JSON; neither happens for figures of a result.
pub fn render_tuning(tuning: &Tuning) -> Result<Vec<RenderedFile>> {
    let table = terminal::draw(&tuning_table(tuning), None, false);
    let markdown = format!(
        "# Settings for {}\n\n```text\n{table}\n```\n\n{}\n\n![Memory against throughput](plots/tune.svg)\n",
        tuning.workload,
        tuning_text(tuning)
    );
    let json = serde_json::to_string_pretty(tuning).context("writing tuning.json")? + "\n";
    let mut files =
        vec![("tuning.json".to_owned(), json.into_bytes()), ("tuning.md".to_owned(), markdown.into_bytes())];
    if let Some(plot) = tuning_plot(tuning) {
        files.push(("plots/tune.svg".to_owned(), plot.wide.svg()?.into_bytes()));
        files.push(("plots/tune.png".to_owned(), plot.wide.png()?));
    }
    Ok(files)
}
