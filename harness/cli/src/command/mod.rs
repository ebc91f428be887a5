//! Any command of the user's, as options and as what is run: `compare` and `tune` share it.

mod programs;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use fragbench_model::{Better, CommandSpec, Common, Ready, ServerSpec, Unit, UserMetric, metric};

use crate::sizes::parse_duration;
use crate::usage;

pub(crate) use programs::{fit, images, programs, put_first};

/// How a command is run, loaded, and looked at.
#[derive(Debug, Args)]
pub(crate) struct CommandOptions {
    /// Shell command before each run, not measured
    #[arg(long, value_name = "CMD")]
    prepare: Option<String>,
    /// Shell command after each run, not measured
    #[arg(long, value_name = "CMD")]
    cleanup: Option<String>,
    /// A figure read from the output: a regular expression with one number in parentheses, of which the last match counts.
    /// Before the name `+` says that more is better, `-` that less is; without, the name's ending tells (_per_s: more; _s,
    /// _ms, _ns, _bytes: less). The first of which more is better is the throughput
    #[arg(long, value_name = "NAME=REGEX", allow_hyphen_values = true)]
    metric: Vec<String>,
    /// The command is a server that is ready when its output matches this regular expression
    #[arg(long, value_name = "REGEX", requires = "load", conflicts_with = "ready_socket")]
    ready: Option<String>,
    /// The command is a server that is ready when this unix socket takes connections
    #[arg(long, value_name = "PATH", requires = "load")]
    ready_socket: Option<String>,
    /// Shell command that loads the server; its duration is the run's
    #[arg(long, value_name = "CMD")]
    load: Option<String>,
    /// Time a server gets to end after SIGTERM, before SIGKILL
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "30s")]
    stop_timeout: Duration,
    /// Count runs that end with another status than 0
    #[arg(long)]
    ignore_failure: bool,
    /// Name in tables [default: the program's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl CommandOptions {
    /// The first option that is about a command, if any is given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let all = [
            ("--prepare", self.prepare.is_some()),
            ("--cleanup", self.cleanup.is_some()),
            ("--metric", !self.metric.is_empty()),
            ("--load", self.load.is_some()),
            ("--ignore-failure", self.ignore_failure),
            ("--name", self.name.is_some()),
        ];
        all.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// One command for each combination of the parameters' values (`NAME=V1,V2`).
    ///
    /// # Errors
    /// Words that are not UTF-8, a metric or a parameter that is not understood, a load without a sign to begin.
    pub(crate) fn specs(&self, words: &[OsString], parameters: &[String]) -> Result<Vec<CommandSpec>> {
        let words: Vec<String> = words
            .iter()
            .map(|word| word.clone().into_string().map_err(|word| usage(format!("{word:?} is not UTF-8"))))
            .collect::<Result<_>>()?;
        let metrics = self.metric.iter().map(|text| user_metric(text)).collect::<Result<Vec<_>>>()?;
        if let Some(twin) = metrics.iter().enumerate().find(|(i, m)| metrics[..*i].iter().any(|o| o.name == m.name)) {
            return Err(usage(format!("--metric names {} twice", twin.1.name)));
        }
        if self.load.is_some() && self.ready.is_none() && self.ready_socket.is_none() {
            return Err(usage("--load needs --ready REGEX or --ready-socket PATH, to know when to begin"));
        }
        if let Some(pattern) = &self.ready {
            regex_lite::Regex::new(pattern).map_err(|e| usage(format!("--ready is no regex: {e}")))?;
        }
        let base = self.name.clone().unwrap_or_else(|| usual_name(&words));
        let all = combinations(parameters)?;
        Ok(all.iter().map(|values| self.spec(&base, &words, &metrics, values)).collect())
    }

    fn spec(&self, base: &str, words: &[String], metrics: &[UserMetric], values: &[(String, String)]) -> CommandSpec {
        let fill = |text: &String| {
            values.iter().fold(text.clone(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
        };
        let named: Vec<String> = values.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        let ready = match (&self.ready, &self.ready_socket) {
            (Some(pattern), _) => Some(Ready::Output(fill(pattern))),
            (_, Some(path)) => Some(Ready::Socket(fill(path).into())),
            _ => None,
        };
        let server = ready.zip(self.load.as_ref()).map(|(ready, load)| ServerSpec {
            ready,
            load: fill(load),
            stop_ms: self.stop_timeout.as_millis() as u64,
        });
        CommandSpec {
            name: format!("{base}{}", named.concat()),
            words: words.iter().map(fill).collect(),
            prepare: self.prepare.as_ref().map(fill),
            cleanup: self.cleanup.as_ref().map(fill),
            server,
            metrics: metrics.to_vec(),
            ignore_failure: self.ignore_failure,
        }
    }
}

/// What the runs of a command have in common.
pub(crate) fn common(seed: u64, idle: Duration) -> Common {
    Common { seed, idle_ms: idle.as_millis() as u64, driver: None }
}

/// The program's name, with that of the script it runs.
fn usual_name(words: &[String]) -> String {
    let file = |word: &String| Path::new(word).file_name().map(|n| n.to_string_lossy().into_owned());
    let script = words.get(1).filter(|word| !word.starts_with('-') && Path::new(word).is_file());
    let parts: Vec<String> = words.first().into_iter().chain(script).filter_map(file).collect();
    parts.join(" ")
}

fn user_metric(text: &str) -> Result<UserMetric> {
    let wrong =
        || usage(format!("--metric {text}: write NAME=REGEX, for instance 'qps=queries: .*\\(([0-9.]+) per sec'"));
    let (name, pattern) = text.split_once('=').ok_or_else(wrong)?;
    let (sign, name) = match name.as_bytes().first() {
        Some(b'+') => (Some(Better::More), &name[1..]),
        Some(b'-') => (Some(Better::Less), &name[1..]),
        _ => (None, name),
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || pattern.is_empty() {
        return Err(wrong());
    }
    if metric(name).is_some() {
        return Err(usage(format!("--metric {name}: a figure of that name is measured already; choose another")));
    }
    regex_lite::Regex::new(pattern).map_err(|e| usage(format!("--metric {name} has no regex: {e}")))?;
    let unit = Unit::of_name(name);
    let better = sign.or(match unit {
        Unit::PerSecond => Some(Better::More),
        Unit::Seconds | Unit::Milliseconds | Unit::Nanoseconds | Unit::Bytes => Some(Better::Less),
        Unit::Count | Unit::Ratio => None,
    });
    Ok(UserMetric { name: name.to_owned(), pattern: pattern.to_owned(), unit, better })
}

/// All combinations of the parameters' values; one empty one without parameters.
fn combinations(parameters: &[String]) -> Result<Vec<Vec<(String, String)>>> {
    let mut all: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for text in parameters {
        let (name, values) = text
            .split_once('=')
            .filter(|(name, values)| !name.is_empty() && !values.is_empty())
            .ok_or_else(|| usage(format!("--parameter {text}: write NAME=V1,V2, for instance threads=1,8")))?;
        if all[0].iter().any(|(known, _)| known == name) {
            return Err(usage(format!("--parameter {name} is given twice")));
        }
        all = all
            .into_iter()
            .flat_map(|chosen| {
                values.split(',').map(move |value| {
                    chosen.iter().cloned().chain([(name.to_owned(), value.to_owned())]).collect::<Vec<_>>()
                })
            })
            .collect();
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_tells_its_direction_by_sign_or_name() {
        let of = |text: &str| user_metric(text).map(|m| (m.name, m.unit, m.better)).map_err(|e| e.to_string());
        assert_eq!(of("qps_per_s=(x)").unwrap(), ("qps_per_s".into(), Unit::PerSecond, Some(Better::More)));
        assert_eq!(of("p99_ms=(x)").unwrap(), ("p99_ms".into(), Unit::Milliseconds, Some(Better::Less)));
        assert_eq!(of("+tps=a=(x)").unwrap(), ("tps".into(), Unit::Count, Some(Better::More)));
        assert_eq!(of("-errors=(x)").unwrap(), ("errors".into(), Unit::Count, Some(Better::Less)));
        assert_eq!(of("tps=(x)").unwrap().2, None);
        for (text, word) in
            [("tps", "NAME=REGEX"), ("a b=x", "NAME=REGEX"), ("wall_s=(x)", "measured already"), ("t=(", "regex")]
        {
            assert!(of(text).unwrap_err().contains(word), "{text}: {:?}", of(text));
        }
    }

    #[test]
    fn parameters_are_combined() {
        let all = combinations(&["N=1,2".into(), "M=a,b".into()]).unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!(all[1], [("N".to_owned(), "1".to_owned()), ("M".to_owned(), "b".to_owned())]);
        assert_eq!(combinations(&[]).unwrap(), [Vec::new()]);
        for wrong in ["N", "N=", "=1"] {
            assert!(combinations(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        assert!(combinations(&["N=1".into(), "N=2".into()]).is_err());
    }
}
