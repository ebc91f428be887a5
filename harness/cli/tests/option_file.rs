//! A server's option file sizes the modelled server: realistic files give visibly different runs, and what is wrong in
//! one is named with its file and line.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};

use common::{arg, json, refuse, succeed, succeed_in};

fn option_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/option_files").join(name)
}

/// Peak live and heap memory of a short run of a modelled workload with this option file.
fn peaks(workload: &str, file: &str) -> (f64, f64) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let file = option_file(file);
    // The server's working directory, which names of included files are relative to.
    let text = succeed_in(
        file.parent().unwrap(),
        &[
            "run",
            workload,
            "--my-cnf",
            arg(&file),
            "--allocator",
            "glibc",
            "--arena-max",
            "default",
            "--reps",
            "1",
            "--scale",
            "0.05",
            "--format",
            "json",
            "-o",
            arg(&out),
        ],
    );
    let metrics = json(&text)["cells"][0]["metrics"].clone();
    let median = |name: &str| metrics[name]["median"].as_f64().unwrap();
    (median("live_peak_bytes"), median("heap_rss_peak_bytes"))
}

#[test]
fn realistic_files_give_visibly_different_runs() {
    // Sorts take what sort_buffer_size allows: 256K, 4M, 8M.
    let [vps, replica, large] =
        ["small-vps.cnf", "replica.cnf", "server-64-cores.cnf"].map(|file| peaks("mysql/sort-spill", file));
    assert!(vps.0 * 4.0 < replica.0 && replica.0 * 1.5 < large.0, "{vps:?} {replica:?} {large:?}");
    assert!(vps.1 * 4.0 < replica.1 && replica.1 * 1.5 < large.1, "{vps:?} {replica:?} {large:?}");
    // Only the replica applies in parallel, from long queues.
    let [replica, large] = ["replica.cnf", "server-64-cores.cnf"].map(|file| peaks("mysql/replication-apply", file));
    assert!(large.0 * 2.0 < replica.0 && large.1 * 2.0 < replica.1, "{replica:?} {large:?}");
    // Twenty sessions instead of sixty.
    let [vps, replica] = ["small-vps.cnf", "replica.cnf"].map(|file| peaks("mysql/oltp-read-write", file));
    assert!(vps.0 * 1.5 < replica.0, "{vps:?} {replica:?}");
}

/// Debian's own option files, where its server is installed.
#[test]
fn debians_own_files_are_read_without_a_word() {
    let file = Path::new("/etc/mysql/mariadb.cnf");
    if !file.is_file() {
        return common::skip("mariadb-server is not installed, which brings /etc/mysql/mariadb.cnf");
    }
    let output = common::run(&["run", "mysql", "--my-cnf", arg(file), "--dry-run"]);
    assert!(output.status.success(), "{}", common::stderr(&output));
    assert_eq!(common::stderr(&output), "");
}

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.cnf");
    std::fs::write(&file, text).unwrap();
    (dir, file)
}

#[test]
fn what_the_server_refuses_names_the_variable_the_file_and_the_line() {
    for (text, words) in [
        ("[mysqld]\nsort_buffer_size = lots\n", ["my.cnf:2: sort_buffer_size=lots", "16K"]),
        (
            "[mysqld]\n\nskip-name-resolve\nnet-buffer-length=-1\n",
            ["my.cnf:4: net-buffer-length=-1", "1024 to 1048576"],
        ),
        ("[mysqld]\nsort_buffer_size\n", ["my.cnf:2: sort_buffer_size: it takes a value", "refuses"]),
        ("[mysqld\nsort_buffer_size=1M\n", ["my.cnf:1: ", "bracket"]),
        ("sort_buffer_size=1M\n", ["my.cnf:1: ", "[mysqld]"]),
        ("[mysqld]\n!includedir /nowhere\n", ["/nowhere", "my.cnf:2"]),
    ] {
        let (_dir, file) = written(text);
        refuse(2, &["run", "mysql/oltp-read-write", "--my-cnf", arg(&file), "--dry-run"], &words);
    }
    refuse(2, &["run", "mysql", "--my-cnf", "/nowhere/my.cnf"], &["/nowhere/my.cnf"]);
    refuse(2, &["run", "empty", "--my-cnf", "/etc/passwd"], &["--my-cnf", "mysql"]);
}

/// What the server adjusts, or passes over, is so here, with a word; the worker takes what came of it.
#[test]
fn what_the_server_adjusts_is_adjusted() {
    for (flavor, text, name, value, said) in [
        ("mariadb", "net-buffer-length=99G", "net_buffer_length", "1048576", "106300440576 adjusted to 1048576"),
        ("mysql", "sort_buffer_size=-1", "sort_buffer_size", "32768", "-1 adjusted to 32768"),
        ("mariadb-11.8", "performance_schema=perhaps", "performance_schema", "OFF", "neither ON nor OFF"),
        (
            "mysql-9.7",
            "tmp_table_size=8G\n!include nowhere.cnf",
            "tmp_memory_table_size",
            "8589934592",
            "my.cnf:3: !include",
        ),
        ("mariadb", "table_cache=1", "table_open_cache", "1", ""),
        ("mysql", "log_bin=OFF\n[mysqld-8.0]\nlog_bin=x", "log_bin", "ON", "[mysqld-8.0]"),
    ] {
        let (_dir, file) = written(&format!("[mysqld]\n{text}\n"));
        let dry = ["run", "mysql/connection-storm", "--my-cnf", arg(&file), "--flavor", flavor, "--dry-run"];
        let output = common::run(&[&dry[..], &["--format", "json"]].concat());
        assert!(
            output.status.success() && common::stderr(&output).contains(said),
            "{text}: {}",
            common::stderr(&output)
        );
        let parameters = json(&common::stdout(&output))["cells"][0]["workload"]["parameters"].clone();
        assert_eq!(parameters[name], value, "{text}: {parameters}");
    }
}

#[test]
fn unknown_variables_are_named_and_the_run_goes_on() {
    let (_dir, file) = written("[mysqld]\nsort_bufer_size=1M\ndatadir=/var/lib/mysql\n");
    let output = common::run(&["run", "mysql/oltp-read-write", "--my-cnf", arg(&file), "--dry-run"]);
    assert!(output.status.success());
    let said = common::stderr(&output);
    assert!(said.contains("my.cnf:2") && said.contains("`sort_buffer_size`"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn the_command_line_goes_before_the_file() {
    let (_dir, file) = written("[mysqld]\nsort_buffer_size=8M\n");
    let run = ["run", "mysql/oltp-read-write", "--my-cnf", arg(&file), "--set", "sort_buffer_size=1M"];
    let plan = json(&succeed(&[&run[..], &["--dry-run", "--format", "json"]].concat()));
    assert_eq!(plan["cells"][0]["workload"]["parameters"]["sort_buffer_size"], "1M", "{plan}");
}

/// `--cores` stands for glibc's default arena limit on a larger machine; it is no setting of its own.
#[test]
fn cores_set_the_default_arena_limit() {
    let plan = json(&succeed(&["run", "empty", "--cores", "64", "--dry-run", "--format", "json"]));
    let limits: Vec<(String, bool)> = plan["cells"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|cell| cell["allocator"]["name"] == "glibc")
        .map(|cell| {
            let limit = cell["allocator"]["environment"]["MALLOC_ARENA_MAX"].as_str().unwrap().to_owned();
            (limit, cell["allocator"]["settings"].as_object().unwrap().is_empty())
        })
        .collect();
    // The default of the system's glibc: eight a core up to 2.43.
    let version =
        String::from_utf8(std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output().unwrap().stdout);
    let minor: u32 = version.unwrap().trim().rsplit('.').next().unwrap().parse().unwrap();
    assert_eq!(limits[0], (if minor < 44 { "512" } else { "64" }.into(), true));
    assert_eq!(limits[1..4].iter().map(|l| l.0.as_str()).collect::<Vec<_>>(), ["1", "2", "4"]);
    refuse(2, &["run", "empty", "--cores", "64", "--allocator", "jemalloc"], &["--cores", "glibc"]);
    refuse(2, &["run", "empty", "--cores", "0"], &["--cores"]);
}
