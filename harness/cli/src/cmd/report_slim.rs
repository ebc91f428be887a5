//! A result without what only its makers need: for a repository, a ticket, a mail. The summary, the report in Markdown and its
//! plots stay; every run, the plan that lists them, samples, the page
//! and pictures that are there twice go, and the manifest says so.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The manifest's field that names what was left out.
const FIELD: &str = "left_out";

/// Whether a result was made small, so that it cannot be rendered again.
pub(crate) fn is_slim(dir: &Path) -> bool {
    let manifest = std::fs::read(dir.join("manifest.json")).ok();
    manifest.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).is_some_and(|all| all.get(FIELD).is_some())
}

/// Makes a result small; gives its bytes before and after.
///
/// # Errors
/// When the directory is no concluded result, or cannot be changed.
pub(crate) fn slim(dir: &Path) -> Result<(u64, u64)> {
    let path = dir.join("manifest.json");
    let bytes = std::fs::read(&path)
        .with_context(|| format!("{} is no result directory: its manifest.json cannot be read", dir.display()))?;
    let mut manifest: Value = serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
    if manifest.get("ended_unix_s").is_none_or(Value::is_null) {
        bail!("{} is not concluded: finish it with --resume, its runs are all that it has", dir.display());
    }
    let files = files_of(dir)?;
    let size = |files: &[PathBuf]| files.iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>();
    let before = size(&files);

    let mut left_out: Vec<String> =
        manifest.get(FIELD).and_then(|all| serde_json::from_value(all.clone()).ok()).unwrap_or_default();
    for file in files.iter().filter(|file| goes(dir, file)) {
        left_out.extend(file.strip_prefix(dir).ok().map(|name| name.display().to_string()));
    }
    left_out.sort();
    left_out.dedup();
    if let Some(fields) = manifest.as_object_mut() {
        // Every run again.
        fields.remove("plan");
        fields.insert(FIELD.to_owned(), serde_json::to_value(&left_out)?);
    }
    // The manifest first: an interruption leaves a result that says too much is gone, never too little.
    std::fs::write(&path, serde_json::to_vec(&manifest)?)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    for file in files {
        let changed = if goes(dir, &file) { std::fs::remove_file(&file) } else { without_spaces(&file, &path) };
        changed.with_context(|| file.display().to_string())?;
    }
    // Gone only when it is empty.
    let _ = std::fs::remove_dir(dir.join("samples"));
    Ok((before, size(&files_of(dir)?)))
}

/// Whether a file is left out: runs, samples, tables that say what the summary says, the figures of a matrix' parts (their
/// Markdown stays), pages that hold the plots again, pictures that are there as drawings too.
fn goes(dir: &Path, file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default();
    let ending = file.extension().unwrap_or_default();
    name == "runs.jsonl"
        || name == "summary.csv"
        || name == "badcases.json" && file.parent() != Some(dir)
        || ending == "html"
        || ending == "parquet"
        || file.parent().is_some_and(|parent| parent.ends_with("samples"))
        || ending == "png" && file.with_extension("svg").is_file()
}

/// Writes a JSON file again without the spaces that only people need; any other stays.
fn without_spaces(file: &Path, manifest: &Path) -> std::io::Result<()> {
    if file == manifest || file.extension().is_none_or(|ending| ending != "json") {
        return Ok(());
    }
    let value: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    std::fs::write(file, serde_json::to_vec(&value)?)
}

/// All files below a directory.
fn files_of(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_of(&path)?) } else { files.push(path) }
    }
    files.sort();
    Ok(files)
}
