//! Where the files lie that belong to this program: the worker, the preload libraries, the shipped traces.
//!
//! A prefix has `bin/fragbench`, `lib/fragbench/` (worker and libraries) and `share/fragbench/` (traces); a build directory
//! has programs and libraries side by side. `FRAGBENCH_HOME` names one of either and then no other is looked at. Left out:
//! the prefix this program is installed in, its own directory, the directory the checkout it was built from builds into.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The variable that names a prefix or a build directory.
pub const VARIABLE: &str = "FRAGBENCH_HOME";

/// The checkout this program was built from.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Directories that may hold the worker and the preload libraries, the likeliest first.
fn library_places(home: Option<&Path>, program: &Path) -> Vec<PathBuf> {
    if let Some(home) = home {
        return vec![home.join("lib/fragbench"), home.to_owned()];
    }
    // Test programs lie in `deps`.
    let own = program.parent().unwrap_or(Path::new("."));
    let own = if own.ends_with("deps") { own.parent().unwrap_or(own) } else { own };
    vec![own.join("../lib/fragbench"), own.to_owned(), Path::new(CHECKOUT).join("target/release")]
}

/// Directories that may hold the shipped traces.
fn trace_places(home: Option<&Path>, program: &Path) -> Vec<PathBuf> {
    const INSTALLED: &str = "share/fragbench/traces";
    const BUILT: &str = "workloads/replay/traces";
    // A build directory lies some levels below its checkout.
    let above = |path: &Path| path.ancestors().take(5).map(|dir| dir.join(BUILT)).collect::<Vec<_>>();
    if let Some(home) = home {
        return [vec![home.join(INSTALLED)], above(home)].concat();
    }
    let own = program.parent().unwrap_or(Path::new("."));
    [vec![own.join("..").join(INSTALLED)], above(own), vec![Path::new(CHECKOUT).join(BUILT)]].concat()
}

fn home() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().context("this program's own path cannot be read")
}

/// The directory that holds `file`; when none does, the likeliest one, so that an error can name it.
///
/// # Errors
/// When this program's own path cannot be read.
pub fn libraries(file: &str) -> Result<PathBuf> {
    let places = library_places(home().as_deref(), &program()?);
    let found = places.iter().find(|place| place.join(file).is_file());
    let likeliest = places.iter().find(|place| place.is_dir()).or(places.first());
    Ok(match found.or(likeliest) {
        Some(place) => place.canonicalize().unwrap_or_else(|_| place.clone()),
        None => PathBuf::from("."),
    })
}

/// What to do when a file of this program is missing.
#[must_use]
pub fn advice() -> String {
    format!(
        "build the whole workspace with `cargo build --release`, or set {VARIABLE} to the prefix or build directory that \
         has it"
    )
}

/// The directory of the shipped traces; `None` when there is none.
///
/// # Errors
/// When this program's own path cannot be read.
pub fn traces() -> Result<Option<PathBuf>> {
    let places = trace_places(home().as_deref(), &program()?);
    Ok(places.into_iter().find(|place| place.is_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_comes_before_the_own_directory() {
        let places = library_places(None, Path::new("/opt/x/bin/fragbench"));
        assert_eq!(places[..2], [PathBuf::from("/opt/x/bin/../lib/fragbench"), "/opt/x/bin".into()]);
        assert_eq!(library_places(None, Path::new("/c/target/release/deps/t-1"))[1], Path::new("/c/target/release"));
        assert_eq!(
            trace_places(None, Path::new("/opt/x/bin/fragbench"))[0],
            Path::new("/opt/x/bin/../share/fragbench/traces")
        );
    }

    #[test]
    fn a_named_place_is_the_only_one() {
        let places = library_places(Some(Path::new("/p")), Path::new("/opt/x/bin/fragbench"));
        assert_eq!(places, [PathBuf::from("/p/lib/fragbench"), "/p".into()]);
        let traces = trace_places(Some(Path::new("/c/target/release")), Path::new("/opt/x/bin/fragbench"));
        assert!(traces.contains(&"/c/workloads/replay/traces".into()), "{traces:?}");
        assert!(traces.iter().all(|place| !place.starts_with("/opt")));
    }
}
