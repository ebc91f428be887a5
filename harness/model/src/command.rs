//! A command of the user's that is compared under several environments: `fragbench compare`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Better, Unit};

/// What is run, and how it is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// Name in tables.
    pub name: String,
    /// Program and arguments.
    pub words: Vec<String>,
    /// Shell command before each run, not measured.
    pub prepare: Option<String>,
    /// Shell command after each run, not measured.
    pub cleanup: Option<String>,
    /// How a server is started, loaded and stopped; `None` for a program that ends by itself.
    pub server: Option<ServerSpec>,
    /// The user's own figures.
    pub metrics: Vec<UserMetric>,
    /// Whether a program that ends with another status than 0 counts.
    pub ignore_failure: bool,
}

/// A server's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSpec {
    /// How it says that it may be loaded.
    pub ready: Ready,
    /// Shell command that loads it; its duration is the run's.
    pub load: String,
    /// Milliseconds from SIGTERM to SIGKILL.
    pub stop_ms: u64,
}

/// The sign that a server is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// A regular expression that matches its output.
    Output(String),
    /// A unix socket that takes a connection.
    Socket(PathBuf),
}

/// A figure read from output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserMetric {
    /// Name.
    pub name: String,
    /// Regular expression with one number in its first group.
    pub pattern: String,
    /// Unit, told by the name's last word.
    pub unit: Unit,
    /// Which direction is better, where it is known.
    pub better: Option<Better>,
}

/// A process of a command's tree, and how the environment was found in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFact {
    /// Program.
    pub program: PathBuf,
    /// How many of it there were.
    pub count: u32,
    /// How many showed the environment asked for in `/proc/PID/maps` and `/proc/PID/environ`.
    pub proved: u32,
    /// What was wrong in one that did not, if it lived long enough to be looked at.
    pub wrong: Option<String>,
}
