//! What comes of bad cases that were run: figures, outcomes, the files of their report, what the terminal shows.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use fragbench_decide::{RemedyRun, judge_case};
use fragbench_model::{
    AllocatorKind, CaseFact, CaseOutcome, CaseReport, CaseStatus, Failure, FailureKind, Figures, GlibcVersion,
    HeapStage, Manifest, REMEDIES, Remedy, RunRecord, RunStatus,
};
use fragbench_run::{
    PlannedCase, ResultDir, WorkerBinary, case_figures, median_figures, planned_cases, spread_figures,
};

use crate::options::Format;
use crate::output::terminal;

/// Heaps as they were drawn: stages by version of glibc (`None`: the system's) and case.
pub(crate) type Heaps = BTreeMap<(Option<String>, String), Vec<HeapStage>>;

/// Outcomes on the system's glibc and on others.
pub(crate) struct Concluded {
    own: CaseReport,
    others: Vec<(String, CaseReport)>,
}

/// Records → figures → outcomes.
///
/// # Errors
/// When no run under a glibc gave figures, so that its version is not known.
pub(crate) fn conclude(
    manifest: &Manifest,
    records: &[RunRecord],
    facts: &[CaseFact],
    heaps: &Heaps,
) -> Result<Concluded> {
    let planned = planned_cases(&manifest.plan, facts, &manifest.remedies).map_err(|why| anyhow!(why))?;
    let by_cell = |cell: usize| -> Vec<&RunRecord> {
        let runs = manifest.plan.runs.iter().filter(|run| run.cell == cell);
        runs.filter_map(|run| records.iter().find(|record| record.run == run.run)).collect()
    };
    let mut reports: Vec<(Option<String>, CaseReport)> = Vec::new();
    for version in versions(&planned) {
        let of_it: Vec<&PlannedCase> = planned.iter().filter(|case| case.version == version).collect();
        let runs = || of_it.iter().flat_map(|case| &case.runs).flat_map(|(cell, _)| by_cell(*cell));
        let proofs = || runs().filter_map(|record| record.proof.as_ref());
        let Some(proof) = proofs().find(|proof| proof.kind == AllocatorKind::Glibc) else {
            let why = runs().map(fragbench_report::failure_text).find(|text| !text.is_empty());
            bail!("no run under glibc succeeded: {}", why.unwrap_or_default());
        };
        let glibc: GlibcVersion = proof.version.parse().map_err(anyhow::Error::msg)?;
        let cases: Vec<CaseOutcome> = of_it
            .iter()
            .map(|case| {
                let heap = heaps.get(&(version.clone(), case.fact.name.clone())).cloned().unwrap_or_default();
                CaseOutcome { heap, ..judge(case, glibc, by_cell) }
            })
            .collect();
        reports.push((version, CaseReport { glibc: proof.version.clone(), cases }));
    }
    let mut reports = reports.into_iter();
    let Some((_, own)) = reports.next() else { bail!("there is nothing to conclude from: no case was run") };
    let others = reports.map(|(version, report)| (version.unwrap_or_default(), report)).collect();
    Ok(Concluded { own, others })
}

/// Versions of glibc in the order of the plan.
fn versions(planned: &[PlannedCase]) -> Vec<Option<String>> {
    let mut versions: Vec<Option<String>> = Vec::new();
    for case in planned {
        if !versions.contains(&case.version) {
            versions.push(case.version.clone());
        }
    }
    versions
}

fn judge<'r>(case: &PlannedCase, glibc: GlibcVersion, by_cell: impl Fn(usize) -> Vec<&'r RunRecord>) -> CaseOutcome {
    let mut untreated = Err("it was not run".to_owned());
    let mut spread = Figures::new();
    let mut remedies: BTreeMap<usize, RemedyRun> = BTreeMap::new();
    for (cell, of_cell) in &case.runs {
        let records = by_cell(*cell);
        if records.is_empty() {
            continue;
        }
        let figures = figures(&records);
        for remedy in of_cell {
            match REMEDIES.iter().position(|known| known.name == remedy.name) {
                Some(position) => {
                    remedies.insert(position, (*remedy, figures.clone()));
                }
                None => {
                    untreated = figures.clone();
                    let all: Vec<Figures> = records.iter().map(|record| case_figures(record)).collect();
                    spread = spread_figures(&all, &case.fact.telling());
                }
            }
        }
    }
    CaseOutcome { spread, ..judge_case(case.fact, glibc, untreated, remedies.into_values().collect()) }
}

/// Medians over the repetitions; one that failed fails all.
fn figures(records: &[&RunRecord]) -> Result<Figures, String> {
    let of = |record: &&RunRecord| match &record.status {
        RunStatus::Ok => Ok(case_figures(record)),
        RunStatus::Failed(Failure { kind: FailureKind::Refused, reason }) => Err(reason.clone()),
        RunStatus::Failed(_) => Err(fragbench_report::failure_text(record)),
    };
    records.iter().map(of).collect::<Result<Vec<_>, _>>().map(|all| median_figures(&all))
}

impl Concluded {
    /// Whether a case came out otherwise than is expected.
    pub(crate) fn differs(&self) -> bool {
        let reports = std::iter::once(&self.own).chain(self.others.iter().map(|(_, report)| report));
        reports.flat_map(|report| &report.cases).any(|case| case.status == CaseStatus::Differs)
    }

    fn others(&self) -> Vec<(&str, &CaseReport)> {
        self.others.iter().map(|(name, report)| (name.as_str(), report)).collect()
    }

    /// Writes the files of the report; each other version has one of its own below.
    pub(crate) fn write(&self, results: &ResultDir, manifest: &Manifest, facts: &[CaseFact]) -> Result<()> {
        let others = self.others();
        for (name, bytes) in fragbench_report::render_cases(facts, &self.own, &others, manifest)? {
            results.write(&name, &bytes)?;
        }
        for (version, report) in &others {
            for (name, bytes) in fragbench_report::render_cases(facts, report, &[], manifest)? {
                results.write(&format!("{}/{name}", version.replace(' ', "-")), &bytes)?;
            }
        }
        Ok(())
    }

    /// Prints it; of all cases at once (`briefly`) the matrix shows enough, but for those that need a look.
    pub(crate) fn show(&self, facts: &[CaseFact], dir: Option<&Path>, format: Format, briefly: bool) -> Result<()> {
        let others = self.others();
        if format == Format::Json {
            let mut value = serde_json::to_value(&self.own)?;
            if !others.is_empty() {
                let reports: Vec<&CaseReport> = others.iter().map(|(_, report)| *report).collect();
                value["others"] = serde_json::to_value(reports)?;
            }
            say!("{}", serde_json::to_string_pretty(&value)?);
            return Ok(());
        }
        let (width, colour) = terminal();
        for (name, report) in std::iter::once(&("glibc", &self.own)).chain(&others) {
            if !others.is_empty() {
                say!("{name} ({})\n", report.glibc);
            }
            for outcome in report.cases.iter().filter(|case| !briefly || case.status == CaseStatus::Differs) {
                if let Some(fact) = facts.iter().find(|fact| fact.name == outcome.name) {
                    say!("{}", fragbench_report::case_text(fact, outcome, width, colour));
                }
            }
            if report.cases.len() == facts.len() {
                say!("{}", fragbench_report::matrix_text(report, width, colour));
            }
        }
        if !others.is_empty() {
            say!("{}", fragbench_report::versions_text(&self.own, &others, width, colour));
        }
        if let Some(dir) = dir {
            say!("{}: badcases.html, badcases.md, badcases.json", dir.display());
        }
        Ok(())
    }
}

/// Renders a result of bad cases again. Heaps that were drawn are kept.
pub(crate) fn render_again(
    results: &ResultDir,
    manifest: &Manifest,
    records: &[RunRecord],
    format: Format,
) -> Result<()> {
    let facts = fragbench_run::describe_cases(&WorkerBinary::beside_this_program()?)?;
    let planned = planned_cases(&manifest.plan, &facts, &manifest.remedies).map_err(|why| anyhow!(why))?;
    let mut heaps = Heaps::new();
    for version in versions(&planned) {
        let below = version.as_ref().map_or_else(String::new, |version| version.replace(' ', "-"));
        let Ok(text) = std::fs::read_to_string(results.path().join(below).join("badcases.json")) else { continue };
        let Ok(before) = serde_json::from_str::<CaseReport>(&text) else { continue };
        heaps.extend(before.cases.into_iter().map(|case| ((version.clone(), case.name), case.heap)));
    }
    let concluded = conclude(manifest, records, &facts, &heaps)?;
    concluded.write(results, manifest, &facts)?;
    concluded.show(&facts, Some(results.path()), format, planned.len() >= facts.len())
}

/// The untreated run of each case, by version and name.
pub(crate) fn untreated<'a>(
    manifest: &Manifest,
    facts: &'a [CaseFact],
) -> Result<Vec<(Option<String>, &'a CaseFact, usize)>> {
    let planned = planned_cases(&manifest.plan, facts, &manifest.remedies).map_err(|why| anyhow!(why))?;
    let first = |case: PlannedCase<'a>| {
        let cell = case.runs.iter().find(|(_, remedies)| remedies.iter().any(|r| r.name == Remedy::NONE.name))?.0;
        Some((case.version, case.fact, cell))
    };
    Ok(planned.into_iter().filter_map(first).collect())
}
