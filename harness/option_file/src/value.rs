//! What a value comes to: read as the server reads it, then kept in the variable's bounds.
//!
//! Source: mysys/my_getopt.c (MariaDB), `eval_num_suffix_ull`, `getopt_ull_limit_value`, `get_bool_argument`;
//! mysys/my_getopt.cc (MySQL), the same; mysys/typelib. Observed on the servers where the two differ: MariaDB lets a unit
//! overflow and reads an empty number as 0, MySQL refuses both and takes a negative number for 0.

use crate::server::{Flavor, Kind, Number, Server, Variable};

/// A value in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// In the variable's unit.
    Number(u64),
    /// Of switches, and of files: whether there is one.
    Switch(bool),
    /// One of its words.
    Word(&'static str),
}

/// A value, and what the server changed about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjusted {
    /// In force.
    pub value: Value,
    /// `4294967296 adjusted to 1048576`; `None` where it is as given.
    pub note: Option<String>,
}

/// Reads the value of `variable`; `None` where the option's name stood alone. `Ok(None)`: no variable of the models.
///
/// # Errors
/// What the server refuses to start with, and what would be right.
pub fn read_value(server: Server, variable: &Variable, text: Option<&str>) -> Result<Option<Adjusted>, String> {
    let plain = |value| Adjusted { value, note: None };
    Ok(Some(match &variable.kind {
        Kind::Plugin | Kind::Other => return Ok(None),
        Kind::File(_) => plain(Value::Switch(true)),
        Kind::Switch(_) => switch(text.unwrap_or("ON")),
        Kind::Words { words, .. } => plain(Value::Word(word(words, text)?)),
        Kind::Number(number) => {
            let text = text.ok_or_else(|| format!("it takes a value, {}", range(number)))?;
            let (negative, given) = parse(server.flavor(), text, number)?;
            let value = bounded(number, negative, given);
            let sign = if negative { "-" } else { "" };
            let note = (negative || given > number.most || given < number.least)
                .then(|| format!("{sign}{given} adjusted to {value}"))
                .filter(|_| negative || given != value);
            Adjusted { value: Value::Number(value), note }
        }
    }))
}

/// What a number takes, in words.
fn range(number: &Number) -> String {
    format!("a whole number, or 16K, 4M, 1G, from {} to {}", number.least, number.most)
}

fn bounded(number: &Number, negative: bool, given: u64) -> u64 {
    let given = if negative { 0 } else { given.min(number.most) };
    (given - given % number.multiple).max(number.least)
}

/// Sign and digits of a number with its unit. What stands behind the unit is not looked at.
fn parse(flavor: Flavor, text: &str, number: &Number) -> Result<(bool, u64), String> {
    let wrong = |what: &str| Err(format!("{what}; it takes {}", range(number)));
    if text.is_empty() && flavor == Flavor::Mysql {
        return wrong("no value");
    }
    let text = text.trim_start();
    let negative = text.starts_with('-');
    if negative && flavor == Flavor::Mariadb {
        return wrong("not a number from 0");
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let given = match &digits[..end] {
        "" => 0,
        digits => match digits.parse::<u64>() {
            Ok(given) if !number.signed || i64::try_from(given).is_ok() => given,
            _ => return wrong("too great a number"),
        },
    };
    // Without a digit C's reader of numbers takes nothing, a sign neither.
    let rest = if end == 0 { text } else { &digits[end..] };
    let shift = match rest.bytes().next().map(|unit| unit.to_ascii_uppercase()) {
        None => 0,
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        Some(b'P') => 50,
        Some(b'E') => 60,
        Some(_) => return wrong("not a number with a unit"),
    };
    match given.checked_mul(1 << shift).filter(|given| !number.signed || i64::try_from(*given).is_ok()) {
        Some(given) => Ok((negative, given)),
        None if flavor == Flavor::Mariadb => Ok((negative, given.wrapping_mul(1 << shift))),
        None => wrong("too great a number"),
    }
}

fn switch(text: &str) -> Adjusted {
    let on = ["on", "true", "1"].iter().any(|word| word.eq_ignore_ascii_case(text));
    let off = ["off", "false", "0"].iter().any(|word| word.eq_ignore_ascii_case(text));
    let note = (!on && !off).then(|| format!("`{text}` is neither ON nor OFF: set to OFF"));
    Adjusted { value: Value::Switch(on), note }
}

/// A word, a unique begin of one, or its number.
fn word(words: &[&'static str], text: Option<&str>) -> Result<&'static str, String> {
    let text = text.unwrap_or_default();
    let begins = |word: &&&'static str| {
        !text.is_empty() && word.get(..text.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(text))
    };
    let mut found = words.iter().filter(begins);
    let exact = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    match (exact, found.next(), found.next()) {
        (Some(word), ..) | (None, Some(word), None) => Ok(word),
        _ => text
            .parse::<usize>()
            .ok()
            .and_then(|index| words.get(index).copied())
            .ok_or_else(|| format!("not a value it takes; there are {}", words.join(", "))),
    }
}
