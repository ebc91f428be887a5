//! Two results beside each other, for people: the outcome, a table for each workload, what changed with its figures, and
//! the conditions that differ.

use fragbench_model::{CellDiff, CellName, Change, ConditionDiff, Diff, DiffOutcome, FigureDiff, Unit, label, metric};

use crate::markdown::{escape, markdown_table};
use crate::table::{COLUMNS, COMMAND_COLUMNS, Mark, PURGE_COLUMNS, Row, SPEED_COLUMNS, Table, Value};
use crate::terminal::{draw, draw_words};
use crate::units::{digits, in_unit};

/// For a terminal `width` columns wide (`None`: as wide as needed); `a` and `b` say which results they are.
pub fn diff_text(diff: &Diff, a: &str, b: &str, width: Option<u16>, colour: bool) -> String {
    let mut out = format!("A  {a}\nB  {b}\n");
    if !diff.conditions.is_empty() {
        out.push_str(&format!("\n{}\n", draw_words(&condition_table(&diff.conditions), width, false)));
    }
    for (workload, table) in tables(diff) {
        out.push_str(&format!("\n{workload}\n{}\n", draw(&table, width, colour)));
    }
    let legend = legend(diff);
    out.push_str(&format!("\n{}\n", width.map_or(legend.clone(), |width| textwrap::fill(&legend, usize::from(width)))));
    for (heading, lines) in sections(diff) {
        out.push_str(&format!("\n{heading}\n"));
        lines.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
    }
    out.push_str(&format!("\n{}\n", headline(diff)));
    diff.reasons.iter().for_each(|reason| out.push_str(&format!("  {reason}\n")));
    out
}

/// For a pull request or a job's summary.
pub fn diff_markdown(diff: &Diff, a: &str, b: &str) -> String {
    let mut out = format!("# fragbench diff: {}\n\n", headline(diff));
    diff.reasons.iter().for_each(|reason| out.push_str(&format!("- {}\n", escape(reason))));
    out.push_str(&format!("\nA: {}; B: {}\n", escape(a), escape(b)));
    for (heading, lines) in sections(diff) {
        out.push_str(&format!("\n## {heading}\n\n"));
        lines.iter().for_each(|line| out.push_str(&format!("- {}\n", escape(line))));
    }
    for (workload, table) in tables(diff) {
        out.push_str(&format!("\n## {}\n\n{}", escape(&workload), markdown_table(&table)));
    }
    out.push_str(&format!("\n{}\n", legend(diff)));
    if !diff.conditions.is_empty() {
        out.push_str(&format!("\n## Conditions that differ\n\n{}", markdown_table(&condition_table(&diff.conditions))));
    }
    out
}

fn headline(diff: &Diff) -> &'static str {
    match diff.outcome {
        DiffOutcome::NoRegression => "no relevant regression",
        DiffOutcome::Regression => "relevant regression",
        DiffOutcome::CannotCompare => "not comparable",
    }
}

/// What the tables' signs mean.
fn legend(diff: &Diff) -> String {
    let of = if diff.to_baseline {
        "the medians of the ratios to the baseline's run of the same block"
    } else {
        "the medians"
    };
    format!(
        "B relative to A: ratio of {of}, with its 95 % bootstrap interval. ▲ better, ▽ worse: chance is excluded at the 5 % level \
         by the rank-sum test, corrected (Holm) for all {} comparisons, and the whole interval lies beyond {} %. No sign: beyond \
         chance, not clearly of consequence. ≈: not told apart from chance. ?: too few runs to exclude chance.",
        diff.comparisons,
        digits(100.0 * diff.relevant)
    )
}

/// Heading and lines of each list that has any.
fn sections(diff: &Diff) -> Vec<(&'static str, Vec<String>)> {
    let names = |cells: &[CellName]| cells.iter().map(full_name).collect::<Vec<_>>();
    let lacking = diff.cells.iter().flat_map(|cell| {
        cell.lacking.iter().map(|(metric, why)| format!("{metric} of {}: {why}", full_name(&cell.cell)))
    });
    let sections = [
        ("Worse", changes(diff, Change::Worse)),
        ("Better", changes(diff, Change::Better)),
        ("Only in A", names(&diff.only_in_a)),
        ("Only in B", names(&diff.only_in_b)),
        ("Figures that cannot be compared", lacking.collect()),
        ("Cautions", diff.cautions.iter().cloned().chain(other_machine(&diff.conditions)).collect()),
    ];
    sections.into_iter().filter(|(_, lines)| !lines.is_empty()).collect()
}

/// Figures of time are of the machine as well.
fn other_machine(conditions: &[ConditionDiff]) -> Option<String> {
    conditions.iter().any(|c| c.bears_on.starts_with("time")).then(|| {
        "The machines differ: a difference in time may be theirs; --to-baseline compares each with its own baseline.".to_owned()
    })
}

/// The figures with this change, one a line.
fn changes(diff: &Diff, wanted: Change) -> Vec<String> {
    let of_cell = |cell: &CellDiff| {
        let name = full_name(&cell.cell);
        let figures = diff.metrics.iter().filter_map(|metric| Some((metric, cell.figures.get(metric)?)));
        figures
            .filter(|(_, f)| f.change == wanted)
            .map(|(metric, f)| {
                format!(
                    "{name}: {metric} {}, from {} to {}{}; {} and {} runs, {}",
                    with_interval(f),
                    value(diff, metric, f.a.median),
                    value(diff, metric, f.b.median),
                    if diff.to_baseline { " times the baseline's" } else { "" },
                    f.a.n,
                    f.b.n,
                    p_text(f.p)
                )
            })
            .collect::<Vec<_>>()
    };
    diff.cells.iter().flat_map(of_cell).collect()
}

/// A figure in its unit, or as the ratio that it is.
fn value(diff: &Diff, name: &str, value: f64) -> String {
    let unit = metric(name).map_or_else(|| Unit::of_name(name), |m| m.unit);
    if diff.to_baseline { digits(value) } else { in_unit(unit, value) }
}

fn full_name(cell: &CellName) -> String {
    format!("{} under {}", cell.workload, label(&cell.allocator, &cell.settings))
}

/// A ratio as a change in percent.
fn percent(ratio: f64) -> String {
    let change = 100.0 * (ratio - 1.0);
    // No sign before what rounds to nothing.
    if change.abs() < 0.05 { "0.0".into() } else { format!("{change:+.1}") }
}

/// A change with its interval, in percent.
fn with_interval(figure: &FigureDiff) -> String {
    let ratio = &figure.ratio;
    format!("{} % ({} to {})", percent(ratio.median), percent(ratio.lo), percent(ratio.hi))
}

fn p_text(p: Option<f64>) -> String {
    match p {
        None => "p unknown".into(),
        Some(p) if p < 0.001 => "p < 0.001".into(),
        Some(p) => format!("p = {p:.3}"),
    }
}

/// One table a workload, in A's order.
fn tables(diff: &Diff) -> Vec<(String, Table)> {
    let mut workloads: Vec<&str> = Vec::new();
    for cell in &diff.cells {
        if !workloads.contains(&cell.cell.workload.as_str()) {
            workloads.push(&cell.cell.workload);
        }
    }
    let shown = |workload: &str| -> Vec<&CellDiff> {
        diff.cells.iter().filter(|c| c.cell.workload == workload && !c.figures.is_empty()).collect()
    };
    workloads
        .into_iter()
        .map(|workload| (workload, shown(workload)))
        .filter(|(_, cells)| !cells.is_empty())
        .map(|(workload, cells)| {
            let metrics: Vec<&String> =
                diff.metrics.iter().filter(|m| cells.iter().any(|c| c.figures.contains_key(*m))).collect();
            let row = |cell: &&CellDiff| Row {
                label: label(&cell.cell.allocator, &cell.cell.settings),
                values: metrics.iter().map(|metric| cell.figures.get(*metric).map(table_value)).collect(),
            };
            let table = Table {
                corner: "allocator".into(),
                columns: metrics.iter().map(|metric| heading(metric)).collect(),
                rows: cells.iter().map(row).collect(),
                notes: Vec::new(),
            };
            (workload.to_owned(), table)
        })
        .collect()
}

fn table_value(figure: &FigureDiff) -> Value {
    let (sign, mark) = match figure.change {
        Change::Worse => ("", Some(Mark::Worst)),
        Change::Better => ("", Some(Mark::Best)),
        Change::Slight => ("", None),
        Change::Noise => ("≈ ", None),
        Change::TooFewRuns => ("? ", None),
    };
    Value { text: format!("{sign}{}", with_interval(figure)), interval: None, mark }
}

/// As the tables of a result call it.
fn heading(name: &str) -> String {
    [COLUMNS, COMMAND_COLUMNS, SPEED_COLUMNS, PURGE_COLUMNS]
        .into_iter()
        .flatten()
        .find(|(known, _)| *known == name)
        .map_or(name, |(_, heading)| heading)
        .to_owned()
}

fn condition_table(conditions: &[ConditionDiff]) -> Table {
    let value = |text: Option<&str>| text.map(|text| Value { text: text.to_owned(), interval: None, mark: None });
    Table {
        corner: "differs".into(),
        columns: ["A", "B", "bears on"].map(str::to_owned).to_vec(),
        rows: conditions
            .iter()
            .map(|c| Row {
                label: c.what.clone(),
                values: vec![value(c.a.as_deref()), value(c.b.as_deref()), value(Some(&c.bears_on))],
            })
            .collect(),
        notes: Vec::new(),
    }
}
