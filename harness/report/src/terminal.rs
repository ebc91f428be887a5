//! Tables for a terminal.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, TableStyle};
use fragbench_model::{Plan, RunRecord, Summary};

use crate::cautions::Cautions;
use crate::overview::{self, overview};
use crate::table::{LEGEND, Mark, Table, result_table, workloads};
use crate::verdict::{advice, finding};

/// Columns of the result table that give way first when a terminal is narrow, by their heading.
const GIVES_WAY: [&str; 6] = ["RSS mean", "purge", "arenas", "VIRT peak", "RSS purged", "malloc p99"];

/// Rules above, below and under the heading; none between rows.
const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// Columns of text where there is no terminal: a log is read in windows of about this width.
pub(crate) const LOG_WIDTH: usize = 100;

/// Folds sentences at the width of the terminal, of a log at 100 columns; lines that were apart stay apart, and what
/// continues a line stands below its first word.
pub fn folded(text: &str, width: Option<u16>) -> String {
    let width = width.map_or(LOG_WIDTH, usize::from);
    let fold = |line: &str| {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let options = textwrap::Options::new(width)
            .initial_indent(&indent)
            .subsequent_indent(&indent)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(line.trim_start(), options)
    };
    let lines: Vec<String> = text.split('\n').map(fold).collect();
    lines.join("\n")
}

/// All result tables, one a workload, for a terminal `width` columns wide (`None`: as wide as they need), with or
/// without colour; before them, of several workloads, the matrix of all. Marks do not depend on colour.
pub fn result_tables(
    summary: &Summary,
    plan: &Plan,
    records: &[RunRecord],
    width: Option<u16>,
    colour: bool,
) -> String {
    let mut text = String::new();
    let matrices = overview(summary);
    for (heading, matrix) in &matrices {
        text.push_str(&format!("{heading}\n{}\n\n", draw(matrix, width, colour)));
    }
    if !matrices.is_empty() {
        text.push_str(&format!("{}\n\n", folded(overview::LEGEND, width)));
    }
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
    text.push_str(&folded(LEGEND, width));
    text.push('\n');
    for line in Cautions::of_summary(summary).short() {
        text.push_str(&folded(&line, width));
        text.push('\n');
    }
    if !left_out.is_empty() {
        let line = format!("Left out for want of width: {}; the report has them.", left_out.join(", "));
        text.push_str(&folded(&line, width));
        text.push('\n');
    }
    text
}

/// The verdict for a terminal or a log: the finding in a paragraph, then other changes that are worth it and known risks, a
/// line each.
pub fn result_verdict(summary: &Summary, width: Option<u16>) -> String {
    let mut text = folded(&finding(summary), width);
    for (what, line) in advice(&summary.verdict) {
        let options = textwrap::Options::new(width.map_or(LOG_WIDTH, usize::from)).subsequent_indent("          ");
        text.push_str(&format!("\n{}", textwrap::fill(&format!("  {what:<8}{line}"), options.break_words(false))));
    }
    text
}

/// Columns a table takes when nothing is wrapped.
fn natural_width(table: &Table) -> usize {
    drawn_width(&Table { notes: Vec::new(), ..table.clone() })
}

fn drawn_width(table: &Table) -> usize {
    let drawn = draw_aligned(table, None, false, CellAlignment::Right);
    drawn.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

/// One table with its notes: figures, aligned right. Figures are never cut nor wrapped: where the width does not do, names fold
/// to 22 columns, and columns that still find no place stand below the first ones, under the same names.
pub fn draw(table: &Table, width: Option<u16>, colour: bool) -> String {
    let right = |table: &Table| draw_aligned(table, None, colour, CellAlignment::Right);
    let Some(width) = width.map(usize::from).filter(|width| natural_width(table) > *width) else {
        return right(table);
    };
    let mut narrow = Table { notes: Vec::new(), ..table.clone() };
    for row in &mut narrow.rows {
        row.label = folded_name(&row.label);
    }
    narrow.corner = folded_name(&narrow.corner);
    let mut parts: Vec<Table> = Vec::new();
    let mut from = 0;
    while from < narrow.columns.len() {
        // At least one column, be the width what it may.
        let fits = |to: &usize| drawn_width(&narrow.part(from..*to)) <= width;
        let to = (from + 2..=narrow.columns.len()).take_while(fits).last().unwrap_or(from + 1);
        parts.push(narrow.part(from..to));
        from = to;
    }
    if let Some(last) = parts.last_mut() {
        last.notes.clone_from(&table.notes);
    }
    parts.iter().map(right).collect::<Vec<_>>().join("\n")
}

/// Columns that a name takes where a table has to be narrow.
const NAME_WIDTH: usize = 22;

/// A name on several lines, each of [`NAME_WIDTH`] columns as far as it has places to break at: spaces, and the ends of the parts of a
/// variable or a path. A number stays whole.
fn folded_name(name: &str) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    for part in name.split_inclusive([' ', '_', '/', '=', ',', '.']) {
        // A point within a number parts nothing.
        let number = part.ends_with('.') && part.trim_end_matches('.').ends_with(|c: char| c.is_ascii_digit());
        let last = lines.last_mut().expect("there is a first line");
        let glued = last.ends_with('.') && last.trim_end_matches('.').ends_with(|c: char| c.is_ascii_digit());
        if last.is_empty() || glued || number || last.chars().count() + part.trim_end().chars().count() <= NAME_WIDTH {
            last.push_str(part);
        } else {
            lines.push(part.to_owned());
        }
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
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
    // Figures of a column stay aligned whether marked or not.
    let marked = table.rows.iter().flat_map(|row| row.values.iter().flatten()).any(|value| value.mark.is_some());
    let room = if marked { "  " } else { "" };
    for row in &table.rows {
        let values = row.values.iter().map(|v| match v {
            None => Cell::new(format!("–{room}")),
            Some(v) => {
                let text = match v.mark {
                    Some(mark) => format!("{} {}", v.text, mark.sign()),
                    None => format!("{}{room}", v.text),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Row, Value};

    fn table() -> Table {
        let figure = |text: &str| Some(Value { text: text.into(), interval: None, mark: None });
        let names = [
            "glibc",
            "glibc MALLOC_TRIM_THRESHOLD_=131072",
            "jemalloc background_thread=true narenas=2",
            "x 3.5.7.11 x",
        ];
        let row =
            |name: &str| Row { label: name.into(), values: (0..9).map(|i| figure(&format!("10{i}.25 MiB"))).collect() };
        Table {
            corner: "allocator".into(),
            columns: (0..9).map(|i| format!("RSS {i}")).collect(),
            rows: names.map(row).into(),
            notes: vec!["a note".into()],
        }
    }

    #[test]
    fn figures_are_neither_cut_nor_wrapped_whatever_the_width() {
        for width in [20_u16, 40, 80, 100, 200] {
            let drawn = draw(&table(), Some(width), false);
            for i in 0..9 {
                assert_eq!(drawn.matches(&format!("10{i}.25 MiB")).count(), 4, "{width}:\n{drawn}");
            }
            assert_eq!(drawn.matches("! a note").count(), 1);
            let widest = drawn.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= usize::from(width.max(40)), "{width}: {widest}\n{drawn}");
            assert!(drawn.contains("131072") && drawn.contains("3.5.7.11"), "{drawn}");
        }
        assert_eq!(draw(&table(), Some(400), false), draw(&table(), None, false));
    }

    #[test]
    fn sentences_fold_in_a_log() {
        let text = format!("first\n  in doubt: {}", "many words ".repeat(40));
        let drawn = folded(&text, None);
        assert!(drawn.lines().all(|line| line.chars().count() <= LOG_WIDTH), "{drawn}");
        assert!(drawn.lines().skip(1).all(|line| line.starts_with("  ")) && drawn.lines().count() > 4);
        assert_eq!(folded(&drawn, None).lines().count(), drawn.lines().count());
    }
}
