//! `fragbench list`: what there is, one line each, with sources.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::{Args, ValueEnum};
use fragbench_allocators::AllocatorError;
use fragbench_model::{CASE_FAMILY, CaseFact, Parameter, WorkloadFact};
use fragbench_run::WorkerBinary;
use serde::Serialize;

use crate::options::Format;
use crate::{Outcome, companions};

/// List workloads, allocators and bad cases
///
/// Example: fragbench list workloads
#[derive(Debug, Args)]
pub(crate) struct List {
    /// What to list [default: everything]
    #[arg(value_enum)]
    what: Option<What>,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Workloads,
    Allocators,
    Badcases,
}

#[derive(Debug, Serialize)]
struct AllocatorFact {
    name: String,
    version: Option<String>,
    kind: fragbench_model::AllocatorKind,
    path: Option<std::path::PathBuf>,
    #[serde(skip)]
    summary: String,
    #[serde(skip)]
    source: &'static str,
}

#[derive(Debug, Serialize)]
struct Listing {
    #[serde(skip_serializing_if = "Option::is_none")]
    workloads: Option<Vec<WorkloadFact>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocators: Option<Vec<AllocatorFact>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    badcases: Option<Vec<CaseFact>>,
}

impl List {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let wants = |what: What| self.what.is_none_or(|chosen| chosen == what);
        let listing = Listing {
            workloads: wants(What::Workloads).then(workloads).transpose()?,
            allocators: wants(What::Allocators).then(allocators).transpose()?,
            badcases: wants(What::Badcases).then(badcases).transpose()?,
        };
        match self.format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&listing)?),
            Format::Text => put!("{}", text(&listing)),
        }
        Ok(Outcome::Success)
    }
}

fn workloads() -> Result<Vec<WorkloadFact>> {
    let mut facts = Vec::new();
    for (name, path) in companions::shipped_traces()? {
        let trace = fragbench_trace::Trace::open(&path)?;
        let info = trace.info();
        facts.push(WorkloadFact {
            name,
            summary: format!(
                "recorded trace: {} events on {} threads in {:.0} s",
                info.events, info.threads, info.duration_s
            ),
            fidelity: "recorded".into(),
            parameters: Vec::<Parameter>::new(),
        });
    }
    let named = fragbench_run::describe(&WorkerBinary::beside_this_program()?)?;
    facts.extend(named.into_iter().filter(|fact| !fact.name.starts_with(CASE_FAMILY)));
    Ok(facts)
}

fn badcases() -> Result<Vec<CaseFact>> {
    fragbench_run::describe_cases(&WorkerBinary::beside_this_program()?)
}

fn allocators() -> Result<Vec<AllocatorFact>> {
    let worker = WorkerBinary::beside_this_program()?;
    fragbench_allocators::BUILTINS
        .iter()
        .map(|builtin| {
            let resolved = fragbench_allocators::resolve(builtin.name, &Default::default(), &companions::libraries()?);
            let (allocator, summary) = match resolved {
                Ok(allocator) => (Some(allocator), builtin.summary.to_owned()),
                Err(e @ AllocatorError::NotBuilt { .. }) => (None, format!("{}; {e}", builtin.summary)),
                Err(e) => return Err(e.into()),
            };
            Ok(AllocatorFact {
                name: builtin.name.to_owned(),
                version: allocator.as_ref().and_then(|a| fragbench_run::allocator_version(&worker, a)),
                kind: builtin.kind,
                path: allocator.and_then(|a| a.library),
                summary,
                source: builtin.source,
            })
        })
        .collect()
}

fn text(listing: &Listing) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    if let Some(workloads) = &listing.workloads {
        text.push_str("Workloads\n");
        for fact in workloads {
            let _ = writeln!(text, "  {:<32} {} [{}]", fact.name, fact.summary, fact.fidelity);
            let shared = shared_parameters(&fact.name, workloads);
            for parameter in fact.parameters.iter().filter(|p| !shared.contains(p)) {
                write_parameter(&mut text, parameter);
            }
        }
        for family in families(workloads) {
            let shared = shared_parameters(&format!("{family}/"), workloads);
            if !shared.is_empty() {
                let _ = writeln!(text, "Parameters that every workload of {family} takes");
                shared.into_iter().for_each(|parameter| write_parameter(&mut text, parameter));
            }
        }
    }
    if let Some(allocators) = &listing.allocators {
        text.push_str("Allocators\n");
        for fact in allocators {
            let version = fact.version.as_deref().unwrap_or("version unknown");
            let _ = writeln!(text, "  {:<12} {:<28} {} ({})", fact.name, version, fact.summary, fact.source);
        }
        text.push_str("  NAME=/path/lib.so  any other library that exports malloc\n");
    }
    if let Some(cases) = &listing.badcases {
        text.push_str("Bad cases of glibc malloc (fragbench badcase NAME)\n");
        for fact in cases {
            let _ = writeln!(text, "  {:<22} {} [glibc: {}]", fact.name, fact.summary, fact.affected());
        }
    }
    text
}

fn family(name: &str) -> Option<&str> {
    name.split_once('/').map(|(family, _)| family)
}

fn families(workloads: &[WorkloadFact]) -> BTreeSet<&str> {
    workloads.iter().filter_map(|fact| family(&fact.name)).collect()
}

/// What all workloads of a name's family take: shown once, not with each.
fn shared_parameters<'a>(name: &str, workloads: &'a [WorkloadFact]) -> Vec<&'a Parameter> {
    let members: Vec<&WorkloadFact> =
        workloads.iter().filter(|fact| family(name).is_some() && family(&fact.name) == family(name)).collect();
    match members.as_slice() {
        [first, second, ..] if !second.parameters.is_empty() => {
            first.parameters.iter().filter(|p| members.iter().all(|fact| fact.parameters.contains(p))).collect()
        }
        _ => Vec::new(),
    }
}

fn write_parameter(text: &mut String, parameter: &Parameter) {
    use std::fmt::Write;
    let _ = writeln!(text, "      {:<34} {:<8} {}", parameter.name, parameter.default, parameter.meaning);
}
