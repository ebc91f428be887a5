//! Bad cases as they came out: the checks of a case, what each remedy did, the matrix of cases and remedies, and the
//! way from what one sees to the case. Fact sheets and outcomes in, tables and pages out.

mod explain;
mod pages;

use fragbench_model::{
    CaseFact, CaseOutcome, CaseReport, CaseStatus, Check, Effect, REMEDIES, Remedy, RemedyOutcome, SIGNS, Symptom,
    remedy,
};

use crate::table::{Mark, Row, Table, Value};
use crate::terminal::{draw, draw_words};
use crate::units::{bytes, count, digits, duration_ns};

pub use pages::render_cases;

/// A figure with its unit, which its name's last word tells.
pub fn named_value(name: &str, value: f64) -> String {
    match name.rsplit('_').next() {
        Some("bytes") => bytes(value),
        Some("ns") => duration_ns(value),
        Some("ms") => duration_ns(value * 1e6),
        Some("s") => duration_ns(value * 1e9),
        Some("count") => count(value),
        _ => digits(value),
    }
}

/// `rss_freed_bytes` as people read it: `rss freed`.
fn plain_name(figure: &str) -> String {
    figure.rsplit_once('_').map_or(figure, |(name, _)| name).replace('_', " ")
}

/// A multiple of another figure: a share in per cent, a multiple as such.
fn multiple(value: f64) -> String {
    if value.abs() <= 1.5 { format!("{} %", digits(100.0 * value)) } else { format!("{} ×", digits(value)) }
}

fn status_word(status: CaseStatus) -> &'static str {
    match status {
        CaseStatus::Reproduced => "reproduced",
        CaseStatus::NotPresent => "not present in this glibc",
        CaseStatus::Differs => "differs",
    }
}

fn sign(effect: Effect) -> &'static str {
    match effect {
        Effect::Cures => "++",
        Effect::Helps => "+",
        Effect::Nothing => "0",
        Effect::Hurts => "−",
    }
}

/// What the signs of the matrix mean.
const LEGEND: &str = "Of the excess the remedy takes away: ++ 90 % or more (cures), + 20 % or more (helps), 0 less (does nothing); \
− 20 % or more is added (hurts); ! not what was expected; · does not apply, or was not run.";

/// Stands below the figures of a case that is judged by times.
const TIMED: &str = "Times are among these figures: they differ from run to run; the limits are wide for it.";

fn text(text: impl Into<String>) -> Option<Value> {
    Some(Value { text: text.into(), interval: None, mark: None })
}

fn marked(text: impl Into<String>, mark: Option<Mark>) -> Option<Value> {
    Some(Value { text: text.into(), interval: None, mark })
}

/// The limits of a check in words.
fn limits(check: &Check) -> String {
    let Some(of) = &check.of else {
        let value = |limit: f64| named_value(&check.figure, limit);
        return match (check.least, check.most) {
            (Some(least), Some(most)) if least == most => format!("= {}", value(least)),
            (Some(least), Some(most)) => format!("{} to {}", value(least), value(most)),
            (Some(least), None) => format!("≥ {}", value(least)),
            (None, Some(most)) => format!("≤ {}", value(most)),
            (None, None) => check.bound.clone(),
        };
    };
    let limit = match (check.least, check.most) {
        (Some(least), Some(most)) => format!("{} to {}", multiple(least), multiple(most)),
        (Some(least), None) => format!("≥ {}", multiple(least)),
        (None, Some(most)) => format!("≤ {}", multiple(most)),
        (None, None) => check.bound.clone(),
    };
    format!("{limit} of {}", plain_name(of))
}

/// What was measured: the figure, and its ratio where it is compared with another.
fn measured(check: &Check, outcome: &CaseOutcome) -> Option<Value> {
    let value = check.value?;
    let figure = outcome.figures.get(&check.figure).map(|figure| named_value(&check.figure, *figure));
    match (&check.of, figure) {
        (Some(_), Some(figure)) => text(format!("{figure} ({})", multiple(value))),
        (None, Some(figure)) => text(figure),
        (_, None) => text(digits(value)),
    }
}

fn is_about_a_remedy(check: &Check) -> bool {
    check.least.is_none() && check.most.is_none()
}

/// What was expected of the untreated run, and what was seen; with repetitions, how far they lay apart.
fn check_table(outcome: &CaseOutcome) -> Table {
    let repeated = !outcome.spread.is_empty();
    let rows = outcome.checks.iter().filter(|check| !is_about_a_remedy(check)).map(|check| {
        let spread = outcome.spread.get(&check.figure).and_then(|spread| text(format!("{} %", digits(100.0 * spread))));
        let verdict = marked(if check.ok { "ok" } else { "differs" }, (!check.ok).then_some(Mark::Worst));
        let mut values = vec![text(plain_name(&check.figure)), measured(check, outcome)];
        values.extend(repeated.then_some(spread));
        values.extend([text(limits(check)), verdict]);
        Row { label: check.what.clone(), values }
    });
    let mut columns = vec!["figure", "measured"];
    columns.extend(repeated.then_some("spread"));
    columns.extend(["expected", "verdict"]);
    let mut notes: Vec<String> = outcome.failure.clone().into_iter().collect();
    notes.extend(outcome.timed.then(|| TIMED.to_owned()));
    let columns = columns.into_iter().map(str::to_owned).collect();
    Table { corner: "what".into(), columns, rows: rows.collect(), notes }
}

/// What each remedy did, best first.
fn remedy_table(fact: &CaseFact, outcome: &CaseOutcome) -> Table {
    let judged = &fact.judged.figure;
    let mut rows: Vec<Row> = outcome.remedies.iter().map(|r| remedy_row(judged, r)).collect();
    if let Some(value) = outcome.figures.get(judged) {
        let values = vec![text(remedy_summary("none")), text(named_value(judged, *value)), None, None];
        rows.insert(0, Row { label: "none".into(), values });
    }
    let notes = outcome.remedies.iter().filter_map(|r| Some(format!("{}: {}", r.name, r.failure.as_ref()?))).collect();
    let columns = ["what it is", &plain_name(judged), "excess gone", "effect"].map(str::to_owned).to_vec();
    Table { corner: "remedy".into(), columns, rows, notes }
}

fn remedy_row(judged: &str, outcome: &RemedyOutcome) -> Row {
    let surprise = !outcome.expected.is_empty() && !outcome.effect.is_some_and(|e| outcome.expected.contains(&e));
    let expected: Vec<&str> = outcome.expected.iter().map(|e| e.word()).collect();
    let word = outcome.effect.map_or("no figure", Effect::word);
    let effect = if surprise { format!("{word}, expected: {}", expected.join(" or ")) } else { word.to_owned() };
    let mark = match outcome.effect {
        _ if surprise => Some(Mark::Worst),
        Some(Effect::Cures) => Some(Mark::Best),
        _ => None,
    };
    let values = vec![
        text(remedy_summary(&outcome.name)),
        outcome.judged.and_then(|value| text(named_value(judged, value))),
        outcome.gone_ratio.and_then(|gone| text(format!("{} %", (100.0 * gone).round() as i64))),
        marked(effect, mark),
    ];
    Row { label: outcome.name.clone(), values }
}

fn remedy_summary(name: &str) -> &'static str {
    if name == Remedy::NONE.name {
        return Remedy::NONE.summary;
    }
    remedy(name).map_or("", |remedy| remedy.summary)
}

/// Cases against remedies.
fn case_matrix(report: &CaseReport) -> Table {
    let used: Vec<&str> = REMEDIES
        .iter()
        .map(|remedy| remedy.name)
        .filter(|name| report.cases.iter().flat_map(|case| &case.remedies).any(|r| r.name == *name))
        .collect();
    let rows = report.cases.iter().map(|case| Row {
        label: case.name.clone(),
        values: std::iter::once(text(match case.status {
            CaseStatus::NotPresent => "not present",
            status => status_word(status),
        }))
        .chain(used.iter().map(|name| {
            let Some(outcome) = case.remedies.iter().find(|r| r.name == *name) else { return text("·") };
            let expected = outcome.effect.is_some_and(|e| outcome.expected.contains(&e));
            let surprise = if outcome.expected.is_empty() || expected { "" } else { " !" };
            text(format!("{}{surprise}", outcome.effect.map_or("·", sign)))
        }))
        .collect(),
    });
    let columns = std::iter::once("status".to_owned()).chain(used.iter().map(|n| (*n).to_owned())).collect();
    Table { corner: "case".into(), columns, rows: rows.collect(), notes: Vec::new() }
}

/// From what is seen to the case: sign → case → the command that tells it apart → what cures it.
pub fn symptom_table(facts: &[CaseFact]) -> Table {
    let mut rows = Vec::new();
    for (sign, seen) in SIGNS {
        let of = |symptom: &&Symptom| symptom.sign == *sign;
        let mut label = (*seen).to_owned();
        for fact in facts {
            for symptom in fact.symptoms.iter().filter(of) {
                let values = vec![text(&fact.name), text(&symptom.told_by), text(cures(fact))];
                rows.push(Row { label: std::mem::take(&mut label), values });
            }
        }
    }
    let columns = ["case", "told from others by", "cured by"].map(str::to_owned).to_vec();
    Table { corner: "what one sees".into(), columns, rows, notes: Vec::new() }
}

/// What is expected to cure the case in the newest versions that have it: settings and calls of glibc by name, then the
/// allocators that do, in whichever mode.
fn cures(fact: &CaseFact) -> String {
    let Some(expectation) = fact.expectations.iter().rfind(|e| e.present) else { return String::new() };
    let cures = |name: &str| expectation.effects.iter().any(|e| e.remedy == name && e.effects == [Effect::Cures]);
    let mut names: Vec<&str> = Vec::new();
    for remedy in REMEDIES.iter().filter(|remedy| cures(remedy.name)) {
        let name = if remedy.allocator == Remedy::NONE.allocator { remedy.name } else { remedy.allocator };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { "nothing that was tried".into() } else { names.join(", ") }
}

/// A case for a terminal: verdict, checks, remedies; what happens and the heap as it lies where that was drawn.
pub fn case_text(fact: &CaseFact, outcome: &CaseOutcome, width: Option<u16>, colour: bool) -> String {
    let mut out = format!("{}: {}\n{}\n", fact.name, status_word(outcome.status), fact.summary);
    if !outcome.heap.is_empty() {
        out.push_str(&explain::explanation(fact, &outcome.heap, width, colour));
    }
    out.push_str(&draw_words(&check_table(outcome), width, colour));
    if !outcome.remedies.is_empty() {
        out.push('\n');
        out.push_str(&draw_words(&remedy_table(fact, outcome), width, colour));
    }
    out.push('\n');
    out
}

/// The matrix for a terminal.
pub fn matrix_text(report: &CaseReport, width: Option<u16>, colour: bool) -> String {
    format!("{}\n{LEGEND}\n", draw(&case_matrix(report), width, colour))
}

/// Cases by versions of glibc for a terminal: the status of each under the system's and under `others`, by name.
pub fn versions_text(own: &CaseReport, others: &[(&str, &CaseReport)], width: Option<u16>, colour: bool) -> String {
    draw_words(&versions_table(own, others), width, colour)
}

fn versions_table(own: &CaseReport, others: &[(&str, &CaseReport)]) -> Table {
    let system = format!("glibc {} (system)", own.glibc);
    let columns = std::iter::once(system).chain(others.iter().map(|(name, _)| (*name).to_owned())).collect();
    let row = |case: &CaseOutcome| {
        let of = |report: &CaseReport| report.cases.iter().find(|other| other.name == case.name).map(|c| c.status);
        let all = std::iter::once(own).chain(others.iter().map(|(_, report)| *report));
        let values = all.map(|report| of(report).and_then(|status| text(status_word(status)))).collect();
        Row { label: case.name.clone(), values }
    };
    Table { corner: "case".into(), columns, rows: own.cases.iter().map(row).collect(), notes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_stands_beside_itself_under_each_version() {
        let report = |glibc: &str, status| CaseReport {
            glibc: glibc.into(),
            cases: vec![CaseOutcome {
                name: "fastbin-hoard".into(),
                status,
                failure: None,
                figures: Default::default(),
                spread: Default::default(),
                timed: false,
                checks: Vec::new(),
                remedies: Vec::new(),
                heap: Vec::new(),
            }],
        };
        let reports = [report("2.36", CaseStatus::Reproduced), report("2.43", CaseStatus::NotPresent)];
        let table = versions_table(&reports[0], &[("glibc 2.43", &reports[1])]);
        assert_eq!(table.columns, ["glibc 2.36 (system)", "glibc 2.43"]);
        let words: Vec<_> = table.rows[0].values.iter().map(|v| v.as_ref().unwrap().text.clone()).collect();
        assert_eq!(words, [status_word(CaseStatus::Reproduced), status_word(CaseStatus::NotPresent)]);
    }
    use fragbench_model::{Bound, Figures};

    fn check(bound: &Bound) -> Check {
        Check {
            what: String::new(),
            figure: bound.figure.clone(),
            of: bound.of.clone(),
            least: bound.least,
            most: bound.most,
            bound: bound.to_string(),
            value: Some(0.999),
            ok: true,
        }
    }

    #[test]
    fn limits_and_values_carry_their_units() {
        let of = Bound::at_least("rss_freed_bytes", 0.98, "").of("rss_filled_bytes");
        assert_eq!(limits(&check(&of)), "≥ 98 % of rss filled");
        assert_eq!(limits(&check(&Bound::within("arenas_started_count", 128.0, 128.0, ""))), "= 128");
        assert_eq!(
            limits(&check(&Bound::within("rss_x_bytes", 1.7, 2.0, "").of("live_x_bytes"))),
            "1.70 × to 2 × of live x"
        );
        assert_eq!(limits(&check(&Bound::at_most("purge_ms", 1500.0, ""))), "≤ 1.50 s");
        let outcome = CaseOutcome {
            name: String::new(),
            status: CaseStatus::Reproduced,
            failure: None,
            figures: Figures::from([("rss_freed_bytes".into(), 268435456.0)]),
            spread: Figures::new(),
            timed: false,
            checks: Vec::new(),
            remedies: Vec::new(),
            heap: Vec::new(),
        };
        assert_eq!(measured(&check(&of), &outcome).unwrap().text, "256 MiB (99.9 %)");
    }

    #[test]
    fn repetitions_add_their_spread_and_times_a_note() {
        let mut outcome = CaseOutcome {
            name: String::new(),
            status: CaseStatus::Reproduced,
            failure: None,
            figures: Figures::from([("rss_freed_bytes".into(), 268435456.0)]),
            spread: Figures::from([("rss_freed_bytes".into(), 0.004)]),
            timed: true,
            checks: vec![check(&Bound::at_least("rss_freed_bytes", 1.0, ""))],
            remedies: Vec::new(),
            heap: Vec::new(),
        };
        let table = check_table(&outcome);
        assert_eq!(table.columns, ["figure", "measured", "spread", "expected", "verdict"]);
        assert_eq!(table.rows[0].values[2].as_ref().unwrap().text, "0.40 %");
        assert_eq!(table.notes, [TIMED]);
        (outcome.spread, outcome.timed) = (Figures::new(), false);
        let table = check_table(&outcome);
        assert_eq!(table.columns, ["figure", "measured", "expected", "verdict"]);
        assert!(table.notes.is_empty());
    }
}
