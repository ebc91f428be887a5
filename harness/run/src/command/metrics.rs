//! From the samples of a command's processes and the text it wrote to figures by metric name. Pure.

use std::collections::BTreeMap;

use fragbench_model::{Sample, UserMetric};
use regex_lite::Regex;

use super::tree::Spent;

/// What a run of a command gave.
pub(super) struct Seen<'a> {
    /// All samples.
    pub(super) samples: &'a [Sample],
    /// Start and end of the work on their clock: the whole life of a program, the load of a server.
    pub(super) work_ns: (u64, u64),
    /// Duration of the work by the clock that saw its end, seconds.
    pub(super) wall_s: f64,
    /// What the work took.
    pub(super) spent: Option<Spent>,
    /// The reading when the work had ended; of a program that is gone the last one.
    pub(super) end: Option<Sample>,
    /// After the quiet stretch.
    pub(super) idle: Option<Sample>,
}

/// A part of memory, by name, and how a sample tells it.
type Part = (&'static str, fn(&Sample) -> Option<u64>);

/// The parts of memory that are told apart.
const PARTS: [Part; 4] = [
    ("heap_rss", |s| Some(s.heap_rss_bytes)),
    ("stack_rss", |s| s.stack_bytes),
    ("shared_rss", |s| s.shared_bytes),
    ("file_rss", |s| s.file_bytes),
];

/// All metrics these observations allow.
pub(super) fn derive(seen: &Seen) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let mut put = |name: String, value: Option<f64>| {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            metrics.insert(name, value);
        }
    };
    put("wall_s".into(), Some(seen.wall_s));
    put("runs_per_s".into(), (seen.wall_s > 0.0).then(|| 1.0 / seen.wall_s));
    put("cpu_s".into(), seen.spent.map(|s| s.cpu_ns as f64 / 1e9));
    put("minor_faults_count".into(), seen.spent.map(|s| s.minor_faults as f64));
    put("major_faults_count".into(), seen.spent.map(|s| s.major_faults as f64));
    // A server is large before it is loaded, too: its peak is over its whole life.
    let until: Vec<Sample> =
        seen.samples.iter().filter(|s| s.at_ns <= seen.work_ns.1).copied().chain(seen.end).collect();
    let work: Vec<Sample> = until.iter().filter(|s| s.at_ns >= seen.work_ns.0).copied().collect();
    for (part, of) in PARTS {
        put(format!("{part}_peak_bytes"), until.iter().filter_map(of).max().map(|v| v as f64));
        put(format!("{part}_mean_bytes"), mean(&work, of));
        put(format!("{part}_end_bytes"), seen.end.as_ref().and_then(of).map(|v| v as f64));
        put(format!("{part}_idle_bytes"), seen.idle.as_ref().and_then(of).map(|v| v as f64));
    }
    put("rss_peak_bytes".into(), until.iter().map(|s| s.rss_bytes).max().map(|v| v as f64));
    put("vm_peak_bytes".into(), until.iter().map(|s| s.vm_bytes).max().map(|v| v as f64));
    metrics
}

/// Time-weighted mean (trapezoids); of a single sample its value.
fn mean(samples: &[Sample], of: fn(&Sample) -> Option<u64>) -> Option<f64> {
    let points: Vec<(f64, f64)> = samples.iter().filter_map(|s| Some((s.at_ns as f64, of(s)? as f64))).collect();
    let (first, last) = (points.first()?, points.last()?);
    if last.0 <= first.0 {
        return Some(last.1);
    }
    let area: f64 = points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum();
    Some(area / (last.0 - first.0))
}

/// The user's figures: the last match in the first of the texts that has one, thousands separators left out.
///
/// # Errors
/// Names the figure that is in none of them, or is no number.
pub(super) fn user_figures(metrics: &[UserMetric], texts: &[&str]) -> Result<BTreeMap<String, f64>, String> {
    let mut figures = BTreeMap::new();
    for metric in metrics {
        let pattern = Regex::new(&metric.pattern).map_err(|e| format!("--metric {}: {e}", metric.name))?;
        let found = texts
            .iter()
            .find_map(|text| pattern.captures_iter(text).last())
            .ok_or_else(|| format!("--metric {}: nothing in the output matches `{}`", metric.name, metric.pattern))?;
        let text = found.get(1).or_else(|| found.get(0)).map_or("", |m| m.as_str()).replace(',', "");
        let value: f64 = text.trim().parse().map_err(|_| {
            format!("--metric {}: `{text}`, which `{}` matched, is no number", metric.name, metric.pattern)
        })?;
        figures.insert(metric.name.clone(), value);
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_model::Unit;

    fn sample(at_ns: u64, heap: u64, stack: u64) -> Sample {
        Sample { at_ns, heap_rss_bytes: heap, stack_bytes: Some(stack), rss_bytes: heap + stack, ..Sample::default() }
    }

    #[test]
    fn figures_follow_their_definitions() {
        let samples = [sample(0, 900, 1), sample(100, 100, 2), sample(200, 300, 6), sample(300, 2000, 9)];
        let spent = Spent { cpu_ns: 500_000_000, minor_faults: 7, major_faults: 0 };
        let m = derive(&Seen {
            samples: &samples,
            work_ns: (100, 200),
            wall_s: 0.25,
            spent: Some(spent),
            end: Some(sample(200, 310, 6)),
            idle: Some(sample(300, 50, 3)),
        });
        let get = |name: &str| m.get(name).copied();
        assert_eq!(get("heap_rss_peak_bytes"), Some(900.0), "before the load counts, after it not");
        assert_eq!(get("heap_rss_mean_bytes"), Some(200.0));
        assert_eq!(get("heap_rss_end_bytes"), Some(310.0));
        assert_eq!(get("heap_rss_idle_bytes"), Some(50.0));
        assert_eq!((get("stack_rss_peak_bytes"), get("stack_rss_idle_bytes")), (Some(6.0), Some(3.0)));
        assert_eq!(get("shared_rss_peak_bytes"), None, "what no sample tells is missing");
        assert_eq!((get("runs_per_s"), get("cpu_s"), get("minor_faults_count")), (Some(4.0), Some(0.5), Some(7.0)));
        for name in m.keys() {
            assert!(fragbench_model::metric(name).is_some(), "{name} is not in the table of metrics");
            assert!(fragbench_model::how_of_command(name).is_some(), "how {name} of a command is obtained is not told");
        }
    }

    #[test]
    fn a_figure_is_the_last_match_of_the_first_text_that_has_one() {
        let metric = |pattern: &str| {
            [UserMetric { name: "qps".into(), pattern: pattern.into(), unit: Unit::Count, better: None }]
        };
        let texts = ["qps 10\nqps 1,250.5 done", "qps 99"];
        assert_eq!(user_figures(&metric(r"qps ([0-9.,]+)"), &texts).unwrap()["qps"], 1250.5);
        assert_eq!(user_figures(&metric(r"99"), &texts).unwrap()["qps"], 99.0, "without a group the whole match");
        assert!(user_figures(&metric("tps"), &texts).unwrap_err().contains("nothing in the output matches `tps`"));
        assert!(user_figures(&metric("qps (10|d)one|(x)"), &["qps"]).is_err());
        assert!(user_figures(&metric("done"), &texts).unwrap_err().contains("is no number"));
    }
}
