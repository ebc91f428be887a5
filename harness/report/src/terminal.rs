//! Tables for a terminal.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, TableStyle};
use fragbench_model::{Plan, RunRecord, Summary};

use crate::cautions::Cautions;
use crate::table::{LEGEND, Mark, Table, result_table, workloads};
use crate::verdict::{advice, finding};

/// Columns of the result table that give way first when a terminal is narrow, by their heading.
const GIVES_WAY: [&str; 6] = ["RSS mean", "purge", "arenas", "VIRT peak", "RSS purged", "malloc p99"];

/// Rules above, below and under the heading; none between rows.
const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// All result tables, one a workload, for a terminal `width` columns wide (`None`: as wide as they need), with or
/// without colour. Marks do not depend on colour.
pub fn result_tables(
    summary: &Summary,
    plan: &Plan,
    records: &[RunRecord],
    width: Option<u16>,
    colour: bool,
) -> String {
    let mut text = String::new();
    let mut left_out: Vec<String> = Vec::new();
    for workload in workloads(summary) {
        let mut table = result_table(summary, plan, records, workload);
        for column in GIVES_WAY {
            if width.is_none_or(|w| natural_width(&table) <= usize::from(w)) {
                break;
            }
            table.remove_column(column);
            if !left_out.iter().any(|l| l == column) {
                left_out.push(column.to_owned());
            }
        }
        text.push_str(&format!("{workload}\n{}\n\n", draw(&table, width, colour)));
    }
    text.push_str(LEGEND);
    text.push('\n');
    for line in Cautions::of_summary(summary).short() {
        text.push_str(&width.map_or_else(|| line.clone(), |width| textwrap::fill(&line, usize::from(width))));
        text.push('\n');
    }
    if !left_out.is_empty() {
        text.push_str(&format!("Left out for want of width: {}; the report has them.\n", left_out.join(", ")));
    }
    text
}

/// The verdict for a terminal: the finding in a paragraph, then other changes that are worth it and known risks, a line each.
pub fn result_verdict(summary: &Summary, width: Option<u16>) -> String {
    let finding = finding(summary);
    let mut text = width.map_or_else(|| finding.clone(), |width| textwrap::fill(&finding, usize::from(width)));
    for (what, line) in advice(&summary.verdict) {
        let first = format!("  {what:<8}");
        match width {
            None => text.push_str(&format!("\n{first}{line}")),
            Some(width) => {
                let options =
                    textwrap::Options::new(width.into()).initial_indent(&first).subsequent_indent("          ");
                text.push_str(&format!("\n{}", textwrap::fill(&line, options)));
            }
        }
    }
    text
}

/// Columns a table takes when nothing is wrapped.
fn natural_width(table: &Table) -> usize {
    draw(&Table { notes: Vec::new(), ..table.clone() }, None, false)
        .lines()
        .map(|l| l.chars().count())
        .max()
        .unwrap_or(0)
}

/// One table with its notes: figures, aligned right.
pub fn draw(table: &Table, width: Option<u16>, colour: bool) -> String {
    draw_aligned(table, width, colour, CellAlignment::Right)
}

/// One table of words, aligned left.
pub fn draw_words(table: &Table, width: Option<u16>, colour: bool) -> String {
    draw_aligned(table, width, colour, CellAlignment::Left)
}

fn draw_aligned(table: &Table, width: Option<u16>, colour: bool, alignment: CellAlignment) -> String {
    let mut out = comfy_table::Table::new();
    out.load_style(STYLE);
    match width {
        Some(width) => out.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => out.set_content_arrangement(ContentArrangement::Disabled),
    };
    // Two words of a heading stand above each other, and so do the parts of a name: the figures decide the width.
    let heads = table.columns.iter().map(|c| c.replacen(' ', "\n", 1).replace('-', "\n"));
    if table.columns.iter().any(|c| !c.is_empty()) {
        out.set_header(std::iter::once(table.corner.clone()).chain(heads));
    }
    for row in &table.rows {
        let values = row.values.iter().map(|v| match v {
            None => Cell::new("–  "),
            Some(v) => {
                let text = match v.mark {
                    Some(mark) => format!("{} {}", v.text, mark.sign()),
                    // Figures of a column stay aligned whether marked or not.
                    None => format!("{}  ", v.text),
                };
                match v.mark.filter(|_| colour) {
                    Some(Mark::Best) => Cell::new(text).fg(Color::Green).add_attribute(Attribute::Bold),
                    Some(Mark::Worst) => Cell::new(text).fg(Color::Red),
                    None => Cell::new(text),
                }
            }
        });
        out.add_row(std::iter::once(Cell::new(&row.label)).chain(values));
    }
    for column in out.column_iter_mut() {
        column.set_padding((0, 1));
    }
    for column in out.column_iter_mut().skip(1) {
        column.set_cell_alignment(alignment);
    }
    if colour {
        out.enforce_styling();
    }
    let mut text = out.trim_fmt();
    for note in &table.notes {
        text.push_str(&format!("\n! {note}"));
    }
    text
}
