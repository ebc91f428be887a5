//! An allocator under test, described as an environment: a library to preload (or none) and variables to set.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which family an allocator belongs to: it decides how it proves itself, how it is asked for statistics
/// and how it is purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocatorKind {
    /// glibc's ptmalloc, used when nothing is preloaded.
    Glibc,
    /// jemalloc: answers `mallctl`.
    Jemalloc,
    /// mimalloc: answers `mi_version`.
    Mimalloc,
    /// gperftools' tcmalloc: answers `tc_version`.
    Tcmalloc,
    /// The bump allocator that never reuses memory: the floor of time.
    Null,
    /// Any other library that exports `malloc`; it can be proved only by its mapping.
    Other,
}

/// Settings of an allocator as the user named them, for instance `MALLOC_ARENA_MAX` = `2`.
pub type Settings = BTreeMap<String, String>;

/// A glibc other than the system's: an unpacked package whose own dynamic loader starts the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Libc {
    /// Version as its banner says it: `2.31`.
    pub version: String,
    /// GNU build id of `file` in hexadecimal; `None` where it has none.
    pub build_id: Option<String>,
    /// Its `libc.so.6`; the other libraries lie beside it.
    pub file: PathBuf,
    /// Its dynamic loader.
    pub loader: PathBuf,
}

/// The C library a worker runs on, as the worker says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibcAnswer {
    /// `gnu_get_libc_version`.
    pub version: String,
    /// Path of the object that defines `gnu_get_libc_version`, from the dynamic linker.
    pub path: String,
    /// GNU build id in the object's mapped notes, in hexadecimal; `None` where it has none.
    pub build_id: Option<String>,
}

/// One allocator with one choice of settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocator {
    /// Name on the command line: `glibc`, `jemalloc`, `mimalloc`, `null`, or the user's own; a glibc other than the
    /// system's is named with its version: `glibc 2.31`.
    pub name: String,
    /// Family.
    pub kind: AllocatorKind,
    /// Library to preload; `None` for glibc.
    pub library: Option<PathBuf>,
    /// The C library to run on; `None` for the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libc: Option<Libc>,
    /// Settings as the user named them; part of the cell's identity.
    pub settings: Settings,
    /// Variables to set in the worker: what the settings become.
    pub environment: BTreeMap<String, String>,
    /// What a reader of the figures must know, for instance that a threshold froze the dynamic mmap threshold.
    pub notes: Vec<String>,
}

impl Allocator {
    /// Name and settings on one line: `glibc`, `glibc MALLOC_ARENA_MAX=2`.
    pub fn label(&self) -> String {
        label(&self.name, &self.settings)
    }
}

/// Name and settings on one line, as tables and legends show a cell. `MALLOC_ARENA_MAX=2` is shortened to
/// `arena_max=2`.
pub fn label(name: &str, settings: &Settings) -> String {
    let mut text = name.to_owned();
    for (key, value) in settings {
        let key = if key == "MALLOC_ARENA_MAX" { "arena_max" } else { key };
        text.push_str(&format!(" {key}={value}"));
    }
    text
}

/// What the allocator in place answered when the worker asked it who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllocatorAnswer {
    /// The family whose question was answered by the library that owns `malloc` in this process.
    pub kind: AllocatorKind,
    /// Its version as it says it.
    pub version: String,
    /// Path of the object that `malloc` resolves to, from the dynamic linker.
    pub malloc_object: String,
    /// Effective settings it reports (jemalloc `opt.*`, mimalloc options), where it does.
    pub effective: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_the_settings_in_order() {
        let settings =
            Settings::from([("glibc.malloc.tcache_count".into(), "0".into()), ("MALLOC_ARENA_MAX".into(), "2".into())]);
        assert_eq!(label("glibc", &settings), "glibc arena_max=2 glibc.malloc.tcache_count=0");
        assert_eq!(label("null", &Settings::new()), "null");
    }
}
