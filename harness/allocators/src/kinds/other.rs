//! Any library of the user's: `NAME=/path/to/library.so`.
//!
//! The library is read, not loaded: it must be a shared object of this machine's kind that exports `malloc` and
//! `free`. Which family it belongs to, and so how it proves itself and is asked for statistics, is told by the
//! symbols it exports.
//!
//! Refuses: programs, static archives, linker scripts, libraries of another architecture, and paths that `LD_PRELOAD`
//! cannot carry.
//!
//! Source: ld.so(8), `LD_PRELOAD` (the separators).

use std::path::{Path, PathBuf};

use fragbench_model::{AllocatorKind, Settings};

use crate::elf::{self, Elf};
use crate::setting::{Interpreted, is_variable};
use crate::{AllocatorError, BUILTINS};

/// The symbol that tells a family, in the order asked: jemalloc's and mimalloc's control functions are exported by
/// nothing else.
const FAMILIES: &[(&str, AllocatorKind)] = &[
    ("mallctl", AllocatorKind::Jemalloc),
    ("mi_version", AllocatorKind::Mimalloc),
    ("fragbench_mi_version", AllocatorKind::Mimalloc),
    ("tc_version", AllocatorKind::Tcmalloc),
    ("fragbench_null_version", AllocatorKind::Null),
];

pub(crate) fn accepts(key: &str) -> bool {
    is_variable(key)
}

/// Absolute path and family of the library.
pub(crate) fn identify(name: &str, path: &Path) -> Result<(PathBuf, AllocatorKind), AllocatorError> {
    let usable = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && BUILTINS.iter().all(|b| b.name != name);
    if !usable {
        return Err(AllocatorError::BadName { name: name.to_owned() });
    }
    let (path, elf) = preloadable(path)?;
    let family = FAMILIES.iter().find(|(symbol, _)| elf.exports(symbol));
    Ok((path, family.map_or(AllocatorKind::Other, |(_, kind)| *kind)))
}

/// Absolute path and contents' facts of an allocator's library that can be preloaded into this machine's programs.
pub(crate) fn preloadable(path: &Path) -> Result<(PathBuf, Elf), AllocatorError> {
    exporting(path, &["malloc", "free"])
}

/// The same of any library that exports these symbols.
pub(crate) fn exporting(path: &Path, symbols: &[&str]) -> Result<(PathBuf, Elf), AllocatorError> {
    let unreadable = |error: std::io::Error| AllocatorError::Unreadable {
        path: path.to_owned(),
        hint: match error.kind() {
            std::io::ErrorKind::NotFound => {
                "; fragbench's own libraries are made by `cargo build --release`, others need their package".to_owned()
            }
            _ => String::new(),
        },
        error,
    };
    let absolute = path.canonicalize().map_err(unreadable)?;
    // A library is named through its links (libx.so.2), so that records show the name people know.
    let named = std::path::absolute(path).map_err(unreadable)?;
    let refuse = |reason: String| AllocatorError::NotPreloadable { path: named.clone(), reason };
    match named.to_str() {
        None => return Err(refuse("its path is not UTF-8".to_owned())),
        Some(text) if text.contains([' ', ':', '\t', '\n']) => {
            return Err(AllocatorError::UnpreloadablePath { path: named });
        }
        Some(_) => {}
    }
    if absolute.is_dir() {
        return Err(refuse("it is a directory".to_owned()));
    }
    let bytes = std::fs::read(&absolute).map_err(unreadable)?;
    let elf = elf::parse(&bytes).map_err(|error| refuse(error.to_string()))?;
    elf::check_native(&elf).map_err(|error| refuse(error.to_string()))?;
    if !elf.is_shared_object() {
        return Err(refuse("it is a program, not a shared library".to_owned()));
    }
    for symbol in symbols {
        if !elf.exports(symbol) {
            return Err(refuse(format!("it exports no {symbol}, so it would do nothing")));
        }
    }
    Ok((named, elf))
}

pub(crate) fn interpret(name: &str, settings: &Settings) -> Result<Interpreted, AllocatorError> {
    match settings.keys().find(|key| !accepts(key)) {
        None => Ok(Interpreted { environment: settings.clone(), notes: Vec::new() }),
        Some(key) => Err(AllocatorError::UnknownSetting {
            allocator: name.to_owned(),
            key: key.clone(),
            nearest: None,
            hint: "a library of your own takes environment variables in upper case, none of the dynamic linker's LD_*"
                .to_owned(),
        }),
    }
}
