//! A workload's parameters: names and values as the user wrote them, checked against what the workload takes.

use std::collections::BTreeMap;

use fragbench_model::WorkerErrorKind;
use fragbench_model::{Parameter, WorkerError};

use crate::refuse;

/// Parameters with their defaults filled in. All names are known; values are checked when they are read.
#[derive(Debug, Clone)]
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Fills in the defaults of `known`.
    ///
    /// # Errors
    /// `bad_spec` for a name that is not known, with the nearest that is.
    pub fn new(known: &[Parameter], given: &BTreeMap<String, String>) -> Result<Parameters, WorkerError> {
        for name in given.keys() {
            // A server takes `-` and `_` in names alike, and so does this.
            if !known.iter().any(|p| p.name == normal(name)) {
                let hint = nearest(&normal(name), known.iter().map(|p| p.name.as_str()));
                return Err(refuse(WorkerErrorKind::BadSpec, format!("no parameter {name:?}; {hint}")));
            }
        }
        let mut all: BTreeMap<_, _> = known.iter().map(|p| (p.name.clone(), p.default.clone())).collect();
        all.extend(given.iter().map(|(name, value)| (normal(name), value.clone())));
        Ok(Parameters(all))
    }

    /// The value of `name` as text.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| unreachable!("{name} stands in the table of parameters"))
    }

    /// The value of `name` as a number of bytes or of things, from `least` to `most`; `16K`, `4M` and `1G` are powers
    /// of 1024.
    ///
    /// # Errors
    /// `bad_spec` when it is none, or out of range.
    pub fn size(&self, name: &str, least: u64, most: u64) -> Result<u64, WorkerError> {
        let text = self.text(name);
        let value = parse_size(text).ok_or_else(|| {
            refuse(WorkerErrorKind::BadSpec, format!("{name}={text}: not a size; write a whole number, or 16K, 4M, 1G"))
        })?;
        if !(least..=most).contains(&value) {
            return Err(refuse(
                WorkerErrorKind::BadSpec,
                format!("{name}={text}: must lie between {least} and {most}"),
            ));
        }
        Ok(value)
    }

    /// The value of `name` as one of `choices`.
    ///
    /// # Errors
    /// `bad_spec` with the nearest choice.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, WorkerError> {
        let text = self.text(name);
        choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let hint = nearest(text, choices.iter().map(|(word, _)| *word));
            refuse(WorkerErrorKind::BadSpec, format!("{name}={text}: not a value it takes; {hint}"))
        })
    }
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// A whole number with an optional suffix K, M, G or T (powers of 1024, either case); `None` for anything else.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `did you mean NAME?` with the known name nearest to `name`, or the list of all when none is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let best = known.iter().min_by_key(|other| distance(name, other));
    match best {
        Some(best) if distance(name, best) <= best.len().max(name.len()) / 2 => format!("did you mean {best:?}?"),
        Some(_) => format!("there are: {}", known.join(", ")),
        None => "it takes none".to_owned(),
    }
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Parameter> {
        [("sort_buffer_size", "2M"), ("mode", "linear")]
            .map(|(name, default)| Parameter {
                name: name.into(),
                aliases: Vec::new(),
                default: default.into(),
                range: String::new(),
                meaning: String::new(),
            })
            .to_vec()
    }

    fn given(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn sizes_take_suffixes() {
        for (text, value) in [("0", Some(0)), ("16K", Some(16384)), ("4m", Some(4 << 20)), (" 1G ", Some(1 << 30))] {
            assert_eq!(parse_size(text), value, "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "4MB", "99999999T", "1e3"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn defaults_are_filled_in_and_dashes_are_underscores() {
        let p = Parameters::new(&known(), &given("sort-buffer-size", "256K")).unwrap();
        assert_eq!(p.size("sort_buffer_size", 1, 1 << 30), Ok(256 << 10));
        assert_eq!(p.choice("mode", &[("linear", 1), ("pow2", 2)]), Ok(1));
    }

    #[test]
    fn what_is_wrong_is_named_with_the_nearest_that_is_right() {
        let text = |r: WorkerError| (r.kind, r.text);
        let (kind, said) = text(Parameters::new(&known(), &given("sort_bufer_size", "1")).unwrap_err());
        assert_eq!(kind, WorkerErrorKind::BadSpec);
        assert!(said.contains("sort_bufer_size") && said.contains("did you mean \"sort_buffer_size\"?"), "{said}");
        let p = Parameters::new(&known(), &given("sort_buffer_size", "8 potatoes")).unwrap();
        assert!(p.size("sort_buffer_size", 1, 9).unwrap_err().text.contains("8 potatoes"));
        let p = Parameters::new(&known(), &given("sort_buffer_size", "10")).unwrap();
        assert!(p.size("sort_buffer_size", 1, 9).unwrap_err().text.contains("between 1 and 9"));
        let p = Parameters::new(&known(), &given("mode", "pow")).unwrap();
        assert!(p.choice("mode", &[("linear", 1), ("pow2", 2)]).unwrap_err().text.contains("pow2"));
        assert_eq!(nearest("zzzzzzzz", ["glibc", "null"]), "there are: glibc, null");
    }
}
