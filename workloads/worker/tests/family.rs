//! Every workload of the modelled server, run by the real worker at a small scale: with each flavor and several numbers
//! of sessions, two runs with one seed must make the same blocks, whatever the scheduler does.

// A test may end by panicking, its helpers as well.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command as Process, Stdio};

use fragbench_model::{
    Command, Description, Done, Driver, Message, Pace, RunSpec, SCHEMA, Touch, WorkloadFact, WorkloadSpec,
};

const WORKER: &str = env!("CARGO_BIN_EXE_fragbench-worker");
const FAMILY: &str = "mysql/";

fn facts() -> Vec<WorkloadFact> {
    let output = Process::new(WORKER).arg("--describe").output().unwrap();
    let facts: Description = serde_json::from_slice(&output.stdout).unwrap();
    facts.workloads.into_iter().filter(|fact| fact.name.starts_with(FAMILY)).collect()
}

/// Runs a workload to its end, epilogue included; with the phases it had.
fn run(name: &str, threads: u32, seed: u64, given: &[(&str, &str)]) -> (Done, Vec<String>) {
    let parameters: BTreeMap<_, _> = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let spec = RunSpec {
        schema: SCHEMA,
        workload: WorkloadSpec::Named { name: name.to_owned(), parameters, pace: Pace::Fast },
        seed,
        idle_ms: 1,
        driver: Driver {
            threads: Some(threads),
            scale: 0.05,
            touch: Touch::Header,
            latency_every: 0,
            ..Driver::default()
        },
    };
    let mut child = Process::new(WORKER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    writeln!(input, "{}", serde_json::to_string(&spec).unwrap()).unwrap();
    let mut phases = Vec::new();
    for line in output.lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Message::Hello(hello) => assert_eq!(hello.schema, SCHEMA),
            Message::Phase { name, .. } => {
                phases.push(name);
                continue;
            }
            Message::Barrier { .. } => {}
            Message::Done(done) => {
                assert!(child.wait().unwrap().success());
                return (done, phases);
            }
            other => panic!("{name} with {threads} threads and {given:?}: {other:?}"),
        }
        writeln!(input, "{}", serde_json::to_string(&Command::Continue).unwrap()).unwrap();
    }
    panic!("{name} with {threads} threads and {given:?} ended without a word");
}

#[test]
fn one_seed_makes_the_same_blocks_in_every_workload_and_flavor() {
    for fact in facts() {
        for flavor in ["mariadb", "mysql"] {
            for threads in [1, 3, 16] {
                let given = [("flavor", flavor)];
                let (first, phases) = run(&fact.name, threads, 1, &given);
                let (again, _) = run(&fact.name, threads, 1, &given);
                let what = |done: &Done| (done.checksum, done.ops, done.live_end_bytes, done.threads_started);
                assert_eq!(what(&first), what(&again), "{} under {flavor} with {threads} threads", fact.name);
                assert!(first.ops > 20, "{} under {flavor} does next to nothing", fact.name);
                for phase in ["peak", "idle", "resume"] {
                    assert!(phases.iter().any(|name| name == phase), "{} has no phase {phase}: {phases:?}", fact.name);
                }
            }
        }
    }
}

#[test]
fn another_seed_and_another_flavor_make_other_blocks() {
    for fact in facts() {
        let checksum = |seed, flavor| run(&fact.name, 3, seed, &[("flavor", flavor)]).0.checksum;
        let (one, other, mysql) = (checksum(1, "mariadb"), checksum(2, "mariadb"), checksum(1, "mysql"));
        assert_ne!(one, other, "{}: the seed", fact.name);
        assert_ne!(one, mysql, "{}: the flavor", fact.name);
    }
}

/// Variables that change what a workload asks for. Each must: a parameter that does nothing misleads.
#[test]
fn a_servers_variable_changes_what_is_asked_for() {
    for (name, variable, value) in [
        ("sort-spill", "sort_buffer_size", "128K"),
        ("temp-table", "tmp_table_size", "1M"),
        ("temp-table", "max_heap_table_size", "1M"),
        ("string-grow", "group_concat_max_len", "1K"),
        ("string-grow", "net_buffer_length", "32K"),
        ("string-grow", "query_alloc_block_size", "8K"),
        ("string-grow", "transaction_alloc_block_size", "16K"),
        ("prepared-statement-churn", "query_prealloc_size", "8K"),
        ("prepared-statement-churn", "sort_buffer_size", "256K"),
        ("table-cache-churn", "table_open_cache", "12"),
        ("nightly-dump", "range_alloc_block_size", "16K"),
        ("sort-spill", "thread_cache_size", "1"),
        ("replication-apply", "binlog_row_event_max_size", "1K"),
        ("replication-apply", "slave_parallel_max_queued", "8M"),
        ("fulltext-burst", "innodb_ft_result_cache_limit", "1M"),
        ("mixed-day", "performance_schema", "ON"),
        ("oltp-read-write", "table_open_cache", "6"),
    ] {
        let name = format!("{FAMILY}{name}");
        let what = |given: &[(&str, &str)]| {
            let (done, _) = run(&name, 3, 1, given);
            (done.checksum, done.ops, done.live_end_bytes)
        };
        assert_ne!(what(&[]), what(&[(variable, value)]), "{name}: {variable}={value}");
    }
}

/// A default that depends on the flavor is told beside it.
#[test]
fn a_parameter_tells_mysqls_default_where_it_differs() {
    for fact in facts() {
        let meaning = |name: &str| fact.parameters.iter().find(|p| p.name == name).map(|p| p.meaning.clone()).unwrap();
        assert!(meaning("sort_buffer_size").ends_with("(mysql: 256K)"), "{}", fact.name);
        assert!(!meaning("net_buffer_length").contains("mysql"), "{}", fact.name);
        assert!(["modelled", "calibrated on a recording"].contains(&fact.fidelity.as_str()), "{}", fact.name);
    }
}
