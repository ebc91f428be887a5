//! The outcome of a search for people: a table, the recommendation with its price, files of a result directory.

use anyhow::Result;
use fragbench_model::{Contrast, Recommendation, Trimming, TunePoint, Tuning, VerdictKind, Weighing, metric};

use crate::cautions::{Cautions, versioned};
use crate::json::tuning_value;
use crate::plots::tuning_plot;
use crate::table::{Row, Table, Value, signed};
use crate::units::{bytes, count, duration_ns};
use crate::verdict::{MoreBy, advice, doubts, headline, reasons};
use crate::words::{effect, server_time};
use crate::{RenderedFile, terminal, text_file};

/// The table of what was measured to the end: the baseline's own figures, then each setting relative to the baseline of the same
/// blocks, least memory first, then the noise floor. `*` stands on the front, `k` at its knee.
pub fn tuning_table(tuning: &Tuning) -> Table {
    let value = |text: String| Some(Value { text, interval: None, mark: None });
    let what =
        metric(&tuning.memory).map_or("memory", |m| if m.name.contains("idle") { "idle RSS" } else { "peak RSS" });
    let speed = match tuning.throughput.as_str() {
        "ops_per_s" => "throughput",
        "runs_per_s" => "runs a second",
        own => own,
    };
    let per_second = |v: f64| if tuning.throughput.ends_with("_per_s") { format!("{}/s", count(v)) } else { count(v) };
    let ratio = |contrast: &Option<Contrast>| contrast.as_ref().map(signed);
    let server = matches!(tuning.verdict.weighing, Weighing::ServerTime { .. });
    let sign = |point: &TunePoint| {
        let at = tuning.front.iter().position(|p| p.allocator == point.allocator && p.settings == point.settings);
        match at {
            Some(at) if tuning.knee == Some(at) => "*k",
            Some(_) => "*",
            None => "",
        }
    };
    let cautions = cautions(tuning);
    let row = |point: &TunePoint, figures: [Option<Value>; 5]| {
        let mut values: Vec<Option<Value>> = figures.into();
        if !server {
            values.remove(1);
        }
        let disturbed = if point.disturbed > 0 { format!(" ({} disturbed)", point.disturbed) } else { String::new() };
        values.extend([value(format!("{}{disturbed}", point.runs)), value(sign(point).to_owned())]);
        let label = versioned(point.label(), &point.allocator, point.version.as_ref());
        Row { label: label + &cautions.marks_of_point(point), values }
    };
    let baseline = tuning.baseline.as_ref().map(|point| {
        let cpu = match &tuning.verdict.weighing {
            Weighing::ServerTime { cpu_s, .. } => value(format!("{cpu_s:.1} s")),
            Weighing::Command | Weighing::Loop => None,
        };
        let figures = [
            point.memory_bytes.and_then(|v| value(bytes(v))),
            cpu,
            point.ops_per_s.and_then(|v| value(per_second(v))),
            point.minor_faults_count.and_then(|v| value(count(v))),
            point.p99_ns.and_then(|v| value(duration_ns(v))),
        ];
        row(point, figures)
    });
    let compared = tuning.finalists.iter().map(|point| {
        let effects = [&point.memory, &point.cost, &point.throughput, &point.faults, &point.p99];
        row(point, effects.map(ratio))
    });
    let floors = tuning.finalists.first().map(|point| {
        let effects = [&point.memory, &point.cost, &point.throughput, &point.faults, &point.p99];
        let mut values: Vec<Option<Value>> =
            effects.map(|e| value(format!("±{:.1} %", 100.0 * e.as_ref()?.noise?))).into();
        if !server {
            values.remove(1);
        }
        values.extend([None, None]);
        Row { label: "noise floor (A/A)".to_owned(), values }
    });
    let mut columns = vec![what, "server's CPU", speed, "page faults", "malloc p99", "runs", "front"];
    if !server {
        columns.remove(1);
    }
    Table {
        corner: tuning.workload.clone(),
        columns: columns.into_iter().map(str::to_owned).collect(),
        rows: baseline.into_iter().chain(compared).chain(floors).collect(),
        notes: Vec::new(),
    }
}

/// What is recommended, in words with its price; what the others would give; how the search went.
pub fn tuning_text(tuning: &Tuning) -> String {
    let v = &tuning.verdict;
    let doubts = doubts(v, MoreBy::Time);
    let indented = |lines: Vec<String>| lines.into_iter().map(|line| format!("  {line}"));
    let mut lines = Vec::new();
    match (&tuning.recommendation, v.kind) {
        (Some(r), _) => {
            let preliminary = if r.preliminary { "Preliminary: " } else { "" };
            lines.push(format!("{preliminary}{} It saves {} here.", headline(v), bytes(r.saved_bytes.max(0.0))));
            lines.extend(indented(reasons(v, MoreBy::Time)));
            lines.extend(doubts.iter().map(|doubt| format!("  in doubt: {doubt}")));
            lines.push("Price:".to_owned());
            lines.extend(indented(price(r, &v.weighing)));
            lines.extend(advice(v).into_iter().map(|(what, line)| format!("  {what}, {line}")));
        }
        (None, kind) => {
            let leave = if kind == VerdictKind::Leave { headline(v) } else { String::new() };
            lines.push(format!("Nothing is recommended. {leave}").trim_end().to_owned());
            lines.extend(indented(reasons(v, MoreBy::Time)));
            lines.extend(doubts.iter().map(|doubt| format!("  in doubt: {doubt}")));
        }
    }
    let stopped = if tuning.partial { "; stopped before its end" } else { "" };
    lines.push(format!(
        "{} settings tried in {} runs by successive halving, {} of them to the end{stopped}. Below the baseline stand medians of \
         the ratios to it, block by block. ≈ not told apart from noise, ? too few blocks to exclude chance but all beyond noise. \
         * on the Pareto front, k its knee.",
        tuning.tried,
        tuning.runs,
        tuning.finalists.len()
    ));
    if !tuning.untried.is_empty() {
        let names: Vec<String> = tuning.untried.iter().map(TunePoint::label).collect();
        lines.push(format!("Not tried for lack of time (--max-time): {}.", names.join(", ")));
    }
    lines.extend(tuning.notes.iter().cloned());
    lines.extend(cautions(tuning).short());
    lines.join("\n")
}

/// What is to be known of the settings in the table.
fn cautions(tuning: &Tuning) -> Cautions {
    Cautions::of_points(tuning.baseline.iter().chain(&tuning.finalists))
}

/// What a change costs, in sentences.
pub(crate) fn price(r: &Recommendation, weighing: &Weighing) -> Vec<String> {
    let e = &r.tried.effects;
    let server = match (&e.cost, weighing) {
        (Some(cost), Weighing::ServerTime { cpu_s, .. }) => Some(server_time(cost, *cpu_s)),
        _ => None,
    };
    // Where the server's time is known, that of a loop says nothing.
    let throughput = e.throughput.filter(|_| server.is_none());
    let parts = [
        (throughput, "throughput"),
        (e.p99, "p99 of an allocation"),
        (e.faults, "page faults"),
        (e.peak, "memory at the peak"),
        (e.cpu, "processor time"),
    ];
    let others = e.others.iter().map(|(name, (_, contrast))| (Some(*contrast), name.as_str()));
    let mut price: Vec<String> = server.into_iter().collect();
    price.extend(parts.into_iter().chain(others).filter_map(|(contrast, what)| Some(effect(&contrast?, what))));
    price.extend(r.trimming.map(|t| trimming_price(&t)));
    price
}

/// What is known of the price of periodic trimming.
fn trimming_price(t: &Trimming) -> String {
    if t.calls < 1.0 {
        return "malloc_trim was not called while the work went on, which was over before the interval was, only in the quiet \
                stretch after it: what it costs a working server is not in these figures"
            .to_owned();
    }
    format!(
        "malloc_trim was called {:.0} times in a run, {:.0} ms in all, at most {:.0} ms at a time; a thread that needs the arena \
         being trimmed waits for so long",
        t.calls, t.total_ms, t.longest_ms
    )
}

/// `tuning.json`, `tuning.md` and the plot.
///
/// # Errors
/// When the plot cannot be drawn or figures cannot be written as JSON; neither happens for figures of a result.
pub fn render_tuning(tuning: &Tuning) -> Result<Vec<RenderedFile>> {
    let table = terminal::draw(&tuning_table(tuning), None, false);
    let markdown = format!(
        "# Settings for {}\n\n```text\n{table}\n```\n\n{}\n\n{}\n\n![Memory against throughput](plots/tune.svg)\n",
        tuning.workload,
        tuning_text(tuning),
        cautions(tuning).lines().join("\n\n")
    );
    let json = serde_json::to_string_pretty(&tuning_value(tuning)?)? + "\n";
    let mut files = vec![("tuning.json".to_owned(), json.into_bytes()), text_file("tuning.md", &markdown)];
    if let Some(plot) = tuning_plot(tuning) {
        files.push(("plots/tune.svg".to_owned(), plot.wide.svg()?.into_bytes()));
        files.push(("plots/tune.png".to_owned(), plot.wide.png()?));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimming_that_never_met_work_has_no_price_that_is_known() {
        let called = |calls| trimming_price(&Trimming { calls, total_ms: 40.0, longest_ms: 12.0 });
        assert!(called(0.0).contains("not in these figures"));
        assert!(called(4.0).contains("4 times in a run, 40 ms in all, at most 12 ms"));
    }
}
