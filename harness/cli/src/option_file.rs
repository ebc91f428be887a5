//! From a server's option file to parameters of workloads: what the model takes is taken as the server would have it in
//! force, what does not concern memory is passed over in silence, and a word is said of everything else.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use fragbench_model::Parameter;
use fragbench_option_file::{FileOption, Origin, Server, Unmet, Value, nearest, resolve};

use crate::usage;

/// A value and where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) value: String,
    /// `None`: on the command line.
    pub(crate) origin: Option<Origin>,
}

/// What a file's options come to.
#[derive(Debug, Default)]
pub(crate) struct Translated {
    /// By the parameter's own name; the last of several in force.
    pub(crate) given: BTreeMap<String, Given>,
    /// A line each for what was adjusted, left out or passed over.
    pub(crate) notes: Vec<String>,
    /// The library that the script which starts the server preloads.
    pub(crate) malloc_lib: Option<Given>,
}

/// Reads `file` as `server` would, for workloads that take `known`.
///
/// # Errors
/// A file or a value that the server does not start with.
pub(crate) fn translate(file: &Path, server: Server, known: &[&Parameter]) -> Result<Translated> {
    let read = fragbench_option_file::read(file, server).map_err(usage)?;
    let mut translated = Translated { notes: read.notes, ..Translated::default() };
    for option in &read.options {
        let parameter =
            |name: &str| known.iter().copied().find(|p| p.name == name || p.aliases.iter().any(|a| a == name));
        match resolve(server, &option.name, option.value.as_deref()) {
            Ok(meaning) => {
                let (Some(adjusted), Some(parameter)) = (meaning.adjusted, parameter(meaning.variable.name)) else {
                    continue;
                };
                if let Some(note) = adjusted.note {
                    translated.notes.push(format!("{}: {}: {note}, as the server does.", option.origin, option.name));
                }
                let given = Given { value: text(adjusted.value), origin: Some(option.origin.clone()) };
                translated.given.insert(parameter.name.clone(), given);
            }
            Err(Unmet::Refused(what)) => {
                let value = option.value.as_ref().map_or(String::new(), |value| format!("={value}"));
                return Err(usage(format!("{}: {}{value}: {what} ({server} refuses it)", option.origin, option.name)));
            }
            Err(unmet) => {
                translated.notes.extend(left_out(server, option, &unmet, known, |name| parameter(name).is_some()))
            }
        }
    }
    let named = |option: &&FileOption| option.name.replace('-', "_") == "malloc_lib";
    translated.malloc_lib = read.launcher.iter().rfind(named).and_then(|option| {
        let value = option.value.clone().filter(|library| !library.is_empty())?;
        Some(Given { value, origin: Some(option.origin.clone()) })
    });
    Ok(translated)
}

fn text(value: Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Switch(on) => if on { "ON" } else { "OFF" }.to_owned(),
        Value::Word(word) => word.to_owned(),
    }
}

/// A line about an option that sets nothing, where it might have been meant to size memory, or is no server's at all.
fn left_out(
    server: Server,
    option: &FileOption,
    unmet: &Unmet,
    known: &[&Parameter],
    modelled: impl Fn(&str) -> bool,
) -> Option<String> {
    let (at, written) = (&option.origin, &option.name);
    let name = written.replace('-', "_").to_ascii_lowercase();
    let slip = || nearest_of(&name, known.iter().map(|p| p.name.as_str()));
    match unmet {
        Unmet::Refused(_) | Unmet::Passed => None,
        Unmet::Elsewhere(others) => others.iter().find_map(|other| {
            resolve(*other, written, option.value.as_deref()).ok().filter(|m| modelled(m.variable.name))?;
            Some(format!("{at}: `{written}` is an option of {other}, not of {server} (--flavor). It is left out."))
        }),
        Unmet::Written(full) => {
            Some(format!("{at}: {server} takes `{full}` by exactly that name, not as `{written}`. It is left out."))
        }
        Unmet::Plugin => slip()
            .map(|other| format!("{at}: {server} has no option `{written}`; did you mean `{other}`? It is left out.")),
        Unmet::Unknown => {
            let near = slip().or_else(|| nearest(server, &name, strsim::damerau_levenshtein).map(str::to_owned));
            let hint = match (written.starts_with('-'), near) {
                (true, Some(other)) => format!("; in a file no dashes stand before a name: `{other}`?"),
                (false, Some(other)) => format!("; did you mean `{other}`?"),
                (_, None) => String::new(),
            };
            Some(format!("{at}: no server variable `{written}`{hint} It is left out."))
        }
    }
}

/// The nearest of `names`, when it is a slip of the pen away.
fn nearest_of<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let best = names.map(|other| (strsim::damerau_levenshtein(name, other), other)).min();
    best.filter(|(steps, other)| *steps <= 2.max(other.len() / 6)).map(|(_, other)| other.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, aliases: &[&str]) -> Parameter {
        Parameter {
            name: name.into(),
            aliases: aliases.iter().map(|a| a.to_string()).collect(),
            default: String::new(),
            range: String::new(),
            meaning: String::new(),
        }
    }

    fn translated(server: Server, text: &str) -> Translated {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my.cnf");
        std::fs::write(&file, text).unwrap();
        let all = [
            parameter("sort_buffer_size", &[]),
            parameter("innodb_buffer_pool_size", &[]),
            parameter("slave_parallel_threads", &["replica_parallel_workers"]),
            parameter("log_bin", &[]),
            parameter("performance_schema", &[]),
        ];
        let known: Vec<&Parameter> = all.iter().collect();
        translate(&file, server, &known).unwrap()
    }

    #[test]
    fn what_the_model_takes_is_taken_by_any_of_its_names_and_the_last_holds() {
        let text = "[mysqld]\nsort_buffer_size=1M\nloose_sort_buffer_size=4M\nreplica-parallel-workers=8\nlog_bin=OFF\n\
                    performance_schema=ON\nskip_performance_schema\n";
        let translated = translated(Server::Mysql9_7, text);
        let given: Vec<(&str, &str, usize)> = translated
            .given
            .iter()
            .map(|(name, g)| (name.as_str(), g.value.as_str(), g.origin.as_ref().unwrap().line))
            .collect();
        assert_eq!(
            given,
            [
                ("log_bin", "ON", 5),
                ("performance_schema", "OFF", 7),
                ("slave_parallel_threads", "8", 4),
                ("sort_buffer_size", "4194304", 3)
            ]
        );
        assert!(translated.notes.is_empty(), "{:?}", translated.notes);
    }

    #[test]
    fn what_concerns_no_memory_is_passed_over_and_a_word_is_said_of_all_else() {
        let text = "[mysqld]\ndatadir=/var/lib/mysql\nskip_name_resolve\ninnodb_redo_log_capacity=1G\n\
                    validate_password.policy=LOW\nloose_something_of_a_plugin=1\nsort_bufer_size=1M\n\
                    innodb_bufer_pool_size=1G\ncolation_server=utf8mb4_bin\nfrobnicate_everything_twice\n\
                    replica_parallel_workers=8\nquery_cache_size=1M\n--sort_buffer_size=1M\nsort_buffer_size=0\n";
        let translated = translated(Server::Mariadb10_11, text);
        let said = |line: usize, words: &[&str]| {
            let found = translated.notes.iter().find(|text| text.contains(&format!("my.cnf:{line}: ")));
            assert!(found.is_some_and(|t| words.iter().all(|w| t.contains(w))), "{words:?}: {:?}", translated.notes);
        };
        said(7, &["no server variable", "sort_bufer_size", "`sort_buffer_size`"]);
        said(8, &["innodb_bufer_pool_size", "`innodb_buffer_pool_size`"]);
        said(9, &["colation_server", "`collation_server`"]);
        said(10, &["no server variable", "frobnicate_everything_twice"]);
        said(11, &["replica_parallel_workers", "mysql-9.7", "not of mariadb-10.11"]);
        said(13, &["no server variable", "dashes", "`sort_buffer_size`"]);
        said(14, &["0 adjusted to 1024"]);
        assert_eq!(translated.notes.len(), 7, "{:?}", translated.notes);
    }

    #[test]
    fn the_launchers_library_is_found() {
        let text = "[mysqld_safe]\nmalloc-lib = /usr/lib/libjemalloc.so.2\n[mysqld]\nsort_buffer_size=1M\n";
        let library = translated(Server::Mariadb10_11, text).malloc_lib.unwrap();
        assert_eq!((library.value.as_str(), library.origin.unwrap().line), ("/usr/lib/libjemalloc.so.2", 2));
        assert_eq!(translated(Server::Mariadb10_11, "[mysqld]\nmalloc-lib=x\n").malloc_lib, None);
    }
}
