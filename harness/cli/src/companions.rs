//! Files that belong to this program: preload libraries, the recorder's library, the shipped traces.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use fragbench_run::places;

/// The directory that holds this program's preload libraries.
///
/// # Errors
/// When this program's own path cannot be read.
pub(crate) fn libraries() -> Result<PathBuf> {
    places::libraries("libfragbench_null.so")
}

/// The recorder's library.
///
/// # Errors
/// Says where it was looked for and what helps.
pub(crate) fn recorder() -> Result<PathBuf> {
    const NAME: &str = "libfragbench_recorder.so";
    let path = places::libraries(NAME)?.join(NAME);
    if !path.is_file() {
        bail!("{} is missing; {}", path.display(), places::advice());
    }
    Ok(path.canonicalize()?)
}

/// gperftools' tcmalloc as distributions install it; `None` when it is not.
pub(crate) fn tcmalloc() -> Option<PathBuf> {
    const FILES: [&str; 2] = ["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"];
    let arch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    [arch.as_str(), "/usr/lib64", "/usr/lib", "/usr/local/lib"]
        .iter()
        .flat_map(|dir| FILES.map(|file| Path::new(dir).join(file)))
        .find(|path| path.is_file())
}

/// Traces shipped with the project, by name; none when this program was taken out of its prefix or checkout.
///
/// # Errors
/// When this program's own path cannot be read.
pub(crate) fn shipped_traces() -> Result<Vec<(String, PathBuf)>> {
    let Some(entries) = places::traces()?.and_then(|place| std::fs::read_dir(place).ok()) else {
        return Ok(Vec::new());
    };
    let mut traces: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "fbt"))
        .filter_map(|path| Some((format!("replay/{}", path.file_stem()?.to_string_lossy()), path.canonicalize().ok()?)))
        .collect();
    traces.sort();
    Ok(traces)
}
