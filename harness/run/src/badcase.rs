//! Runs of bad cases: which runs a case and its remedies need, and the figures of a run.
//!
//! Remedies that differ only in whether the heap is looked at before or after the purge share a run.

use std::collections::{BTreeMap, BTreeSet};

use fragbench_model::{
    ACTION_PARAMETER, Allocator, CaseFact, Cell, Common, Driver, Figures, HugePages, Pace, PhaseRecord, Plan, REMEDIES,
    Remedy, RunRecord, WorkloadSpec,
};

/// One run that is needed, and what it is needed for.
#[derive(Debug, Clone)]
pub struct CaseRun {
    /// What it runs.
    pub cell: Cell,
    /// Remedies that are judged on it; [`Remedy::NONE`] for the untreated run.
    pub remedies: Vec<&'static Remedy>,
}

/// What all runs of bad cases have in common: no call is timed, since the clock would be part of the recipe.
pub fn case_conditions() -> Common {
    Common { seed: 1, idle_ms: 0, driver: Some(Driver { latency_every: 0, ..Driver::default() }) }
}

/// The runs of a case: the untreated one first, then those of `remedies` that apply to it. `resolve` turns name and
/// settings into an allocator; a remedy whose allocator is not there (`None`) is left out.
///
/// # Errors
/// What `resolve` refuses.
pub fn case_runs<E>(
    fact: &CaseFact,
    remedies: &[&'static Remedy],
    mut resolve: impl FnMut(&str, &BTreeMap<String, String>) -> Result<Option<Allocator>, E>,
) -> Result<Vec<CaseRun>, E> {
    let mut runs: Vec<CaseRun> = Vec::new();
    let applies =
        |remedy: &&&'static Remedy| remedy.action.is_none_or(|action| fact.actions.iter().any(|known| known == action));
    for remedy in std::iter::once(&&Remedy::NONE).chain(remedies.iter().filter(applies)) {
        let mut settings =
            if remedy.allocator == Remedy::NONE.allocator { fact.settings.clone() } else { BTreeMap::new() };
        settings.extend(remedy.settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let Some(allocator) = resolve(remedy.allocator, &settings)? else { continue };
        let workload = WorkloadSpec::Named {
            name: fact.workload(),
            parameters: remedy.action.iter().map(|a| (ACTION_PARAMETER.to_owned(), (*a).to_owned())).collect(),
            pace: Pace::Virtual,
        };
        let cell =
            Cell { thp: (fact.thp || remedy.thp).then_some(HugePages::Madvise), ..Cell::new(workload, allocator) };
        match runs.iter_mut().find(|run| run.cell == cell) {
            Some(run) => run.remedies.push(remedy),
            None => runs.push(CaseRun { cell, remedies: vec![remedy] }),
        }
    }
    Ok(runs)
}

/// A bad case of a plan: which of its cells are runs of it, each with the remedies that are judged on it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedCase<'a> {
    /// Name of the glibc it runs on; `None` for the system's.
    pub version: Option<String>,
    /// The case.
    pub fact: &'a CaseFact,
    /// Cells, by their place in the plan.
    pub runs: Vec<(usize, Vec<&'static Remedy>)>,
}

/// The cases of a plan, in its order: the inverse of [`case_runs`]. `asked` names the remedies that were asked for; of an
/// empty one all that fit are found.
///
/// # Errors
/// Names the workload that is no known case.
pub fn planned_cases<'a>(plan: &Plan, facts: &'a [CaseFact], asked: &[String]) -> Result<Vec<PlannedCase<'a>>, String> {
    let mut cases: Vec<PlannedCase> = Vec::new();
    for (place, cell) in plan.cells.iter().enumerate() {
        let name = cell.workload.name();
        let fact = facts.iter().find(|fact| fact.workload() == name);
        let fact = fact.ok_or_else(|| format!("this version knows no bad case `{name}`: use the one that wrote it"))?;
        let version = cell.allocator.libc.is_some().then(|| cell.allocator.name.clone());
        let wanted = |remedy: &&'static Remedy| asked.is_empty() || asked.iter().any(|name| name == remedy.name);
        let all = std::iter::once(&Remedy::NONE).chain(REMEDIES.iter()).filter(wanted);
        let remedies: Vec<&'static Remedy> = all.filter(|remedy| is_run_of(cell, fact, remedy)).collect();
        // Another glibc's cells tell its version; other allocators run on the system's only.
        let found = cases.iter().position(|case| case.fact.name == fact.name && case.version == version);
        match found {
            Some(found) => cases[found].runs.push((place, remedies)),
            None => cases.push(PlannedCase { version, fact, runs: vec![(place, remedies)] }),
        }
    }
    Ok(cases)
}

/// Whether a cell is the run on which a remedy of a case is judged.
fn is_run_of(cell: &Cell, fact: &CaseFact, remedy: &Remedy) -> bool {
    let WorkloadSpec::Named { parameters, .. } = &cell.workload else { return false };
    let allocator = &cell.allocator;
    let on_glibc = remedy.allocator == Remedy::NONE.allocator;
    let same_allocator = allocator.name == remedy.allocator || on_glibc && allocator.libc.is_some();
    let mut settings = if on_glibc { fact.settings.clone() } else { BTreeMap::new() };
    settings.extend(remedy.settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let action = parameters.get(ACTION_PARAMETER).map(String::as_str);
    let same_thp = cell.thp.is_none_or(|thp| (thp != HugePages::Off) == (fact.thp || remedy.thp));
    same_allocator && settings == allocator.settings && action == remedy.action && same_thp
}

/// The figures of a run: a set for the barrier of each phase, those of the purge, and what the worker measured itself.
pub fn case_figures(record: &RunRecord) -> Figures {
    let mut figures = Figures::new();
    for phase in record.phases.iter().filter(|phase| phase.purge.is_none()) {
        add_phase(&mut figures, phase);
    }
    for (metric, figure) in [
        ("heap_rss_after_purge_bytes", "rss_purged_bytes"),
        ("vm_after_purge_bytes", "vm_purged_bytes"),
        ("purge_ms", "purge_ms"),
        ("purge_second_ms", "purge_second_ms"),
        ("minor_faults_count", "minor_faults_count"),
    ] {
        figures.extend(record.metrics.get(metric).map(|value| (figure.to_owned(), *value)));
    }
    if let Some(done) = &record.done {
        figures.extend(done.facts.clone());
    }
    figures
}

fn add_phase(figures: &mut Figures, phase: &PhaseRecord) {
    let mut put = |what: &str, unit: &str, value: Option<f64>| {
        figures.extend(value.map(|value| (format!("{what}_{}_{unit}", phase.name), value)));
    };
    let snapshot = &phase.snapshot;
    put("rss", "bytes", Some(snapshot.heap_rss_bytes as f64));
    put("vm", "bytes", Some(snapshot.vm_bytes as f64));
    put("live", "bytes", Some(snapshot.live_bytes as f64));
    put("huge", "bytes", snapshot.anon_huge_bytes.map(|v| v as f64));
    put("mappings", "count", Some(snapshot.mappings as f64));
    put("children_private", "bytes", snapshot.children_private_bytes.map(|v| v as f64));
    if let Some(stats) = &phase.stats {
        put("arenas", "count", stats.arena_count.map(|v| v as f64));
        put("segments", "count", stats.heap_segment_count.map(|v| v as f64));
        put("system", "bytes", stats.system_bytes.map(|v| v as f64));
        put("free", "bytes", stats.free_bytes.map(|v| v as f64));
        // What malloc counts as in use, cached chunks included.
        put("used", "bytes", stats.system_bytes.zip(stats.free_bytes).map(|(s, f)| s.saturating_sub(f) as f64));
        put("mmapped", "bytes", stats.mmapped_bytes.map(|v| v as f64));
        put("fast", "bytes", stats.own.get("fast").map(|v| *v as f64));
        put("arena_least", "bytes", stats.arena_system_bytes.iter().min().map(|v| *v as f64));
        put("arena_most", "bytes", stats.arena_system_bytes.iter().max().map(|v| *v as f64));
    }
}

/// The median of each figure over repetitions; a figure that some of them lack is left out.
pub fn median_figures(runs: &[Figures]) -> Figures {
    let Some(first) = runs.first() else { return Figures::new() };
    first
        .keys()
        .filter_map(|name| {
            let mut values: Vec<f64> = runs.iter().map(|figures| figures.get(name).copied()).collect::<Option<_>>()?;
            values.sort_by(f64::total_cmp);
            let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
            Some((name.clone(), (low + high) / 2.0))
        })
        .collect()
}

/// (Largest − smallest) / median of each figure of `names` over repetitions, at least two of them. A figure that some lack
/// is left out, as is one whose median is zero unless it is always zero.
pub fn spread_figures(runs: &[Figures], names: &BTreeSet<&str>) -> Figures {
    if runs.len() < 2 {
        return Figures::new();
    }
    let spread = |name: &str, median: f64| {
        let values = runs.iter().filter_map(|figures| figures.get(name).copied());
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low == high { Some(0.0) } else { (median != 0.0).then(|| (high - low) / median) }
    };
    median_figures(runs)
        .into_iter()
        .filter(|(name, _)| names.contains(name.as_str()))
        .filter_map(|(name, median)| spread(&name, median).map(|spread| (name, spread)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_model::{AllocatorKind, Judged, remedy};

    fn fact(actions: &[&str]) -> CaseFact {
        CaseFact {
            name: "some-case".into(),
            summary: String::new(),
            mechanism: Vec::new(),
            sources: Vec::new(),
            settings: [("MALLOC_ARENA_MAX".to_owned(), "17".to_owned())].into(),
            thp: false,
            adaptive: false,
            memory_bytes: 1,
            actions: actions.iter().map(|a| (*a).to_owned()).collect(),
            figures: Vec::new(),
            judged: Judged::rss("freed"),
            expectations: Vec::new(),
            symptoms: Vec::new(),
        }
    }

    fn resolve(name: &str, settings: &BTreeMap<String, String>) -> Result<Option<Allocator>, ()> {
        Ok((name != "tcmalloc").then(|| Allocator {
            name: name.into(),
            kind: AllocatorKind::Glibc,
            library: None,
            libc: None,
            settings: settings.clone(),
            environment: BTreeMap::new(),
            notes: Vec::new(),
        }))
    }

    fn names(run: &CaseRun) -> Vec<&str> {
        run.remedies.iter().map(|r| r.name).collect()
    }

    #[test]
    fn runs_are_shared_before_and_after_a_purge_and_settings_of_the_case_give_way() {
        let all: Vec<&'static Remedy> = REMEDIES.iter().collect();
        let runs = case_runs(&fact(&["kick"]), &all, resolve).unwrap();
        assert_eq!(names(&runs[0]), ["none", "malloc-trim"]);
        assert_eq!(runs[0].cell.allocator.settings["MALLOC_ARENA_MAX"], "17");
        let of = |name: &str| runs.iter().find(|run| names(run).contains(&name));
        assert_eq!(of("arena-max-1").unwrap().cell.allocator.settings["MALLOC_ARENA_MAX"], "1");
        assert_eq!(of("mxfast-0").unwrap().cell.allocator.settings["MALLOC_ARENA_MAX"], "17");
        assert_eq!(names(of("jemalloc").unwrap()), ["jemalloc", "jemalloc-purge"]);
        assert!(of("jemalloc").unwrap().cell.allocator.settings.is_empty(), "settings of the case are glibc's");
        assert!(
            of("hugetlb-1").unwrap().cell.thp == Some(HugePages::Madvise) && of("mxfast-0").unwrap().cell.thp.is_none()
        );
        assert!(of("thread-exit").is_none(), "the case does not know how");
        assert!(of("tcmalloc").is_none(), "it is not installed");
        let WorkloadSpec::Named { parameters, .. } = &of("kick").unwrap().cell.workload else { panic!() };
        assert_eq!(parameters["remedy"], "kick");
        // A plan of these cells is understood without being told what each is for.
        let fact = fact(&["kick"]);
        let plan = crate::plan::of_cells(runs.iter().map(|run| run.cell.clone()).collect(), 1, 1);
        let cases = planned_cases(&plan, std::slice::from_ref(&fact), &[]).unwrap();
        assert_eq!(cases.len(), 1);
        for (run, (_, remedies)) in runs.iter().zip(&cases[0].runs) {
            assert_eq!(names(run), remedies.iter().map(|r| r.name).collect::<Vec<_>>());
        }
        assert!(planned_cases(&plan, &[], &[]).unwrap_err().contains("badcase/some-case"));
        let one = case_runs(&self::fact(&[]), &[remedy("malloc-trim").unwrap()], resolve).unwrap();
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn medians_take_the_middle_and_leave_out_what_some_runs_lack() {
        let of = |a: f64, b: Option<f64>| {
            let mut figures = Figures::from([("a_bytes".to_owned(), a)]);
            figures.extend(b.map(|b| ("b_bytes".to_owned(), b)));
            figures
        };
        assert_eq!(median_figures(&[of(3.0, Some(1.0)), of(1.0, None), of(2.0, Some(1.0))]), of(2.0, None));
        assert_eq!(median_figures(&[of(1.0, None), of(2.0, None)]), of(1.5, None));
        assert_eq!(median_figures(&[]), Figures::new());
    }

    #[test]
    fn spread_is_told_of_telling_figures_that_all_runs_have() {
        let of = |a: f64, b: f64, c: Option<f64>| {
            let mut figures = Figures::from([("a_bytes".to_owned(), a), ("b_bytes".to_owned(), b)]);
            figures.extend(c.map(|c| ("c_bytes".to_owned(), c)));
            figures
        };
        let runs = [of(98.0, 0.0, Some(1.0)), of(103.0, 0.0, None), of(100.0, 0.0, Some(1.0))];
        let all = BTreeSet::from(["a_bytes", "b_bytes", "c_bytes"]);
        let expected = Figures::from([("a_bytes".to_owned(), 0.05), ("b_bytes".to_owned(), 0.0)]);
        assert_eq!(spread_figures(&runs, &all), expected);
        assert_eq!(spread_figures(&runs, &BTreeSet::from(["b_bytes"])).len(), 1);
        assert_eq!(spread_figures(&runs[..1], &all), Figures::new(), "one run has no spread");
        let around_nothing = [of(0.0, 0.0, None), of(0.0, 0.0, None), of(7.0, 0.0, None)];
        assert!(!spread_figures(&around_nothing, &all).contains_key("a_bytes"), "no ratio to nothing");
    }
}
