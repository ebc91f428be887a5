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

    /// What has to be done for a process to run in this environment, in words: `set MALLOC_ARENA_MAX=2`; `preload
    /// libfragbench_trim.so and set FRAGBENCH_TRIM_EVERY_MS=1000`. It names what a process reads and not what the user wrote,
    /// so that nothing is named that would do nothing. Empty where nothing has to be done.
    pub fn instruction(&self) -> String {
        let file = |path: &std::path::Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let also = self.environment.get(PRELOAD).map(|paths| paths.split(':').map(|p| file(p.as_ref())));
        let preloaded: Vec<String> =
            self.library.as_deref().map(file).into_iter().chain(also.into_iter().flatten()).collect();
        let set: Vec<String> = self
            .environment
            .iter()
            .filter(|(name, _)| *name != PRELOAD)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let part = |verb: &str, what: Vec<String>| (!what.is_empty()).then(|| format!("{verb} {}", what.join(" ")));
        let parts: Vec<String> = [part("preload", preloaded), part("set", set)].into_iter().flatten().collect();
        parts.join(" and ")
    }

    /// Whether a process has to be started otherwise than it comes to run in this environment.
    pub fn changes_something(&self) -> bool {
        self.library.is_some() || !self.environment.is_empty()
    }

    /// Whether `other` is the same allocator with the same settings.
    pub fn is(&self, other: &Allocator) -> bool {
        self.name == other.name && self.settings == other.settings && self.libc == other.libc
    }
}

/// The variable that names libraries to preload, ld.so(8).
pub const PRELOAD: &str = "LD_PRELOAD";

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
    fn an_instruction_names_what_a_process_reads() {
        let of = |library: Option<&str>, environment: &[(&str, &str)]| {
            let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let settings = Settings::from([("glibc.malloc.trim_threshold".into(), "131072".into())]);
            Allocator {
                name: "glibc".into(),
                kind: AllocatorKind::Glibc,
                library: library.map(Into::into),
                libc: None,
                settings,
                environment,
                notes: Vec::new(),
            }
            .instruction()
        };
        let tunables = ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072");
        assert_eq!(of(None, &[tunables]), "set GLIBC_TUNABLES=glibc.malloc.trim_threshold=131072");
        assert_eq!(
            of(Some("/x/libtrim.so"), &[("EVERY_MS", "1000"), (PRELOAD, "/lib/libc.so.6")]),
            "preload libtrim.so libc.so.6 and set EVERY_MS=1000"
        );
        assert_eq!(of(None, &[]), "");
    }

    #[test]
    fn a_label_names_the_settings_in_order() {
        let settings =
            Settings::from([("glibc.malloc.tcache_count".into(), "0".into()), ("MALLOC_ARENA_MAX".into(), "2".into())]);
        assert_eq!(label("glibc", &settings), "glibc arena_max=2 glibc.malloc.tcache_count=0");
        assert_eq!(label("null", &Settings::new()), "null");
    }
}
