//! Allocators under test, described as environments: the library to preload, the variables to set, what a reader of
//! the figures must know.
//!
//! [`resolve`] turns what a user wrote (`jemalloc`, `glibc` with settings, `NAME=/path/lib.so`) into an
//! [`Allocator`]. One file a kind in `kinds/`; [`BUILTINS`] is the table. Whether the allocator really is in place is
//! asked of the worker that runs under it, not decided here.
//!
//! Refuses: unknown names and settings (with the nearest known one), libraries that cannot be preloaded into this
//! machine's programs, and settings of one allocator given to another.

mod c_library;
pub mod elf;
mod environment;
mod error;
mod huge_pages;
mod in_force;
mod kinds;
mod setting;
mod space;

use std::path::Path;

use fragbench_model::{Allocator, AllocatorKind, Libc, Settings};

use kinds::{glibc, jemalloc, mimalloc, null, other, tcmalloc};

pub use c_library::{LibcError, find, find_all};
pub use environment::{PADDING_VARIABLE, PRELOAD, command, padding, variables};
pub use error::AllocatorError;
pub use huge_pages::asks_for_huge_pages;
pub use in_force::{NotInForce, not_in_force};
pub use kinds::glibc::{ARENA_MAX, TRIM_EVERY};
pub use space::{Choice, Mechanism, USUAL, USUAL_OF_A_COMMAND, candidates, huge_page_candidates, mechanism, settings};

/// An allocator that comes with fragbench.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// Name on the command line.
    pub name: &'static str,
    /// Family.
    pub kind: AllocatorKind,
    /// File name of the library to preload, beside the program; `None` when nothing is preloaded.
    pub library: Option<&'static str>,
    /// The manifest that makes this library, where building the workspace does not.
    pub manifest: Option<&'static str>,
    /// One line for people.
    pub summary: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

/// Every allocator that needs no path, in the order in which tables show them.
pub const BUILTINS: &[Builtin] =
    &[glibc::BUILTIN, jemalloc::BUILTIN, mimalloc::BUILTIN, mimalloc::BUILTIN_3_6, null::BUILTIN];

/// Whether a setting of this name is meant for allocators of this kind. Whether the name exists is checked by
/// [`resolve`].
pub fn accepts(kind: AllocatorKind, key: &str) -> bool {
    match kind {
        AllocatorKind::Glibc => glibc::accepts(key),
        AllocatorKind::Jemalloc => jemalloc::accepts(key),
        AllocatorKind::Mimalloc => mimalloc::accepts(key),
        AllocatorKind::Tcmalloc => tcmalloc::accepts(key),
        AllocatorKind::Null => false,
        AllocatorKind::Other => other::accepts(key),
    }
}

/// Describes the allocator the user asked for.
///
/// `request` is a name of [`BUILTINS`] or `NAME=/path/to/library.so`; `settings` are all meant for this allocator;
/// `libraries` is the directory that holds fragbench's own preload libraries.
///
/// # Errors
/// Says what is wrong with the name, the library or a setting, and what to do next.
pub fn resolve(request: &str, settings: &Settings, libraries: &Path) -> Result<Allocator, AllocatorError> {
    let (name, kind, library, bundled) = match request.split_once('=') {
        Some((name, path)) => {
            let (path, kind) = other::identify(name, Path::new(path))?;
            (name, kind, Some(path), None)
        }
        None => {
            let builtin = builtin(request)?;
            let library = match builtin.library {
                Some(file) => {
                    if let Some(manifest) = builtin.manifest
                        && !libraries.join(file).exists()
                    {
                        return Err(AllocatorError::NotBuilt { name: builtin.name, manifest });
                    }
                    Some(other::preloadable(&libraries.join(file))?.0)
                }
                None if settings.contains_key(glibc::TRIM_EVERY) => {
                    Some(other::exporting(&libraries.join(glibc::TRIM_LIBRARY), &["fragbench_trim_totals"])?.0)
                }
                None => None,
            };
            (builtin.name, builtin.kind, library, Some(builtin))
        }
    };
    let interpreted = match kind {
        AllocatorKind::Glibc => glibc::interpret_system(settings),
        AllocatorKind::Jemalloc => jemalloc::interpret(settings, bundled.is_some()),
        AllocatorKind::Mimalloc => mimalloc::interpret(settings, bundled),
        AllocatorKind::Tcmalloc => tcmalloc::interpret(settings),
        AllocatorKind::Null => null::interpret(settings),
        AllocatorKind::Other => other::interpret(name, settings),
    }?;
    Ok(Allocator {
        name: name.to_owned(),
        kind,
        library,
        libc: None,
        settings: settings.clone(),
        environment: interpreted.environment,
        notes: interpreted.notes,
    })
}

/// Describes another glibc than the system's, under a name of [`find_all`].
///
/// # Errors
/// Says what is wrong with a setting.
pub fn resolve_glibc(name: &str, libc: &Libc, settings: &Settings) -> Result<Allocator, AllocatorError> {
    let interpreted = glibc::interpret(settings, libc.version.parse().ok())?;
    Ok(Allocator {
        name: name.to_owned(),
        kind: AllocatorKind::Glibc,
        library: None,
        libc: Some(libc.clone()),
        settings: settings.clone(),
        environment: interpreted.environment,
        notes: interpreted.notes,
    })
}

fn builtin(name: &str) -> Result<&'static Builtin, AllocatorError> {
    let names = || BUILTINS.iter().map(|b| b.name);
    BUILTINS.iter().find(|b| b.name == name).ok_or_else(|| AllocatorError::UnknownName {
        name: name.to_owned(),
        nearest: setting::nearest(name, names()).map(str::to_owned),
        known: names().collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let error = resolve("jemaloc", &Settings::new(), Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("jemaloc") && error.contains("did you mean jemalloc?"), "{error}");
        let error = resolve("zzz", &Settings::new(), Path::new("/")).unwrap_err().to_string();
        assert!(
            error.contains("glibc, jemalloc, mimalloc, mimalloc-3.6, null") && !error.contains("did you mean"),
            "{error}"
        );
    }

    #[test]
    fn a_setting_of_another_allocator_is_refused() {
        let settings = Settings::from([(ARENA_MAX.into(), "2".into())]);
        for kind in [AllocatorKind::Jemalloc, AllocatorKind::Mimalloc, AllocatorKind::Null, AllocatorKind::Tcmalloc] {
            assert!(!accepts(kind, ARENA_MAX), "{kind:?}");
        }
        let error = null::interpret(&settings).unwrap_err().to_string();
        assert!(error.contains("MALLOC_ARENA_MAX") && error.contains("null"), "{error}");
        let error = jemalloc::interpret(&settings, true).unwrap_err().to_string();
        assert!(error.contains("glibc"), "{error}");
    }
}
