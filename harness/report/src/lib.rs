//! Turns a result into what people read: terminal tables, plots, Markdown, one self-contained HTML page, and the
//! JSON and CSV other programs read. Data in, bytes out: it starts nothing, reads no file and knows no `/proc`.
//!
//! Entry point: [`render`] gives every file of a result directory that is made from the records; the caller writes
//! them. [`result_tables`] and [`finding`] are for the terminal, [`render_trace`] and
//! [`trace_table`] for the statistics of a trace, [`render_cases`] and [`case_text`] for bad cases.

mod badcase;
mod cautions;
mod conditions;
mod csv;
mod diff;
mod distance;
mod emit;
mod heap_map;
mod html;
mod inspection;
mod json;
mod markdown;
mod overview;
mod plots;
mod profile;
mod recording;
mod replay;
mod samples;
mod server;
mod table;
mod terminal;
mod trace_stat;
mod tuning;
mod units;
mod verdict;
mod words;

use anyhow::Result;
use fragbench_model::{Manifest, RunRecord, Summary, TraceStat};

pub use crate::csv::summary_csv;
pub use badcase::{case_text, matrix_text, named_value, render_cases, symptom_table, versions_text};
pub use conditions::conditions;
pub use diff::{diff_markdown, diff_text};
pub use distance::distance_table;
pub use emit::{Application, LIBRARY_DIR, SERVICE, Target, emit};
pub use heap_map::heap_map;
pub use inspection::{inspection_text, kind_word, verdict_text};
pub use json::{summary_json, summary_value, tuning_value};
pub use plots::{Layout, Plot, Scene, Styles, heap_plot, trace_plots, tuning_plot};
pub use recording::{Recording, recording_json, recording_text, render_recordings};
pub use samples::SampleFiles;
pub use server::{recordings_note, server_notes};
pub use table::{
    COLUMNS, COMMAND_COLUMNS, COMMAND_RATIO_COLUMNS, MEMORY_COLUMNS, Mark, PURGE_COLUMNS, RATIO_COLUMNS, Row,
    SPEED_COLUMNS, Table, Value, failure_text, purge_table, result_table,
};
pub use terminal::{draw, draw_words, folded, result_tables, result_verdict};
pub use trace_stat::{size_table, trace_table};
pub use tuning::{render_tuning, tuning_table, tuning_text};
pub use units::{bytes, count, duration_ns, human, utc};
pub use verdict::{MoreBy, advice, doubts, finding, headline, reasons};

/// Everything a report is made of.
#[derive(Debug, Clone)]
pub struct ResultData {
    /// `manifest.json`.
    pub manifest: Manifest,
    /// `runs.jsonl`.
    pub records: Vec<RunRecord>,
    /// The sample files the records name; missing ones only leave their curves out.
    pub samples: SampleFiles,
    /// What [`fragbench_decide::summarize`] made of the plan and the records.
    pub summary: Summary,
}

/// What the Markdown and the HTML report are drawn from.
struct Page<'a> {
    data: &'a ResultData,
    /// Plots by workload.
    plots: &'a [(String, Vec<Plot>)],
}

/// A file of a result directory: its path relative to it and its content.
pub type RenderedFile = (String, Vec<u8>);

/// Every file made from a result: `summary.json`, `summary.csv`, `report.md`, `report.html`, `plots/*.svg`,
/// `plots/*.png`.
///
/// # Errors
/// When a plot cannot be drawn or figures cannot be written as JSON; neither happens for any data that was read
/// from a result directory.
pub fn render(data: &ResultData) -> Result<Vec<RenderedFile>> {
    let styles = Styles::new(&data.summary);
    let plots: Vec<(String, Vec<Plot>)> = table::workloads(&data.summary)
        .into_iter()
        .map(|w| (w.to_owned(), plots::workload_plots(data, &styles, w)))
        .collect();
    let page = Page { data, plots: &plots };
    let mut files = vec![
        ("summary.json".to_owned(), summary_json(&data.summary)?.into_bytes()),
        text_file("summary.csv", &summary_csv(&data.summary)?),
        text_file("report.md", &markdown::report_markdown(&page)),
        text_file("report.html", &html::report_html(&page)?),
    ];
    for (workload, plots) in &plots {
        for plot in plots {
            let stem = plot_stem(workload, plot.name);
            files.push((format!("{stem}.svg"), plot.wide.svg()?.into_bytes()));
            files.push((format!("{stem}.png"), plot.wide.png()?));
        }
    }
    Ok(files)
}

/// The plots of a trace's statistics as `NAME.sizes.svg`, `NAME.sizes.png` and so on.
///
/// # Errors
/// As [`render`].
pub fn render_trace(stat: &TraceStat, name: &str) -> Result<Vec<RenderedFile>> {
    let mut files = Vec::new();
    for plot in trace_plots(stat, name) {
        let stem = format!("{}.{}", slug(name), plot.name);
        files.push((format!("{stem}.svg"), plot.wide.svg()?.into_bytes()));
        files.push((format!("{stem}.png"), plot.wide.png()?));
    }
    Ok(files)
}

/// A file that people read: whatever others wrote into it (names, command lines, messages) acts on no terminal that shows it, and turns
/// no line.
fn text_file(name: &str, text: &str) -> RenderedFile {
    (name.to_owned(), fragbench_model::printable_lines(text, false).into_owned().into_bytes())
}

/// Path of a plot without its ending.
fn plot_stem(workload: &str, plot: &str) -> String {
    format!("plots/{}.{plot}", slug(workload))
}

/// A name as a file name: letters, digits, `.`, `_` and `-` stay, the rest becomes `-`.
fn slug(name: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let text: String = name.chars().map(safe).collect();
    let text = text.trim_matches(|c| c == '.' || c == '-');
    if text.is_empty() { "unnamed".into() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_never_leaves_its_directory() {
        assert_eq!(slug("mysql/oltp-read-write"), "mysql-oltp-read-write");
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("/"), "unnamed");
    }
}
