//! The measured process. It reads one run specification, one line of JSON, from standard input, runs it and speaks
//! messages on standard output (see `fragbench_model::Message`). `--describe` prints what it can run, `--check` reads a
//! specification and says whether it would be run. It refuses anything else on its command line.

mod catalogue;
mod empty;
mod sys;

use std::process::ExitCode;

use fragbench_engine::{OffHeap, Workload, fail, read_line, refuse, serve};
use fragbench_model::WorkerErrorKind;
use fragbench_model::{RunSpec, SCHEMA, WorkerError};

/// What the harness itself allocates stays out of the heap under test.
#[global_allocator]
static HARNESS: OffHeap = OffHeap;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let (spec, mut workload) = read().unwrap_or_else(|error| fail(error));
            serve(&spec, &mut *workload);
            ExitCode::SUCCESS
        }
        ["--check"] => match read() {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail(error),
        },
        ["--describe"] => match serde_json::to_string_pretty(&catalogue::describe()) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(refuse(WorkerErrorKind::Internal, error.to_string())),
        },
        _ => {
            eprintln!("usage: fragbench-worker [--describe | --check]\nIt is started by `fragbench run`.");
            ExitCode::from(2)
        }
    }
}

/// The specification on standard input, and its work.
fn read() -> Result<(RunSpec, Box<dyn Workload>), WorkerError> {
    let line = read_line().ok_or_else(|| {
        refuse(WorkerErrorKind::BadSpec, "standard input holds no run specification; fragbench run writes one")
    })?;
    let spec = parse(&line)?;
    let workload = catalogue::build(&spec)?;
    Ok((spec, workload))
}

/// Checks what the parent wrote.
fn parse(line: &str) -> Result<RunSpec, WorkerError> {
    let value: serde_json::Value = serde_json::from_str(line)
        .map_err(|error| refuse(WorkerErrorKind::BadSpec, format!("the run specification is not JSON: {error}")))?;
    // The schema is looked at first: fields of another one may be called differently.
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => {
            let text = format!("the run specification has schema {schema}, this worker speaks {SCHEMA}; rebuild both");
            return Err(refuse(WorkerErrorKind::BadSpec, text));
        }
        None => return Err(refuse(WorkerErrorKind::BadSpec, "the run specification has no schema")),
    }
    let spec: RunSpec = serde_json::from_value(value)
        .map_err(|error| refuse(WorkerErrorKind::BadSpec, format!("the run specification cannot be read: {error}")))?;
    if !(spec.driver.scale.is_finite() && spec.driver.scale > 0.0 && spec.driver.scale <= 1e6) {
        return Err(refuse(
            WorkerErrorKind::BadSpec,
            format!("scale {} must lie above 0 and be at most 1000000", spec.driver.scale),
        ));
    }
    if spec.driver.threads == Some(0) {
        return Err(refuse(WorkerErrorKind::BadSpec, "0 threads do no work; ask for at least 1"));
    }
    Ok(spec)
}
