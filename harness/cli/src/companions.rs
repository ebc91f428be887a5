//! Files that belong to this program and stand beside it: the recorder's library and the shipped traces.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The directory that holds this program's preload libraries: its own, or the parent of `deps`.
///
/// # Errors
/// When this program's own path cannot be read.
pub(crate) fn libraries() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let dir = me.parent().unwrap_or(Path::new("."));
    Ok(if dir.ends_with("deps") { dir.join("..") } else { dir.to_owned() })
}

/// The recorder's library.
///
/// # Errors
/// Says where it was looked for and which command builds it.
pub(crate) fn recorder() -> Result<PathBuf> {
    let path = libraries()?.join("libfragbench_recorder.so");
    if !path.is_file() {
        bail!("{} is missing; build the whole workspace with `cargo build --release`", path.display());
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

/// Traces shipped with the project, by name; none when this program was taken out of its checkout.
///
/// # Errors
/// When this program's own path cannot be read.
pub(crate) fn shipped_traces() -> Result<Vec<(String, PathBuf)>> {
    const BELOW: &str = "workloads/replay/traces";
    let me = std::env::current_exe()?;
    // The checkout this program was built in, or the one whose target directory it lies in.
    let mut places = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(BELOW)];
    places.extend(me.ancestors().skip(1).take(4).map(|dir| dir.join(BELOW)));
    for place in &places {
        let Ok(entries) = std::fs::read_dir(place) else { continue };
        let mut traces: Vec<(String, PathBuf)> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "fbt"))
            .filter_map(|path| {
                Some((format!("replay/{}", path.file_stem()?.to_string_lossy()), path.canonicalize().ok()?))
            })
            .collect();
        if !traces.is_empty() {
            traces.sort();
            return Ok(traces);
        }
    }
    Ok(Vec::new())
}
