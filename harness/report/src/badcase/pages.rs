//! `badcases.json`, `badcases.md` and `badcases.html`: the matrix first, then each case with its mechanism, its sources,
//! its checks and its remedies, and the way from symptoms to cases.

use anyhow::Result;
use fragbench_model::{CaseFact, CaseOutcome, CaseReport, CaseStatus, Manifest};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::explain::drawing;
use super::{LEGEND, case_matrix, check_table, remedy_table, status_word, symptom_table, versions_table};
use crate::html::{figure, table};
use crate::markdown::{escape, markdown_table};
use crate::table::Table;
use crate::units::{bytes, utc};
use crate::{RenderedFile, plot_stem};

/// Every file made from a report: `badcases.json`, `badcases.md`, `badcases.html`, and the heap of each case that was drawn. `facts` holds the fact sheet of each
/// case of the report. Where the cases ran on `others`, versions of glibc by name, too, the status under each stands beside.
///
/// # Errors
/// When figures cannot be written as JSON, which does not happen for figures of a run.
pub fn render_cases(
    facts: &[CaseFact],
    report: &CaseReport,
    others: &[(&str, &CaseReport)],
    manifest: &Manifest,
) -> Result<Vec<RenderedFile>> {
    let versions = (!others.is_empty()).then(|| versions_table(report, others));
    let versions = versions.as_ref();
    let cases: Vec<(&CaseFact, &CaseOutcome)> = report
        .cases
        .iter()
        .filter_map(|outcome| Some((facts.iter().find(|fact| fact.name == outcome.name)?, outcome)))
        .collect();
    let mut files = vec![
        ("badcases.json".to_owned(), serde_json::to_string_pretty(report)?.into_bytes()),
        crate::text_file("badcases.md", &markdown(&cases, report, versions, manifest)),
        crate::text_file("badcases.html", &page(&cases, report, versions, manifest)?),
    ];
    for (fact, outcome) in &cases {
        if let Some(plot) = drawing(fact, &outcome.heap) {
            files.push((format!("{}.svg", plot_stem(&fact.name, plot.name)), plot.wide.svg()?.into_bytes()));
        }
    }
    Ok(files)
}

/// What the report comes to, in a sentence.
fn finding(report: &CaseReport) -> String {
    let n = |status: CaseStatus| report.cases.iter().filter(|case| case.status == status).count();
    format!(
        "glibc {}: {} of {} cases reproduced, {} not present in this glibc, {} came out otherwise than expected.",
        report.glibc,
        n(CaseStatus::Reproduced),
        report.cases.len(),
        n(CaseStatus::NotPresent),
        n(CaseStatus::Differs)
    )
}

fn made_by(manifest: &Manifest) -> String {
    let host = &manifest.host;
    let memory = host.memory_bytes.map_or("unknown memory".into(), |m| bytes(m as f64));
    format!(
        "{} with fragbench {} on {}, {}, {} CPUs, {memory}; started {}. Every run's figures are in runs.jsonl.",
        manifest.command.join(" "),
        manifest.version,
        host.kernel,
        host.cpu.as_deref().unwrap_or("unknown CPU"),
        host.cpus,
        utc(manifest.started_unix_s)
    )
}

fn markdown(
    cases: &[(&CaseFact, &CaseOutcome)],
    report: &CaseReport,
    versions: Option<&Table>,
    manifest: &Manifest,
) -> String {
    let mut out = format!("# Bad cases of glibc malloc\n\n{}\n\n", escape(&finding(report)));
    out.push_str(&markdown_table(&case_matrix(report)));
    out.push_str(&format!("\n{LEGEND}\n"));
    if let Some(versions) = versions {
        out.push_str(&format!("\n## By version of glibc\n\n{}", markdown_table(versions)));
    }
    for (fact, outcome) in cases {
        out.push_str(&format!("\n## {}: {}\n\n{}.\n\n", fact.name, status_word(outcome.status), escape(&fact.summary)));
        for (i, step) in fact.mechanism.iter().enumerate() {
            out.push_str(&format!("{}. {}\n", i + 1, escape(step)));
        }
        out.push_str(&format!(
            "\nGlibc: {}. Sources: {}.\n\n{}",
            escape(&fact.affected()),
            escape(&fact.sources.join("; ")),
            markdown_table(&check_table(outcome))
        ));
        if let Some(plot) = drawing(fact, &outcome.heap) {
            out.push_str(&format!(
                "\n![{}]({}.svg)\n",
                format_args!("Heap map, {}", fact.name),
                plot_stem(&fact.name, plot.name)
            ));
        }
        if !outcome.remedies.is_empty() {
            out.push_str(&format!("\n{}", markdown_table(&remedy_table(fact, outcome))));
        }
    }
    let facts: Vec<CaseFact> = cases.iter().map(|(fact, _)| (*fact).clone()).collect();
    out.push_str(&format!("\n## From symptom to case\n\n{}", markdown_table(&symptom_table(&facts))));
    out.push_str(&format!("\n## Made by\n\n{}\n", escape(&made_by(manifest))));
    out
}

fn page(
    cases: &[(&CaseFact, &CaseOutcome)],
    report: &CaseReport,
    versions: Option<&Table>,
    manifest: &Manifest,
) -> Result<String> {
    let facts: Vec<CaseFact> = cases.iter().map(|(fact, _)| (*fact).clone()).collect();
    let sections = cases.iter().map(|(fact, outcome)| section(fact, outcome)).collect::<Result<Vec<Markup>>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "fragbench: bad cases of glibc malloc" }
                style { (PreEscaped(include_str!("../page.css"))) }
            }
            body { main {
                h1 { "Bad cases of glibc malloc" }
                p.finding { (finding(report)) }
                (table(&case_matrix(report)))
                p.legend { (LEGEND) }
                @if let Some(versions) = versions {
                    h2 { "By version of glibc" }
                    (table(versions))
                }
                nav { ul { @for (fact, _) in cases { li { a href={ "#" (fact.name) } { (fact.name) } ": " (fact.summary) } } } }
                @for section in &sections { (section) }
                h2 id="symptoms" { "From symptom to case" }
                div.words { (table(&symptom_table(&facts))) }
                h2 { "Made by" }
                p.soft { (made_by(manifest)) }
            } }
        }
    };
    Ok(page.into_string())
}

fn section(fact: &CaseFact, outcome: &CaseOutcome) -> Result<Markup> {
    let drawing = drawing(fact, &outcome.heap).map(|plot| figure(&fact.name, &plot)).transpose()?;
    Ok(html! {
        h2 id=(fact.name) { (fact.name) ": " (status_word(outcome.status)) }
        p { (fact.summary) "." }
        h3 { "What happens" }
        ol { @for step in &fact.mechanism { li { (step) } } }
        @if let Some(drawing) = &drawing { (drawing) }
        p.soft { "glibc: " (fact.affected()) ". Sources: " (fact.sources.join("; ")) "." }
        h3 { "Expected and seen" }
        @if let Some(failure) = &outcome.failure { p.warn { (failure) } }
        div.words { (table(&check_table(outcome))) }
        @if !outcome.remedies.is_empty() {
            h3 { "Remedies" }
            div.words { (table(&remedy_table(fact, outcome))) }
        }
    })
}
