//! `--glibc DIR`: versions of glibc as an axis. The system's own glibc by its directory needs nothing; others are taken
//! from the directories that `FRAGBENCH_GLIBC_DIRS` names, separated by colons, as harness/glibc/fetch.sh unpacks them,
//! and need the worker that harness/glibc/worker.sh builds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};

use fragbench_model::{GlibcVersion, Libc, glibc};

use common::{arg, json, refuse, run, runs, stderr, succeed};

const QUICK: &[&str] = &["--reps", "1", "--idle", "1ms", "--scale", "0.05", "--arena-max", "default"];

/// Directories with other versions, or a word about what is skipped. Where nothing may be skipped, none is a failure.
fn others() -> Vec<PathBuf> {
    let dirs: Vec<PathBuf> = std::env::var_os("FRAGBENCH_GLIBC_DIRS").iter().flat_map(std::env::split_paths).collect();
    if dirs.is_empty() {
        common::skip("FRAGBENCH_GLIBC_DIRS names no directories (harness/glibc/fetch.sh unpacks some)");
    }
    dirs
}

fn version(libc: &Libc) -> GlibcVersion {
    libc.version.parse().unwrap()
}

fn named<'a>(records: &'a [serde_json::Value], allocator: &str) -> &'a serde_json::Value {
    records.iter().find(|r| r["allocator"] == allocator).unwrap_or_else(|| panic!("{allocator}: {records:?}"))
}

#[test]
fn the_systems_glibc_by_its_directory_is_a_cell_beside_itself() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let options = ["run", "empty", "--allocator", "glibc", "--glibc", "/", "--format", "json", "-o", arg(&out)];
    let summary = json(&succeed(&[&options, QUICK].concat()));
    let records = runs(&out);
    let own = named(&records, "glibc");
    let version = own["libc"]["version"].as_str().unwrap();
    let by_directory = named(&records, &format!("glibc {version}"));
    assert_eq!(records.len(), 3, "the two and the baseline's second copy");
    assert_eq!(by_directory["status"], "ok", "{by_directory}");
    assert_eq!(own["libc"]["build_id"], by_directory["libc"]["build_id"]);
    assert!(own["libc"]["build_id"].is_string());
    // Started by its loader it must not cost the heap under test anything: the bound of the empty workload.
    let rss = |record: &serde_json::Value| record["metrics"]["heap_rss_peak_bytes"].as_f64().unwrap();
    assert!(rss(by_directory) < 1e6 && rss(own) < 1e6, "{} {}", rss(by_directory), rss(own));
    assert_eq!(summary["cells"][1]["allocator"], format!("glibc {version}"));
    let manifest = json(&std::fs::read_to_string(out.join("manifest.json")).unwrap());
    let libraries = manifest["libraries"].as_array().unwrap();
    let fact = |name: &str| libraries.iter().find(|l| l["name"] == name).unwrap();
    assert_eq!(fact(&format!("glibc {version}"))["build_id"], by_directory["libc"]["build_id"]);
    assert_eq!(fact("libc")["version"], version);
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains(own["libc"]["build_id"].as_str().unwrap()));
}

/// The loader prefers a library of the same name built for the processor at hand. Then another file than the one named
/// is in place.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_libc_that_is_not_the_one_in_the_directory_is_no_figure() {
    let dir = tempfile::tempdir().unwrap();
    let Libc { file, loader, .. } = fragbench_allocators::find(Path::new("/")).unwrap();
    let preferred = dir.path().join("glibc-hwcaps/x86-64-v2");
    std::fs::create_dir_all(&preferred).unwrap();
    std::fs::copy(&loader, dir.path().join(loader.file_name().unwrap())).unwrap();
    for place in [dir.path(), &preferred] {
        std::fs::copy(&file, place.join("libc.so.6")).unwrap();
    }
    let out = dir.path().join("r");
    let options = ["run", "empty", "--allocator", "glibc", "--glibc", arg(dir.path()), "-o", arg(&out)];
    run(&[&options, QUICK].concat());
    let records = runs(&out);
    let (failed, ok): (Vec<_>, Vec<_>) = records.iter().partition(|r| r["status"] == "failed");
    assert_eq!((failed.len(), ok.len()), (1, 2), "{records:?}");
    assert_eq!(failed[0]["kind"], "not_in_place");
    assert!(failed[0]["reason"].as_str().unwrap().contains("glibc-hwcaps"), "{}", failed[0]["reason"]);
    assert!(failed[0]["metrics"].as_object().unwrap().is_empty());
}

#[test]
fn wrong_directories_and_workers_are_named() {
    let empty = tempfile::tempdir().unwrap();
    refuse(2, &["run", "empty", "--glibc", "/nowhere/glibc"], &["--glibc", "/nowhere/glibc"]);
    refuse(2, &["run", "empty", "--glibc", arg(empty.path())], &["holds no libc.so.6", "dpkg-deb -x"]);
    refuse(2, &["run", "empty", "--glibc", "/,/"], &["twice"]);
    refuse(2, &["run", "empty", "--glibc", "/", "--allocator", "jemalloc"], &["--glibc", "add glibc"]);
    refuse(2, &["run", "empty", "--worker", "/nowhere/worker"], &["--worker /nowhere/worker"]);
}

#[test]
fn versions_do_the_same_work_each_on_its_own_libc() {
    let dirs = others();
    if dirs.is_empty() {
        return;
    }
    let found: Vec<_> = dirs.iter().map(|dir| fragbench_allocators::find(dir).unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let mut options = vec!["run", "empty", "mysql/oltp-read-write", "--allocator", "glibc,null"];
    for dir in &dirs {
        options.extend(["--glibc", arg(dir)]);
    }
    options.extend(["--setting", "glibc.malloc.mxfast=0", "-o", arg(&out)]);
    succeed(&[&options, QUICK].concat());
    let records = runs(&out);
    for record in &records {
        assert_eq!(record["status"], "ok", "{record}");
        let twin = records.iter().find(|r| r["workload"] == record["workload"]).unwrap();
        assert_eq!(record["done"]["checksum"], twin["done"]["checksum"]);
        if record["workload"] == "empty" && record["allocator"].as_str().unwrap().starts_with("glibc") {
            let rss = record["metrics"]["heap_rss_peak_bytes"].as_f64().unwrap();
            assert!(rss < 1e6, "{} holds {rss} bytes before any work", record["allocator"]);
        }
    }
    let mut builds = std::collections::BTreeSet::new();
    for libc in &found {
        // The system's own cells may run on the same build.
        let on_it: Vec<_> = records
            .iter()
            .filter(|r| r["libc"]["build_id"] == libc.build_id.clone().unwrap())
            .filter(|r| r["allocator"] != "glibc" && r["allocator"] != "null")
            .collect();
        assert_eq!(on_it.len(), 4, "two workloads, with and without the setting, on glibc {}", libc.version);
        for record in on_it {
            assert_eq!(record["libc"]["version"], libc.version);
            let told = record["cautions"].to_string().contains("which has no fastbins");
            let set = record["settings"]["glibc.malloc.mxfast"] == "0";
            assert_eq!(told, set && version(libc) >= glibc(43), "{record}");
        }
        builds.insert(libc.build_id.clone());
    }
    assert_eq!(builds.len(), found.len(), "every directory another build");
}

#[test]
fn a_worker_linked_for_a_newer_glibc_is_refused_with_the_way_to_build_one() {
    let Some((dir, libc)) = others()
        .into_iter()
        .map(|dir| (dir.clone(), fragbench_allocators::find(&dir).unwrap()))
        .find(|(_, libc)| version(libc) < glibc(34))
    else {
        return;
    };
    // This test was linked like the worker beside the command: for the system's glibc.
    let own = std::env::current_exe().unwrap();
    let needs = fragbench_allocators::elf::parse(&std::fs::read(&own).unwrap()).unwrap().needs_glibc.unwrap();
    if needs < glibc(34) {
        eprintln!("skipped: this system's glibc is as old as that of {}", dir.display());
        return;
    }
    let worker = own.parent().unwrap().parent().unwrap().join("fragbench-worker");
    let output = run(&["run", "empty", "--glibc", arg(&dir), "--worker", arg(&worker)]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("asks for symbols of glibc") && text.contains(&libc.version), "{text}");
}

/// What each version has is data of the cases; two of them changed with 2.43.
#[test]
fn bad_cases_are_judged_by_the_version_they_ran_on() {
    let build = |dir: &Path| fragbench_allocators::find(dir).unwrap().build_id;
    let system = build(Path::new("/"));
    let dirs: Vec<PathBuf> = others().into_iter().filter(|dir| build(dir) != system).collect();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let mut options = vec!["badcase", "fastbin-hoard", "lazy-tcache-pin", "--remedy", "malloc-trim,mimalloc-delay-0"];
    options.extend(["--format", "json", "--glibc", "/", "-o", arg(&out)]);
    for dir in &dirs {
        options.extend(["--glibc", arg(dir)]);
    }
    let report = json(&succeed(&options));
    let others = report["others"].as_array().unwrap();
    assert_eq!(others.len(), dirs.len() + 1);
    assert_eq!(others[0]["glibc"], report["glibc"], "the system's by its directory");
    for report in others.iter().chain([&report]) {
        let new = report["glibc"].as_str().unwrap().parse::<GlibcVersion>().unwrap() >= glibc(43);
        let status = |case: usize| report["cases"][case]["status"].as_str().unwrap();
        let expected = if new { ("not_present", "reproduced") } else { ("reproduced", "not_present") };
        assert_eq!((status(0), status(1)), expected, "{report}");
    }
    let remedies = |report: &serde_json::Value| report["cases"][0]["remedies"].as_array().unwrap().len();
    assert_eq!((remedies(&report), remedies(&others[0])), (2, 1), "other allocators run on the system's glibc only");
    let folder = out.join(format!("glibc-{}", report["glibc"].as_str().unwrap()));
    assert_eq!(json(&std::fs::read_to_string(folder.join("badcases.json")).unwrap()), others[0]);
}
