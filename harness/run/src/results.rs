//! A result directory while it is written: `manifest.json`, `runs.jsonl` with a line the moment a run ends, and
//! `samples/*.csv.zst`. Also the reading of one, for `--resume`, `report` and `diff`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fragbench_model::{
    AllocatorKind, Common, LibraryFact, Manifest, Part, Plan, ResultKind, RunRecord, SCHEMA, Sample,
};

use crate::host::{host, library_fact, own_libc};
use crate::session::RunLimits;

/// A result directory.
#[derive(Debug)]
pub struct ResultDir {
    path: PathBuf,
    runs: File,
}

const MANIFEST: &str = "manifest.json";
const RUNS: &str = "runs.jsonl";

impl ResultDir {
    /// Makes a new one.
    ///
    /// # Errors
    /// When it exists already and holds a result, or cannot be written.
    pub fn create(path: &Path, manifest: &Manifest) -> Result<Self> {
        if path.join(MANIFEST).exists() {
            bail!("{} holds a result already: choose another -o, or finish it with --resume", path.display());
        }
        std::fs::create_dir_all(path.join("samples"))
            .with_context(|| format!("{} cannot be written: choose another -o", path.display()))?;
        let runs = File::create_new(path.join(RUNS)).with_context(|| format!("{}", path.join(RUNS).display()))?;
        let dir = Self { path: path.into(), runs };
        dir.write_manifest(manifest)?;
        Ok(dir)
    }

    /// Opens one that was begun, to go on with it; gives its manifest and the runs it holds.
    ///
    /// # Errors
    /// When it is no result directory or was written by a newer version.
    pub fn resume(path: &Path) -> Result<(Self, Manifest, Vec<RunRecord>)> {
        let (manifest, records) = Self::read(path)?;
        // A line cut off in the middle is dropped, so that the next record begins on a line of its own.
        let whole: String = records.iter().map(|r| Ok(serde_json::to_string(r)? + "\n")).collect::<Result<_>>()?;
        let runs_path = path.join(RUNS);
        let fresh = path.join("runs.jsonl.new");
        std::fs::write(&fresh, whole)
            .and_then(|()| std::fs::rename(&fresh, &runs_path))
            .with_context(|| format!("{} cannot be written", runs_path.display()))?;
        let runs = OpenOptions::new().append(true).open(&runs_path)?;
        Ok((Self { path: path.into(), runs }, manifest, records))
    }

    /// Reads manifest and runs.
    ///
    /// # Errors
    /// Names the file and the line that is not understood. An unfinished last line is left out.
    pub fn read(path: &Path) -> Result<(Manifest, Vec<RunRecord>)> {
        let manifest_path = path.join(MANIFEST);
        let text = std::fs::read_to_string(&manifest_path).with_context(|| {
            format!(
                "{} is no result directory, as `fragbench run -o DIR` writes one: {} cannot be read",
                path.display(),
                manifest_path.display()
            )
        })?;
        let version: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", manifest_path.display()))?;
        match version.get("schema").and_then(serde_json::Value::as_u64) {
            Some(schema) if schema <= u64::from(SCHEMA) => {}
            other => bail!(
                "{}: schema {other:?}, this program knows up to {SCHEMA}: use the version that wrote it or a newer one",
                manifest_path.display()
            ),
        }
        let manifest: Manifest = serde_json::from_value(version)
            .with_context(|| format!("{} is not understood", manifest_path.display()))?;
        let runs_path = path.join(RUNS);
        let file = File::open(&runs_path).with_context(|| format!("{}", runs_path.display()))?;
        let lines: Vec<String> = BufReader::new(file).lines().collect::<Result<_, _>>()?;
        let mut records = Vec::with_capacity(lines.len());
        for (number, line) in lines.iter().enumerate() {
            match serde_json::from_str(line) {
                Ok(record) => records.push(record),
                Err(error) if number + 1 == lines.len() && error.is_eof() => {}
                Err(error) => bail!("{}:{}: {error}", runs_path.display(), number + 1),
            }
        }
        Ok((manifest, records))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the manifest (again).
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.write(MANIFEST, serde_json::to_string_pretty(manifest)?.as_bytes())
    }

    /// Writes a file of the report, making its folder.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, relative: &str, bytes: &[u8]) -> Result<()> {
        write_below(&self.path, relative, bytes)
    }

    /// Keeps a run: its samples first, then its line.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn append(&mut self, record: &mut RunRecord, samples: &[Sample]) -> Result<()> {
        if !samples.is_empty() {
            let name = format!("samples/{:05}.csv.zst", record.run);
            self.write(&name, &encode_samples(samples)?)?;
            record.samples = Some(name);
        }
        let mut line = serde_json::to_string(record)?;
        line.push('\n');
        self.runs.write_all(line.as_bytes()).context("runs.jsonl cannot be written")?;
        Ok(())
    }
}

/// Writes a file below a directory, making its folder; it appears whole or not at all.
fn write_below(dir: &Path, relative: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(relative);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    let fresh = path.with_added_extension("new");
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, &path))
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn encode_samples(samples: &[Sample]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(zstd::Encoder::new(Vec::new(), 3)?);
    for sample in samples {
        writer.serialize(sample)?;
    }
    let encoder = writer.into_inner().map_err(|e| anyhow::anyhow!("{e}"))?;
    Ok(encoder.finish()?)
}

impl ResultDir {
    /// Samples of one run of a result directory.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn samples(path: &Path, record: &RunRecord) -> Result<Vec<Sample>> {
        let Some(name) = &record.samples else { return Ok(Vec::new()) };
        let file = path.join(name);
        let reader = zstd::Decoder::new(File::open(&file).with_context(|| format!("{}", file.display()))?)?;
        csv::Reader::from_reader(reader)
            .deserialize()
            .collect::<Result<_, _>>()
            .with_context(|| format!("{} is not understood", file.display()))
    }
}

/// What a result that is begun is about.
pub struct Conditions<'a> {
    /// How it is concluded.
    pub kind: ResultKind,
    /// Name of the preset of options.
    pub profile: &'a str,
    /// Programs that take part, by name.
    pub programs: &'a [(&'a str, &'a Path)],
    /// What all runs have in common.
    pub common: Common,
    /// What a run may take.
    pub limits: RunLimits,
    /// Share from which on a difference counts as relevant.
    pub relevant: f64,
    /// What it is a shard of.
    pub part: Option<Part>,
}

/// Notes in the manifest which version each preloaded allocator said it is, where its runs have told.
pub fn note_versions(manifest: &mut Manifest, records: &[RunRecord]) {
    for library in manifest.libraries.iter_mut().filter(|library| library.version.is_none()) {
        let mut answers =
            records.iter().filter(|r| r.allocator == library.name).filter_map(|r| Some(&r.proof.as_ref()?.version));
        library.version = answers.find(|version| !version.is_empty()).cloned();
    }
}

/// The manifest of a result that is begun on this machine now.
pub fn new_manifest(conditions: Conditions, plan: Plan) -> Manifest {
    let left_out = crate::command::left_out(&plan.cells);
    let Conditions { kind, profile, programs, common, limits, relevant, part } = conditions;
    let mut libraries: Vec<LibraryFact> = programs.iter().map(|(name, path)| library_fact(name, path, None)).collect();
    libraries.extend(own_libc());
    for allocator in plan.cells.iter().map(|cell| &cell.allocator) {
        let file = allocator.library.as_ref().or(allocator.libc.as_ref().map(|libc| &libc.file));
        // A library under the system's glibc is no allocator of that name, it only trims.
        let trims = allocator.library.is_some() && allocator.kind == AllocatorKind::Glibc;
        let name = if trims { "trim" } else { allocator.name.as_str() };
        if let Some(path) = file
            && !libraries.iter().any(|known| known.name == name)
        {
            let version = allocator.libc.as_ref().map(|libc| libc.version.clone());
            libraries.push(library_fact(name, path, version));
        }
    }
    Manifest {
        schema: SCHEMA,
        command: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("FRAGBENCH_REVISION").map(str::to_owned),
        started_unix_s: unix_now(),
        ended_unix_s: None,
        host: host(),
        libraries,
        sample_interval_ns: limits.sample_interval_ns,
        mem_limit_bytes: limits.mem_limit_bytes,
        timeout_s: limits.timeout.as_secs(),
        relevant,
        profile: profile.to_owned(),
        kind: Some(kind),
        search: None,
        memory: None,
        remedies: Vec::new(),
        common,
        plan,
        aa: Vec::new(),
        huge_pages: Vec::new(),
        recordings: Vec::new(),
        profiles: Vec::new(),
        part,
        left_out,
        machines: Vec::new(),
    }
}

/// Seconds since the epoch.
pub fn unix_now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs())
}

/// `fragbench-results/` and this name of a moment, the first that is free.
pub fn default_directory(moment: &str) -> PathBuf {
    let base = Path::new("fragbench-results");
    let further = (2..).map(|n| base.join(format!("{moment}-{n}")));
    let mut places = std::iter::once(base.join(moment)).chain(further);
    places.find(|dir| !dir.exists()).unwrap_or_else(|| base.join(moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        serde_json::from_value(serde_json::json!({
            "schema": SCHEMA, "command": [], "version": "0", "revision": null, "started_unix_s": 0, "ended_unix_s": null,
            "host": { "kernel": "k", "cpus": 1 }, "libraries": [], "sample_interval_ns": 1, "mem_limit_bytes": 1,
            "timeout_s": 1, "profile": "quick", "plan": { "seed": 1, "cells": [], "runs": [] }, "aa": [],
            "common": { "schema": SCHEMA, "workload": { "kind": "named", "name": "w", "parameters": {} },
                "threads": null, "seed": 1, "scale": 1.0, "touch": "page", "thp": false, "latency_every": 0,
                "idle_ms": 0, "epilogue": true }
        }))
        .unwrap()
    }

    fn record(run: u32) -> RunRecord {
        serde_json::from_value(serde_json::json!({
            "schema": SCHEMA, "run": run, "workload": "w", "allocator": "glibc", "settings": {}, "repetition": 0,
            "aa": false, "status": "ok", "started_unix_s": 0, "attempt": 1, "environment": {}, "proof": null,
            "metrics": {}, "phases": [], "done": null, "load": {}, "sampler_cpu_ratio": null, "samples": null,
            "cautions": []
        }))
        .unwrap()
    }

    #[test]
    fn samples_come_back_and_a_line_cut_off_is_run_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let sample = Sample {
            at_ns: 1,
            vm_bytes: 2,
            rss_bytes: 3,
            heap_rss_bytes: 4,
            live_bytes: Some(-5),
            processes: Some(6),
            ..Sample::default()
        };
        let mut results = ResultDir::create(&path, &manifest()).unwrap();
        results.append(&mut record(0), &[sample]).unwrap();
        results.append(&mut record(1), &[]).unwrap();
        assert!(ResultDir::create(&path, &manifest()).is_err_and(|e| e.to_string().contains("--resume")));
        // As a process that was killed while it wrote leaves it.
        let text = std::fs::read_to_string(path.join(RUNS)).unwrap();
        std::fs::write(path.join(RUNS), &text[..text.len() - 20]).unwrap();

        let (mut results, _, records) = ResultDir::resume(&path).unwrap();
        assert_eq!(records.iter().map(|r| r.run).collect::<Vec<_>>(), [0]);
        assert_eq!(ResultDir::samples(&path, &records[0]).unwrap(), [sample]);
        results.append(&mut record(1), &[]).unwrap();
        assert_eq!(ResultDir::read(&path).unwrap().1.len(), 2);

        // Damage in the middle is not silently passed over.
        let text = std::fs::read_to_string(path.join(RUNS)).unwrap();
        std::fs::write(path.join(RUNS), text.replacen("\"run\":0", "\"run\":x", 1)).unwrap();
        assert!(ResultDir::read(&path).is_err_and(|e| e.to_string().contains("runs.jsonl:1")));
    }

    #[test]
    fn a_result_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MANIFEST), r#"{"schema": 999}"#).unwrap();
        assert!(ResultDir::read(dir.path()).is_err_and(|e| e.to_string().contains("schema")));
    }
}
