//! A result as two Parquet tables: `runs.parquet`, a row a run, and `samples.parquet`, a row a sample, joined by `run`.
//!
//! Columns of runs: `run`, `workload`, `allocator`, `settings` (JSON), `cell` (allocator and settings as tables show
//! them), `aa` (the baseline's second copy), `repetition` (the block, from 0), `shard` and `cpu` (of the machine it
//! ran on), `status` (`ok` or `failed`), `failure` and `reason` of a failed one, `cautions` (kinds, separated by commas),
//! `started_unix_s`, `attempt`, `steal_ratio`, `foreign_cpu_ratio`, `sampler_cpu_ratio`, then every metric in the unit that
//! its name ends in, and last the figures that only these workloads have.
//!
//! Columns of samples: `run` and those of [`Sample`], bytes and nanoseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use fragbench_model::{Failure, METRICS, Manifest, RunRecord, RunStatus, Sample, label};
use fragbench_run::ResultDir;

use crate::parquet_file::{self, Column, Values};

/// Writes both tables of the result in `dir` to the directory `out`.
pub(super) fn export(dir: &Path, out: &Path) -> Result<()> {
    let (manifest, records) = ResultDir::read(dir)?;
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be written: choose another -o", out.display()))?;
    let metrics = metrics(&records);
    write(&out.join("runs.parquet"), &run_columns(&metrics), rows(&manifest, &records)?.into_iter().map(Ok))?;
    let samples = records.iter().flat_map(|record| match ResultDir::samples(dir, record) {
        Ok(samples) => samples.into_iter().map(|sample| Ok((record.run, sample))).collect(),
        Err(error) => vec![Err(error)],
    });
    write(&out.join("samples.parquet"), &sample_columns(), samples)
}

/// Writes a table beside its place and then moves it there: it appears whole or not at all.
fn write<R>(path: &Path, columns: &[Column<R>], rows: impl Iterator<Item = Result<R>>) -> Result<()> {
    let unwritable = || format!("{} cannot be written", path.display());
    let fresh = path.with_added_extension("new");
    parquet_file::write(File::create(&fresh).with_context(unwritable)?, columns, rows)?;
    std::fs::rename(&fresh, path).with_context(unwritable)
}

/// Every metric there is, so that files of different results have the same columns, and what only this result has.
fn metrics(records: &[RunRecord]) -> Vec<String> {
    let known: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let own: BTreeSet<&String> = records.iter().flat_map(|record| record.metrics.keys()).collect();
    let own = own.into_iter().map(String::as_str).filter(|name| !known.contains(name));
    known.iter().copied().chain(own).map(str::to_owned).collect()
}

/// A run with what its columns show as text.
struct Row<'a> {
    record: &'a RunRecord,
    settings: String,
    cell: String,
    failure: Option<String>,
    cautions: String,
    shard: Option<i32>,
    cpu: Option<&'a str>,
}

fn rows<'a>(manifest: &'a Manifest, records: &'a [RunRecord]) -> Result<Vec<Row<'a>>> {
    let machines: BTreeMap<u32, _> = manifest
        .machines
        .iter()
        .flat_map(|machine| machine.blocks.iter().map(move |block| (*block, machine)))
        .collect();
    records
        .iter()
        .map(|record| {
            let machine = machines.get(&record.repetition);
            let shard = machine.map(|machine| machine.shard).or(manifest.part.map(|part| part.shard));
            let kinds: BTreeSet<&str> = record.cautions.iter().map(|caution| caution.kind.name()).collect();
            let failure = failure(record).map(|failure| serde_json::to_value(failure.kind)).transpose()?;
            Ok(Row {
                settings: serde_json::to_string(&record.settings)?,
                cell: label(&record.allocator, &record.settings),
                failure: failure.and_then(|kind| kind.as_str().map(str::to_owned)),
                cautions: kinds.into_iter().collect::<Vec<_>>().join(","),
                shard: shard.map(|shard| shard.index() as i32),
                cpu: machine.map_or(&manifest.host, |machine| &machine.host).cpu.as_deref(),
                record,
            })
        })
        .collect()
}

fn failure(record: &RunRecord) -> Option<&Failure> {
    match &record.status {
        RunStatus::Ok => None,
        RunStatus::Failed(failure) => Some(failure),
    }
}

fn run_columns<'a>(metrics: &'a [String]) -> Vec<Column<'a, Row<'a>>> {
    use Values::{Double, Flag, Int, Long, Text};
    let mut columns = vec![
        Column::required("run", Int(Box::new(|row: &Row| Some(row.record.run as i32)))),
        Column::required("workload", Text(Box::new(|row: &Row| Some(&row.record.workload)))),
        Column::required("allocator", Text(Box::new(|row: &Row| Some(&row.record.allocator)))),
        Column::required("settings", Text(Box::new(|row: &Row| Some(&row.settings)))),
        Column::required("cell", Text(Box::new(|row: &Row| Some(&row.cell)))),
        Column::required("aa", Flag(Box::new(|row: &Row| Some(row.record.aa)))),
        Column::required("repetition", Int(Box::new(|row: &Row| Some(row.record.repetition as i32)))),
        Column::optional("shard", Int(Box::new(|row: &Row| row.shard))),
        Column::optional("cpu", Text(Box::new(|row: &Row| row.cpu))),
        Column::required("status", Text(Box::new(|row: &Row| Some(if row.record.is_ok() { "ok" } else { "failed" })))),
        Column::optional("failure", Text(Box::new(|row: &Row| row.failure.as_deref()))),
        Column::optional("reason", Text(Box::new(|row: &Row| Some(failure(row.record)?.reason.as_str())))),
        Column::required("cautions", Text(Box::new(|row: &Row| Some(&row.cautions)))),
        Column::required("started_unix_s", Long(Box::new(|row: &Row| Some(row.record.started_unix_s as i64)))),
        Column::required("attempt", Int(Box::new(|row: &Row| Some(row.record.attempt as i32)))),
        Column::optional("steal_ratio", Double(Box::new(|row: &Row| row.record.load.steal_ratio))),
        Column::optional("foreign_cpu_ratio", Double(Box::new(|row: &Row| row.record.load.foreign_cpu_ratio))),
        Column::optional("sampler_cpu_ratio", Double(Box::new(|row: &Row| row.record.sampler_cpu_ratio))),
    ];
    columns.extend(
        metrics.iter().map(|name| {
            Column::optional(name, Double(Box::new(move |row: &Row| row.record.metrics.get(name).copied())))
        }),
    );
    columns
}

fn sample_columns() -> Vec<Column<'static, (u32, Sample)>> {
    type Row = (u32, Sample);
    let always = |name: &str, value: fn(&Sample) -> u64| {
        Column::required(name, Values::Long(Box::new(move |(_, sample): &Row| Some(value(sample) as i64))))
    };
    let sometimes = |name: &str, value: fn(&Sample) -> Option<i64>| {
        Column::optional(name, Values::Long(Box::new(move |(_, sample): &Row| value(sample))))
    };
    vec![
        Column::required("run", Values::Int(Box::new(|(run, _): &Row| Some(*run as i32)))),
        always("at_ns", |s| s.at_ns),
        always("vm_bytes", |s| s.vm_bytes),
        always("rss_bytes", |s| s.rss_bytes),
        always("heap_rss_bytes", |s| s.heap_rss_bytes),
        sometimes("live_bytes", |s| s.live_bytes),
        sometimes("recorded_ns", |s| s.recorded_ns.and_then(|ns| i64::try_from(ns).ok())),
        sometimes("live_blocks", |s| s.live_blocks),
        sometimes("ops", |s| s.ops.map(|ops| ops as i64)),
        sometimes("stack_bytes", |s| s.stack_bytes.map(|bytes| bytes as i64)),
        sometimes("shared_bytes", |s| s.shared_bytes.map(|bytes| bytes as i64)),
        sometimes("file_bytes", |s| s.file_bytes.map(|bytes| bytes as i64)),
        sometimes("processes", |s| s.processes.map(i64::from)),
    ]
}
