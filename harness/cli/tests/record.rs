//! `fragbench record` then `fragbench replay` on programs nobody prepared.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{arg, fragbench, json, program, run, runs, stderr, succeed};

/// Checks a trace and replays it under three allocators.
fn check(trace: &Path, least_events: u64) {
    let info = json(&String::from_utf8(run(&["trace", "info", arg(trace), "--format", "json"]).stdout).unwrap());
    assert!(info["events"].as_u64().unwrap() >= least_events, "{info}");
    assert!(info["peak_live_bytes"].as_u64().unwrap() > 0, "{info}");
    assert_eq!(info["totals"]["unresolved"], 0, "{info}");
    let stat = json(&succeed(&["trace", "stat", arg(trace), "--format", "json"]));
    assert_eq!(stat["events"], info["events"]);
    assert_eq!(stat["live_peak_bytes"], info["peak_live_bytes"]);
    let out = trace.with_extension("result");
    let text = succeed(&[
        "replay",
        arg(trace),
        "--allocator",
        "glibc,jemalloc,mimalloc",
        "--arena-max",
        "default",
        "--reps",
        "1",
        "--idle",
        "1ms",
        "-o",
        arg(&out),
        "--format",
        "json",
    ]);
    let summary = json(&text);
    // What another malloc was recorded with is one more cell, since that is what is run today.
    let provider = info["recorded_on"]["malloc"]["name"].as_str().unwrap_or("libc.so.6");
    let own = usize::from(!provider.starts_with("libc"));
    assert_eq!(summary["cells"].as_array().unwrap().len(), 3 + own, "{provider}");
    let weighing = &summary["verdict"]["weighing"];
    if info["recorded_on"]["cpu_us"].as_u64().is_some_and(|cpu_us| cpu_us > 0) {
        let used = info["recorded_on"]["cpu_us"].as_f64().unwrap() / 1e6;
        assert_eq!(weighing["by"], "server_time", "the recording tells the price: {weighing}");
        assert!((weighing["cpu_s"].as_f64().unwrap() - used).abs() < 1e-6, "{weighing} {used}");
    }
    for record in runs(&out) {
        assert_eq!(record["status"], "ok", "{record}");
        assert_eq!(record["done"]["live_end_bytes"], info["live_end_bytes"], "{record}");
    }
}

/// Records a command that ends by itself.
fn record(command: &[&str], least_events: u64) {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("program.fbt");
    let mut arguments = vec!["record", "-o", arg(&trace), "--"];
    arguments.extend(command);
    succeed(&arguments);
    check(&trace, least_events);
}

#[test]
fn python() {
    if program("python3").is_some() {
        // Not a shim that only starts the real interpreter.
        let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
        record(
            &[
                python,
                "-c",
                "import json; d = [{'a': i, 'b': str(i) * 9} for i in range(20000)]; json.loads(json.dumps(d))",
            ],
            1000,
        );
    }
}

#[test]
fn sqlite() {
    if program("sqlite3").is_some() {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                   SELECT length(group_concat(printf('%d-%s', i, hex(randomblob(8))))) FROM n;";
        record(&["sqlite3", ":memory:", sql], 10_000);
    }
}

#[test]
fn gcc() {
    if program("gcc").is_some() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a.c");
        std::fs::write(&source, "#include <stdio.h>\n#include <stdlib.h>\nint main(void) { puts(\"x\"); return 0; }")
            .unwrap();
        let trace = dir.path().join("gcc.fbt");
        let object = dir.path().join("a.o");
        succeed(&["record", "-o", arg(&trace), "--", "gcc", "-O2", "-c", "-o", arg(&object), arg(&source)]);
        check(&trace, 100);
        // The compiler proper is a child of the driver.
        let mut children: Vec<_> = std::fs::read_dir(dir.path().join("gcc.fbt.children"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        children.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
        check(&children[0], 1000);
    }
}

/// Ends a recording as a service manager would and waits for the trace.
fn terminate(recorder: Child) {
    assert!(Command::new("kill").args(["-TERM", &recorder.id().to_string()]).status().unwrap().success());
    let output = recorder.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn redis() {
    if program("redis-server").is_none() || program("redis-benchmark").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("redis.fbt");
    let socket = dir.path().join("redis.sock");
    // Debian's redis is linked with jemalloc, through which its calls go on.
    let recorder = fragbench()
        .args([
            "record",
            "-o",
            arg(&trace),
            "--",
            "redis-server",
            "--port",
            "0",
            "--save",
            "",
            "--unixsocket",
            arg(&socket),
        ])
        .args(["--dir", arg(dir.path())])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let benchmark = || {
        Command::new("redis-benchmark")
            .args(["-s", arg(&socket), "-n", "2000", "-c", "4", "-q", "-t", "set,get,lpush"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    while !(socket.exists() && benchmark()) {
        std::thread::yield_now();
    }
    terminate(recorder);
    check(&trace, 10_000);
}

#[test]
fn mariadb() {
    let (Some(server), Some(installer), Some(client)) =
        (program("mariadbd"), program("mariadb-install-db"), program("mariadb"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let socket = dir.path().join("s");
    let install = Command::new(installer)
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
        .arg(format!("--datadir={}", data.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(install.success());
    let trace = dir.path().join("mariadb.fbt");
    let recorder = fragbench()
        .args(["record", "-o", arg(&trace), "--end-at-signal", "--", arg(&server), "--no-defaults", "--user=root"])
        .args(["--skip-networking", "--innodb-buffer-pool-size=32M", "--skip-grant-tables"])
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", dir.path().join("pid").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let query = |sql: &str| {
        Command::new(&client)
            .args(["--no-defaults", "-u", "root", "-e", sql])
            .arg(format!("--socket={}", socket.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    while !query("SELECT 1") {
        std::thread::yield_now();
    }
    assert!(query(
        "CREATE DATABASE d; USE d; CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(200));
         INSERT INTO t SELECT seq, REPEAT('x', seq % 200) FROM seq_1_to_2000;
         SELECT LENGTH(GROUP_CONCAT(b)) FROM t GROUP BY a % 7 ORDER BY 1"
    ));
    terminate(recorder);
    check(&trace, 10_000);
}
