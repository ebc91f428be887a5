//! `fragbench badcase` as its user sees it: a case reproduced, checked and cured; names that do not exist.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{arg, json, refuse, runs, succeed};

fn remedy<'a>(case: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    case["remedies"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("{name}: {case}"))
}

/// The case of all versions that needs least: address space alone.
#[test]
fn a_case_is_reproduced_checked_and_cured() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let text = succeed(&[
        "badcase",
        "arena-explosion",
        "--remedy",
        "malloc-trim,arena-max-1,jemalloc",
        "--format",
        "json",
        "-o",
        arg(&out),
    ]);
    let report = json(&text);
    assert_eq!(report, json(&std::fs::read_to_string(out.join("badcases.json")).unwrap()));
    assert!(report["glibc"].as_str().is_some_and(|v| v.starts_with("2.")), "{}", report["glibc"]);
    let case = &report["cases"][0];
    assert_eq!((&case["name"], &case["status"]), (&"arena-explosion".into(), &"reproduced".into()), "{case}");
    assert_eq!(case["figures"]["arenas_started_count"], 128.0);
    assert!(case["checks"].as_array().unwrap().iter().all(|c| c["ok"] == true && !c["bound"].is_null()), "{case}");
    assert_eq!(remedy(case, "arena-max-1")["effect"], "cures");
    assert_eq!(remedy(case, "malloc-trim")["effect"], "nothing");
    assert_eq!(remedy(case, "jemalloc")["effect"], "cures");
    assert_eq!(runs(&out).len(), 3, "the purge is judged on the untreated run");
    for (file, words) in
        [("badcases.html", ["arena_get2", "bug 11261"]), ("badcases.md", ["## arena-explosion: reproduced", "++"])]
    {
        let text = std::fs::read_to_string(out.join(file)).unwrap();
        for word in words {
            assert!(text.contains(word), "{file}: {word}");
        }
    }
    assert!(out.join("manifest.json").is_file());
}

#[test]
fn the_terminal_shows_figure_limit_and_verdict() {
    let text = succeed(&["badcase", "arena-explosion", "--remedy", "none"]);
    for word in ["arena-explosion: reproduced", "128", "7.90 GiB to 8.10 GiB", "ok"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// A heap below one live block: what happens in words, the heap before and after, and the block that holds it.
#[test]
fn a_case_is_explained_by_its_own_heap() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let text = succeed(&["badcase", "pinned-top", "--remedy", "none", "--explain", "-o", arg(&out)]);
    for words in [
        "1. _int_free",
        "at the end of `filled`",
        "at the end of `freed`",
        "after malloc_trim(0)",
        "████",
        "░░░░",
        "····",
        "1 live chunk of 1.09 KiB",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let report = json(&std::fs::read_to_string(out.join("badcases.json")).unwrap());
    let stages = report["cases"][0]["heap"].as_array().unwrap();
    let free = |i: usize| stages[i]["bytes"]["free_resident_bytes"].as_f64().unwrap();
    assert!(stages.len() == 3 && free(1) > 100.0 * free(0) && free(1) > 100.0 * free(2), "{stages:?}");
    assert!(std::fs::read_to_string(out.join("badcases.html")).unwrap().contains("Heap map, pinned-top"));
    assert!(out.join("plots/pinned-top.heap-map.svg").is_file());
}

/// Pins, tcaches, tops of threads, pages shared with live chunks, a discontiguous heap: what is predicted from outside is
/// what malloc_trim then does.
#[test]
fn what_malloc_trim_releases_was_predicted() {
    let mut command = vec!["badcase", "--explain", "--remedy", "none", "--format", "json"];
    let cases = ["pinned-top", "discontiguous-main-blocked", "tcache-hoard", "size-drift", "fastbin-hoard-threads"];
    command.extend(cases);
    for case in json(&succeed(&command))["cases"].as_array().unwrap() {
        let [.., before, after] = &case["heap"].as_array().unwrap()[..] else { panic!("{case}") };
        let resident = |stage: &serde_json::Value| stage["bytes"]["resident_bytes"].as_f64().unwrap();
        let released = resident(before) - resident(after);
        let predicted = before["trim"]["predicted_release_bytes"].as_f64().unwrap();
        let off = (predicted - released).abs() / resident(before);
        assert!(off <= 0.001, "{}: predicted {predicted}, released {released}", case["name"]);
    }
}

/// A result of bad cases stays one: it can be finished, and is rendered again as what it is.
#[test]
fn a_result_is_finished_and_rendered_again_as_bad_cases() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let whole = succeed(&["badcase", "pinned-top", "--remedy", "mxfast-0", "--format", "json", "-o", arg(&out)]);
    let statuses = |text: &str| -> Vec<serde_json::Value> {
        json(text)["cases"].as_array().unwrap().iter().map(|case| case["status"].clone()).collect()
    };
    let again = succeed(&["report", arg(&out), "--format", "json"]);
    assert_eq!(statuses(&again), statuses(&whole));
    assert_eq!(json(&again)["cases"][0]["remedies"], json(&whole)["cases"][0]["remedies"]);
    assert!(out.join("badcases.html").is_file());
    assert!(!out.join("report.html").exists() && !out.join("summary.json").exists(), "no verdict on allocators");

    // As an interruption leaves it.
    let runs = std::fs::read_to_string(out.join("runs.jsonl")).unwrap();
    let lines: Vec<&str> = runs.lines().collect();
    assert_eq!(lines.len(), 2, "the case, and one remedy");
    std::fs::write(out.join("runs.jsonl"), format!("{}\n", lines[0])).unwrap();
    std::fs::remove_file(out.join("badcases.json")).unwrap();
    let finished = succeed(&["badcase", "--resume", arg(&out), "--format", "json"]);
    assert_eq!(statuses(&finished), statuses(&whole));
    let runs = std::fs::read_to_string(out.join("runs.jsonl")).unwrap();
    assert_eq!(runs.lines().count(), 2);
    assert_eq!(runs.lines().next(), Some(lines[0]), "what was done is not run again");
    refuse(2, &["run", "--resume", arg(&out)], &["fragbench badcase --resume"]);
}

#[test]
fn what_does_not_exist_is_named_with_the_nearest_that_does() {
    refuse(2, &["badcase", "pined-top"], &["pined-top", "did you mean `pinned-top`?", "list badcases"]);
    refuse(2, &["badcase", "pinned-top", "--remedy", "kik"], &["kik", "did you mean `kick`?"]);
    refuse(2, &["badcase", "nope"], &["there is no bad case `nope`. `fragbench list badcases` shows all"]);
    refuse(2, &["badcase"], &["NAME"]);
}

#[test]
fn symptoms_lead_to_every_case() {
    let symptoms = succeed(&["badcase", "--symptoms"]);
    let listing = json(&succeed(&["list", "badcases", "--format", "json"]));
    let cases = listing["badcases"].as_array().unwrap();
    assert!(cases.len() > 5);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        assert!(symptoms.contains(name), "{name}");
        assert!(!case["summary"].as_str().unwrap().is_empty());
    }
    let workloads = json(&succeed(&["list", "workloads", "--format", "json"]));
    let names: Vec<&str> =
        workloads["workloads"].as_array().unwrap().iter().filter_map(|w| w["name"].as_str()).collect();
    assert!(!names.iter().any(|name| name.starts_with("badcase/")), "they have a list of their own: {names:?}");
}
