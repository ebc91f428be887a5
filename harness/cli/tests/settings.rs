//! Settings prove themselves: what an allocator ignores is never a figure under its name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{arg, runs, succeed};

#[test]
fn a_setting_that_is_not_in_force_fails_its_cell_and_says_what_is() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let library = std::path::Path::new(env!("CARGO_BIN_EXE_fragbench")).with_file_name("libfragbench_jemalloc.so");
    let own = format!("glibc,jemalloc,mimalloc,own={}", library.display());
    let mut line = vec!["run", "mysql/oltp-read-write", "--arena-max", "default,1", "--allocator", &own];
    for setting in [
        "MALLOC_MMAP_MAX_=99999999999",
        "MALLOC_TRIM_THRESHOLD_=131073",
        "MALLOC_CONF=tcache_max:99999999999",
        "MALLOC_CONF=narenas:3,thp:never,dirty_decay_ms:0",
        "MIMALLOC_PURGE_DELAY=0",
    ] {
        line.extend(["--setting", setting]);
    }
    line.extend(["--reps", "1", "--scale", "0.02", "--idle", "1ms", "-o", arg(&out)]);
    succeed(&line);
    let records = runs(&out);
    let of = |allocator: &str, key: &str, value: &str| {
        let found = records
            .iter()
            .find(|r| r["allocator"] == allocator && r["settings"][key].as_str().is_some_and(|v| v.starts_with(value)));
        found.unwrap_or_else(|| panic!("{allocator} {key}={value}"))
    };
    for (allocator, key, value, told) in [
        ("glibc", "MALLOC_MMAP_MAX_", "9", "mmap_max was asked for as 99999999999, but 65536 is in force"),
        ("jemalloc", "MALLOC_CONF", "tcache", "opt.tcache_max was asked for as 99999999999"),
        ("own", "MALLOC_CONF", "tcache", "opt.tcache_max was asked for as 99999999999"),
    ] {
        let record = of(allocator, key, value);
        assert_eq!((&record["status"], &record["kind"]), (&"failed".into(), &"not_in_place".into()), "{record}");
        assert!(record["reason"].as_str().unwrap().contains(told), "{record}");
        assert_eq!(record["metrics"], serde_json::json!({}), "no figure under its name");
    }
    for (allocator, key, value, effective, in_force) in [
        ("glibc", "MALLOC_ARENA_MAX", "1", "arena_max", "1"),
        ("glibc", "MALLOC_TRIM_THRESHOLD_", "131073", "trim_threshold", "131073"),
        ("jemalloc", "MALLOC_CONF", "narenas", "opt.narenas", "3"),
        ("own", "MALLOC_CONF", "narenas", "opt.thp", "never"),
        ("mimalloc", "MIMALLOC_PURGE_DELAY", "0", "purge_delay", "0"),
    ] {
        let record = of(allocator, key, value);
        assert_eq!((&record["status"], &record["proof"]["effective"][effective]), (&"ok".into(), &in_force.into()));
    }
}

#[test]
fn what_jemalloc_says_it_ignores_fails_the_cell_in_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let library = std::path::Path::new(env!("CARGO_BIN_EXE_fragbench")).with_file_name("libfragbench_jemalloc.so");
    let own = format!("glibc,own={}", library.display());
    let line = ["run", "mysql/oltp-read-write", "--arena-max", "default", "--allocator", &own, "--reps", "1"];
    let more = ["--setting", "MALLOC_CONF=nosuch:1", "--scale", "0.02", "--idle", "1ms", "-o", arg(&out)];
    succeed(&[&line[..], &more].concat());
    let records = runs(&out);
    let record = records.iter().find(|r| r["settings"].get("MALLOC_CONF").is_some()).unwrap();
    assert_eq!(record["kind"], "not_in_place", "{record}");
    assert!(record["reason"].as_str().unwrap().contains("<jemalloc>: Invalid conf pair: nosuch:1"), "{record}");
}
