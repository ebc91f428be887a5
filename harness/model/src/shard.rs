//! A part of a plan that one machine carries out, `--shard I/N`, and the machines a merged result came from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Host, LibraryFact};

/// Which of how many parts: `2/4`. Written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    of: u32,
}

impl Shard {
    /// Shard `index`, counted from 1, of `of`; `None` where there is no such one.
    pub fn new(index: u32, of: u32) -> Option<Self> {
        (1..=of).contains(&index).then_some(Self { index, of })
    }

    /// Its number, from 1.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many there are.
    pub fn of(self) -> u32 {
        self.of
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('/')
            .and_then(|(index, of)| Self::new(index.parse().ok()?, of.parse().ok()?))
            .ok_or_else(|| format!("`{text}` is no shard: write I/N with I from 1 to N, for instance 2/4"))
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// What a result that is a shard is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which one.
    pub shard: Shard,
    /// Blocks of the whole plan.
    pub blocks: u32,
}

/// A shard's share of a merged result: what ran where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the result directory, its last part.
    pub directory: String,
    /// Shard it held.
    pub shard: Shard,
    /// Blocks that were taken from it, from 0.
    pub blocks: Vec<u32>,
    /// Its command line.
    pub command: Vec<String>,
    /// Seconds since the epoch at its start.
    pub started_unix_s: u64,
    /// Seconds since the epoch at its end; `None` when it was stopped before.
    pub ended_unix_s: Option<u64>,
    /// The machine.
    pub host: Host,
    /// Libraries and programs there.
    pub libraries: Vec<LibraryFact>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_i_of_n_with_i_up_to_n_is_a_shard() {
        let shard: Shard = "2/4".parse().unwrap();
        assert_eq!((shard.index(), shard.of()), (2, 4));
        assert_eq!(serde_json::to_string(&shard).unwrap(), "\"2/4\"");
        assert_eq!(serde_json::from_str::<Shard>("\"2/4\"").unwrap(), shard);
        for wrong in ["", "x", "2", "/", "0/4", "5/4", "0/0", "-1/4", "1/4/2", "1/ 4", "1.5/2", "1/99999999999"] {
            assert!(wrong.parse::<Shard>().is_err_and(|e| e.contains(&format!("`{wrong}`"))), "{wrong}");
            assert!(serde_json::from_str::<Shard>(&format!("\"{wrong}\"")).is_err(), "{wrong}");
        }
    }
}
