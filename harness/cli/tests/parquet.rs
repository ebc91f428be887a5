//! Results as Parquet, read by DuckDB: what a query says is what `runs.jsonl`, the samples and `summary.json` say.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{arg, json, refuse, runs, succeed};
use fragbench_model::METRICS;
use fragbench_run::ResultDir;
use serde_json::Value;

/// Runs each line of standard input as a query in DuckDB and prints its rows, a JSON object each.
const SCRIPT: &str = "
import duckdb, json, sys
for query in sys.argv[1:]:
    result = duckdb.sql(query)
    print(json.dumps([dict(zip(result.columns, row)) for row in result.fetchall()]))
";

/// A Python that has DuckDB; the first of PATH that does. Says when it skips.
fn python() -> Option<PathBuf> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let has = |python: &PathBuf| {
        Command::new(python).args(["-c", "import duckdb"]).output().is_ok_and(|output| output.status.success())
    };
    let found = std::env::split_paths(&places).map(|dir| dir.join("python3")).find(has);
    if found.is_none() {
        common::skip("no python3 in PATH has the package duckdb");
    }
    found
}

/// Rows of each query, asked in `dir`.
fn query(python: &Path, dir: &Path, queries: &[&str]) -> Vec<Value> {
    let output = Command::new(python).args(["-c", SCRIPT]).args(queries).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", common::stderr(&output));
    common::stdout(&output).lines().map(json).collect()
}

fn rows(table: &Value) -> &[Value] {
    table.as_array().unwrap()
}

#[test]
fn duckdb_reads_what_the_result_holds() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let small = ["--reps", "3", "--threads", "2", "--idle", "1ms", "--scale", "0.02", "--arena-max", "default"];
    // The null allocator is run in the first block only and has no epilogue: its figures have gaps.
    let run = ["run", "mysql/oltp-read-write", "--allocator", "glibc,jemalloc,null", "-o", arg(&out)];
    succeed(&[&run[..], &small].concat());
    // One that failed, as it would be kept; the baseline's copy, which no ratio needs.
    let file = out.join("runs.jsonl");
    let mut records = runs(&out);
    let lost = records.iter_mut().find(|record| record["aa"] == true).unwrap();
    lost["status"] = "failed".into();
    lost["kind"] = "crashed".into();
    lost["reason"] = "it's gone: \"SIGKILL\"".into();
    lost["metrics"] = json("{}");
    std::fs::write(&file, records.iter().map(|record| format!("{record}\n")).collect::<String>()).unwrap();
    let summary = json(&succeed(&["report", arg(&out), "--format", "json"]));
    succeed(&["report", arg(&out), "--format", "parquet"]);

    let ratios = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../run/recipes/ratios.sql")).unwrap();
    let per_run = "SELECT run, count(*) AS n, count(live_bytes) AS live, count(stack_bytes) AS stacks, \
                   max(heap_rss_bytes) AS peak, sum(at_ns)::VARCHAR AS at FROM 'samples.parquet' GROUP BY run ORDER BY run";
    let compression = "SELECT DISTINCT compression FROM parquet_metadata('*.parquet')";
    let tables = query(&python, &out, &["FROM 'runs.parquet'", per_run, &ratios, compression]);

    // A row a run, every figure of it, and a null for each that it has not.
    assert_eq!(rows(&tables[0]).len(), records.len());
    let mut nulls = 0;
    for (row, record) in rows(&tables[0]).iter().zip(&records) {
        for name in
            ["run", "workload", "allocator", "aa", "repetition", "started_unix_s", "attempt", "status", "reason"]
        {
            assert_eq!(row[name], record[name], "{name}");
        }
        assert_eq!(row["failure"], record["kind"]);
        assert_eq!(json(row["settings"].as_str().unwrap()), record["settings"]);
        for metric in METRICS {
            assert!(row.get(metric.name).is_some(), "{} is a column", metric.name);
            assert_eq!(row[metric.name].as_f64(), record["metrics"][metric.name].as_f64(), "{}", metric.name);
            nulls += usize::from(row[metric.name].is_null());
        }
        for name in ["steal_ratio", "foreign_cpu_ratio"] {
            assert_eq!(row[name].as_f64(), record["load"][name].as_f64(), "{name}");
        }
        assert!(row["shard"].is_null());
    }
    assert!(nulls > METRICS.len(), "the failed run has no figure at all, the null allocator's some not: {nulls}");

    // A row a sample.
    let (_, kept) = ResultDir::read(&out).unwrap();
    let mut sampled: Vec<_> =
        kept.iter().map(|record| (record.run, ResultDir::samples(&out, record).unwrap())).collect();
    sampled.sort_by_key(|(run, _)| *run);
    assert_eq!(rows(&tables[1]).len(), sampled.len());
    for (row, (run, samples)) in rows(&tables[1]).iter().zip(&sampled) {
        assert_eq!((row["run"].as_u64(), row["n"].as_u64()), (Some(u64::from(*run)), Some(samples.len() as u64)));
        assert_eq!((row["live"].as_u64(), row["stacks"].as_u64()), (Some(samples.len() as u64), Some(0)));
        assert_eq!(row["peak"].as_u64(), samples.iter().map(|sample| sample.heap_rss_bytes).max());
        assert_eq!(row["at"].as_str(), Some(&*samples.iter().map(|sample| sample.at_ns).sum::<u64>().to_string()));
    }

    // The documented query gives the summary's ratios.
    let mut compared = 0;
    for comparison in summary["comparisons"].as_array().unwrap() {
        let settings: fragbench_model::Settings = serde_json::from_value(comparison["settings"].clone()).unwrap();
        let cell = fragbench_model::label(comparison["allocator"].as_str().unwrap(), &settings);
        let row = rows(&tables[2]).iter().find(|row| row["cell"] == *cell).unwrap_or_else(|| panic!("{cell}"));
        for (column, metric) in [("memory_ratio", "heap_rss_peak_bytes"), ("throughput_ratio", "ops_per_s")] {
            let Some(ratio) = comparison["effects"][metric]["ratio"]["median"].as_f64() else { continue };
            let n = comparison["effects"][metric]["ratio"]["n"].as_u64();
            // Of two ratios the median is a matter of taste.
            if n.is_some_and(|n| n % 2 == 1) && row["blocks"].as_u64() == n {
                assert!((row[column].as_f64().unwrap() / ratio - 1.0).abs() < 1e-9, "{cell}, {metric}: {row} {ratio}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 2, "{compared} of {summary}");
    assert_eq!(rows(&tables[3]), [json(r#"{"compression": "ZSTD"}"#)]);
}

#[test]
fn parquet_goes_where_it_is_told_and_a_figure_of_the_users_is_a_column() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (result, tables) = (dir.path().join("r"), dir.path().join("a/tables"));
    let compare = ["compare", "--allocator", "glibc", "--arena-max", "default", "--reps", "2", "--shard", "2/2"];
    let metric =
        ["--metric", "answer_count=is ([0-9]+)", "-o", arg(&result), "--", "sh", "-c", "echo it is 42; sleep 0.1"];
    succeed(&[&compare[..], &metric].concat());
    succeed(&["report", arg(&result), "--format", "parquet", "-o", arg(&tables)]);
    assert!(!result.join("runs.parquet").exists());
    let queries = ["SELECT answer_count, shard, ops_per_s FROM 'runs.parquet'", "FROM 'samples.parquet' LIMIT 1"];
    let found = query(&python, &tables, &queries);
    let row = json(r#"{"answer_count": 42.0, "shard": 2, "ops_per_s": null}"#);
    assert_eq!(rows(&found[0]), [row.clone(), row]);
    let sample = &rows(&found[1])[0];
    assert!(sample["live_bytes"].is_null() && sample["processes"].is_number(), "a command tells no live bytes");

    refuse(2, &["report", arg(&result), "-o", arg(&tables)], &["--output", "--format parquet"]);
    refuse(1, &["report", arg(&tables), "--format", "parquet"], &["no result directory"]);
}
