//! From a server's options to parameters of workloads: what the model takes is taken, what does not concern memory is
//! passed over in silence, and what no server knows is named, with the nearest name that one does.

use std::collections::{BTreeMap, BTreeSet};

use fragbench_model::Parameter;

use super::{FileOption, Origin};

/// Names and families that servers know; see the file's head.
const SERVER_VARIABLES: &str = include_str!("server_variables.txt");

/// A value and where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) value: String,
    /// `None`: on the command line.
    pub(crate) origin: Option<Origin>,
}

/// What a file's options come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Translated {
    /// By the parameter's own name; the last of several in force.
    pub(crate) given: BTreeMap<String, Given>,
    /// A line each for what no server knows.
    pub(crate) unknown: Vec<String>,
}

/// Translates `options` for workloads that take `known`.
pub(crate) fn translate(options: &[FileOption], known: &[&Parameter]) -> Translated {
    let server = ServerVariables::read();
    let mut translated = Translated::default();
    for option in options {
        match meaning_of(option, known) {
            Some((parameter, value)) => {
                let given = Given { value, origin: Some(option.origin.clone()) };
                translated.given.insert(parameter.name.clone(), given);
            }
            None => translated.unknown.extend(server.doubt(option, known)),
        }
    }
    translated
}

/// The parameter that an option sets, and to what.
fn meaning_of<'a>(option: &FileOption, known: &[&'a Parameter]) -> Option<(&'a Parameter, String)> {
    let find = |name: &str| known.iter().copied().find(|p| p.name == name || p.aliases.iter().any(|a| a == name));
    let name = option.name.strip_prefix("loose_").unwrap_or(&option.name);
    if let Some(parameter) = find(name) {
        let value = option.value.as_deref().unwrap_or("ON");
        return Some((parameter, value.to_owned()));
    }
    let off = name.strip_prefix("skip_").or_else(|| name.strip_prefix("disable_"));
    if let Some(parameter) = off.and_then(find) {
        return Some((parameter, "OFF".to_owned()));
    }
    let on = name.strip_prefix("enable_").and_then(find)?;
    Some((on, "ON".to_owned()))
}

struct ServerVariables {
    names: BTreeSet<&'static str>,
    families: Vec<&'static str>,
}

impl ServerVariables {
    fn read() -> ServerVariables {
        let lines = SERVER_VARIABLES.lines().filter(|line| !line.starts_with('#'));
        let (families, names): (Vec<_>, Vec<_>) = lines.partition(|line| line.ends_with('*'));
        let families = families.into_iter().map(|line| line.trim_end_matches('*')).collect();
        ServerVariables { names: names.into_iter().collect(), families }
    }

    /// A line about an option that no server knows, or that is a slip of the pen away from one the model takes.
    fn doubt(&self, option: &FileOption, known: &[&Parameter]) -> Option<String> {
        let bare = |name: &'_ str| -> String {
            let prefixes = ["loose_", "skip_", "disable_", "enable_", "maximum_"];
            prefixes.iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name).to_owned()
        };
        // An option that may be unknown by its own word.
        if option.name.starts_with("loose_") || self.names.contains(option.name.as_str()) {
            return None;
        }
        let name = bare(&option.name);
        if self.names.contains(name.as_str()) {
            return None;
        }
        let near = |names: &mut dyn Iterator<Item = &str>| {
            names
                .map(|other| (strsim::damerau_levenshtein(&name, other), other.to_owned()))
                .min()
                .filter(|(distance, other)| *distance <= 2.max(other.len() / 6))
        };
        let slip = near(&mut known.iter().map(|p| p.name.as_str()));
        if slip.is_none() && self.families.iter().any(|family| name.starts_with(family)) {
            return None;
        }
        let hint = slip
            .or_else(|| near(&mut self.names.iter().copied()))
            .map_or(String::new(), |(_, other)| format!("; did you mean `{other}`?"));
        Some(format!("{}: no server variable `{}`{hint} It is left out.", option.origin, option.name))
    }
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

    fn options(lines: &[(&str, Option<&str>)]) -> Vec<FileOption> {
        let origin = |line| Origin { file: "my.cnf".into(), line };
        let option = |(at, (name, value)): (usize, &(&str, Option<&str>))| FileOption {
            name: (*name).into(),
            value: value.map(Into::into),
            origin: origin(at + 1),
        };
        lines.iter().enumerate().map(option).collect()
    }

    #[test]
    fn what_the_model_takes_is_taken_by_any_of_its_names_and_the_last_holds() {
        let all = [
            parameter("sort_buffer_size", &[]),
            parameter("slave_parallel_threads", &["replica_parallel_workers"]),
            parameter("log_bin", &[]),
            parameter("performance_schema", &[]),
        ];
        let known: Vec<&Parameter> = all.iter().collect();
        let translated = translate(
            &options(&[
                ("sort_buffer_size", Some("1M")),
                ("loose_sort_buffer_size", Some("4M")),
                ("replica_parallel_workers", Some("8")),
                ("log_bin", None),
                ("performance_schema", Some("ON")),
                ("skip_performance_schema", None),
            ]),
            &known,
        );
        let given: Vec<(&str, &str, usize)> = translated
            .given
            .iter()
            .map(|(name, g)| (name.as_str(), g.value.as_str(), g.origin.as_ref().unwrap().line))
            .collect();
        assert_eq!(
            given,
            [
                ("log_bin", "ON", 4),
                ("performance_schema", "OFF", 6),
                ("slave_parallel_threads", "8", 3),
                ("sort_buffer_size", "4M", 2)
            ]
        );
        assert!(translated.unknown.is_empty(), "{:?}", translated.unknown);
    }

    #[test]
    fn what_concerns_no_memory_is_passed_over_and_what_no_server_knows_is_named() {
        let sort = parameter("sort_buffer_size", &[]);
        let pool = parameter("innodb_buffer_pool_size", &[]);
        let translated = translate(
            &options(&[
                ("datadir", Some("/var/lib/mysql")),
                ("skip_name_resolve", None),
                ("innodb_redo_log_capacity", Some("1G")),
                ("validate_password.policy", Some("LOW")),
                ("loose_something_of_a_plugin", Some("1")),
                ("sort_bufer_size", Some("1M")),
                ("innodb_bufer_pool_size", Some("1G")),
                ("colation_server", Some("utf8mb4_bin")),
                ("frobnicate_everything_twice", None),
            ]),
            &[&sort, &pool],
        );
        assert!(translated.given.is_empty());
        let said = |line: usize, words: &[&str]| {
            let found = translated.unknown.iter().find(|text| text.starts_with(&format!("my.cnf:{line}: ")));
            assert!(found.is_some_and(|t| words.iter().all(|w| t.contains(w))), "{words:?}: {:?}", translated.unknown);
        };
        said(6, &["sort_bufer_size", "`sort_buffer_size`"]);
        said(7, &["innodb_bufer_pool_size", "`innodb_buffer_pool_size`"]);
        said(8, &["colation_server", "`collation_server`"]);
        said(9, &["frobnicate_everything_twice"]);
        assert_eq!(translated.unknown.len(), 4, "{:?}", translated.unknown);
    }
}
