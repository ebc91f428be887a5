//! `report.md`: finding, tables and links to the plots. Everything that came from outside is escaped.

use fragbench_model::printable;

use crate::cautions::Cautions;
use crate::conditions::conditions;
use crate::overview::{self, overview};
use crate::profile;
use crate::replay::replay_note;
use crate::server::server_notes;
use crate::table::{LEGEND, RATIO_LEGEND, Table, purge_table, ratio_table, result_table};
use crate::units::{bytes, utc};
use crate::verdict::{MoreBy, advice, finding, reasons};
use crate::{Page, Plot, ResultData, plot_stem};

/// The report in Markdown; plots are linked as the SVG files beside it.
pub(crate) fn report_markdown(page: &Page) -> String {
    let data = page.data;
    let manifest = &data.manifest;
    let mut out = format!("# fragbench: which allocator?\n\n{}\n", escape(&finding(&data.summary)));
    out.push_str(&format!("\n{}\n", escape(&conditions(data).join("; "))));
    let reasons = reasons(&data.summary.verdict, MoreBy::Blocks);
    if !reasons.is_empty() {
        out.push_str("\n## Why\n\n");
        for reason in reasons {
            out.push_str(&format!("- {}\n", escape(&reason)));
        }
    }
    let advice = advice(&data.summary.verdict);
    if !advice.is_empty() {
        out.push_str("\n## Before you act\n\n");
        for (what, text) in advice {
            out.push_str(&format!("- {what}: {}\n", escape(&text)));
        }
    }
    let matrices = overview(&data.summary);
    if !matrices.is_empty() {
        out.push_str("\n## All workloads\n");
        for (heading, matrix) in &matrices {
            out.push_str(&format!("\n{heading}:\n\n{}", markdown_table(matrix)));
        }
        out.push_str(&format!("\n{}\n", overview::LEGEND));
    }
    for (workload, plots) in page.plots {
        out.push_str(&section(data, workload, plots));
    }
    let cautions = Cautions::of_summary(&data.summary).lines();
    if !cautions.is_empty() {
        out.push_str("\n## Cautions and known risks\n\nThe numbers stand with the cells in the tables.\n\n");
        for text in cautions {
            out.push_str(&format!("- {}\n", escape(&text)));
        }
    }
    out.push_str(&format!(
        "\n## Made by\n\n`{}` with fragbench {} on {}, {}, {} CPUs, {}; every run's figures are in `runs.jsonl`.\n",
        printable(&manifest.command.join(" ")).replace('`', "'"),
        escape(&manifest.version),
        escape(&manifest.host.kernel),
        escape(manifest.host.cpu.as_deref().unwrap_or("unknown CPU")),
        manifest.host.cpus,
        manifest.host.memory_bytes.map_or("unknown memory".into(), |m| bytes(m as f64)),
    ));
    out.push_str(&format!("Started {}.\n", utc(manifest.started_unix_s)));
    if !manifest.machines.is_empty() {
        let shards: Vec<String> = manifest.machines.iter().map(|m| format!("{} ({})", m.shard, m.directory)).collect();
        out.push_str(&format!(
            "Merged from the shards {}; of the machines the first is named here, `manifest.json` has all.\n",
            escape(&shards.join(", "))
        ));
    }
    out
}

/// The tables and plots of one workload.
fn section(data: &ResultData, workload: &str, plots: &[Plot]) -> String {
    let manifest = &data.manifest;
    let mut out = format!("\n## {}\n\n", escape(workload));
    let results = result_table(&data.summary, &manifest.plan, &data.records, workload);
    out.push_str(&markdown_table(&results));
    out.push_str(&format!("\n{LEGEND}\n"));
    for note in server_notes(manifest, &data.records, Some(workload)) {
        out.push_str(&format!("\n**{}**\n", escape(&note)));
    }
    if let Some(note) = replay_note(&data.records, workload) {
        out.push_str(&format!("\n{note}\n"));
    }
    if let Some(fact) = profile::fact(data, workload) {
        let shapes = markdown_table(&profile::shape_table(fact));
        out.push_str(&format!("\n{}:\n\n{shapes}\n{}\n", profile::HEADING, profile::LEGEND));
        if let Some(memory) = profile::memory_table(data, workload) {
            out.push_str(&format!("\n{}", markdown_table(&memory)));
        }
    }
    let ratios = ratio_table(&data.summary, &manifest.plan, workload);
    if !ratios.rows.is_empty() {
        out.push_str(&format!("\n{}\n{RATIO_LEGEND}\n", markdown_table(&ratios)));
    }
    let purge = purge_table(&data.summary, workload);
    if !purge.rows.is_empty() {
        out.push_str(&format!("\nPurge:\n\n{}", markdown_table(&purge)));
    }
    for plot in plots {
        let path = plot_stem(workload, plot.name);
        out.push_str(&format!("\n![{}]({path}.svg)\n\n{}\n", plot.name, escape(&plot.caption)));
    }
    out
}

/// A table with its notes.
pub(crate) fn markdown_table(table: &Table) -> String {
    let mut out = format!("| {} |", escape(&table.corner));
    for column in &table.columns {
        out.push_str(&format!(" {} |", escape(column)));
    }
    out.push_str("\n|---|");
    out.push_str(&"---:|".repeat(table.columns.len()));
    out.push('\n');
    for row in &table.rows {
        out.push_str(&format!("| {} |", escape(&row.label)));
        for value in &row.values {
            let text = match value {
                None => "–".into(),
                Some(v) => match v.mark {
                    Some(mark) => format!("**{}** {}", escape(&v.text), mark.sign()),
                    None => escape(&v.text),
                },
            };
            out.push_str(&format!(" {text} |"));
        }
        out.push('\n');
    }
    for note in &table.notes {
        out.push_str(&format!("\n> {}\n", escape(note)));
    }
    out
}

/// Text with everything that Markdown or HTML would take for markup made harmless.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' => out.push(' '),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
