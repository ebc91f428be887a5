//! Parameters of workloads from the command line and from a server's option file, each with the place it was given at,
//! so that what is wrong with a value can be said with its file and line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;
use fragbench_model::{Common, Parameter, WorkloadFact, WorkloadSpec};
use fragbench_option_file::Server;
use fragbench_run::WorkerBinary;

use crate::nearest::did_you_mean;
use crate::option_file::{Given, translate};
use crate::usage;

/// What sizes the modelled server.
#[derive(Debug, Args)]
pub(crate) struct ParameterOptions {
    /// A workload's parameter, named as the server names its variable; goes before --my-cnf
    #[arg(long, value_name = "VARIABLE=VALUE")]
    set: Vec<String>,
    /// The server's option file: its variables size the modelled server
    #[arg(long, value_name = "FILE")]
    my_cnf: Option<PathBuf>,
    /// Whose defaults, bounds and growth rules the modelled server has, and who reads --my-cnf; mariadb is 10.11, mysql is
    /// 9.7 [default: mariadb]
    #[arg(long, value_name = "SERVER", value_parser = PossibleValuesParser::new(Server::NAMES.map(|(name, _)| name)))]
    flavor: Option<String>,
}

/// Values by parameter name.
#[derive(Debug, Default)]
pub(crate) struct Chosen(BTreeMap<String, Given>);

impl ParameterOptions {
    /// What was chosen for `wanted` workloads of those in `named`.
    ///
    /// # Errors
    /// An option file that cannot be read; a `--set` that none of the workloads takes.
    pub(crate) fn read(&self, wanted: &[String], named: &[WorkloadFact]) -> Result<Chosen> {
        let facts = || named.iter().filter(|fact| wanted.contains(&fact.name));
        let known: Vec<&Parameter> = facts().flat_map(|fact| &fact.parameters).collect();
        let mut chosen = BTreeMap::new();
        if let Some(file) = &self.my_cnf {
            if !takes(&known, "flavor") {
                return Err(usage("--my-cnf sizes modelled servers, and none is among the workloads; add mysql"));
            }
            let translated = translate(file, self.server(), &known)?;
            translated.notes.iter().for_each(|line| note!("{line}"));
            if let Some(Given { value, origin: Some(origin) }) = &translated.malloc_lib {
                note!(
                    "{origin}: the script that starts the server preloads {value}: that is what it runs with today. As the \
                     baseline: --allocator today={value},glibc,jemalloc,mimalloc"
                );
            }
            chosen = translated.given;
        }
        if let Some(flavor) = &self.flavor {
            if !takes(&known, "flavor") {
                return Err(usage("--flavor is of modelled servers, and none is among the workloads; add mysql"));
            }
            chosen.insert("flavor".into(), Given { value: flavor.clone(), origin: None });
        }
        for text in &self.set {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                usage(format!("--set {text}: write VARIABLE=VALUE, for instance sort_buffer_size=4M"))
            })?;
            let name = name.trim().replace('-', "_").to_ascii_lowercase();
            let Some(parameter) = known.iter().find(|p| answers(p, &name)) else {
                let nearest = if known.is_empty() {
                    "; the workloads chosen have no parameters".to_owned()
                } else {
                    did_you_mean(&name, known.iter().map(|p| p.name.as_str()))
                };
                return Err(usage(format!("--set {name}: no such parameter{nearest}")));
            };
            chosen.insert(parameter.name.clone(), Given { value: value.trim().to_owned(), origin: None });
        }
        Ok(Chosen(chosen))
    }

    /// Which server reads the option file: `--set flavor` goes before `--flavor`, as it does for the workload.
    fn server(&self) -> Server {
        let set =
            self.set.iter().rev().find_map(|text| text.split_once('=').filter(|(name, _)| name.trim() == "flavor"));
        let name = set.map(|(_, value)| value.trim()).or(self.flavor.as_deref());
        name.and_then(Server::named).unwrap_or_default()
    }
}

fn takes(known: &[&Parameter], name: &str) -> bool {
    known.iter().any(|p| p.name == name)
}

fn answers(parameter: &Parameter, name: &str) -> bool {
    parameter.name == name || parameter.aliases.iter().any(|alias| alias == name)
}

impl Chosen {
    /// Those that a workload takes.
    pub(crate) fn of(&self, fact: &WorkloadFact) -> BTreeMap<String, String> {
        self.0
            .iter()
            .filter(|(name, _)| fact.parameters.iter().any(|p| p.name == **name))
            .map(|(name, given)| (name.clone(), given.value.clone()))
            .collect()
    }

    /// Has the worker look at each workload before anything is run.
    ///
    /// # Errors
    /// The first that it refuses, with the place the value was given at.
    pub(crate) fn check(&self, worker: &WorkerBinary, workloads: &[WorkloadSpec], common: &Common) -> Result<()> {
        for workload in workloads.iter().filter(|w| matches!(w, WorkloadSpec::Named { .. })) {
            let Some(spec) = common.spec(workload, common.seed) else { continue };
            if let Some(error) = fragbench_run::check(worker, &spec)? {
                let place =
                    self.0.iter().find(|(name, _)| error.text.starts_with(&format!("{name}="))).map(|(_, given)| {
                        given.origin.as_ref().map_or("--set ".into(), |origin| format!("{origin}: "))
                    });
                return Err(usage(format!("{}{} ({})", place.unwrap_or_default(), error.text, workload.name())));
            }
        }
        Ok(())
    }
}
