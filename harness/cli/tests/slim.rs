//! `fragbench report --slim`: what stays is what a reader opens, what is gone is named.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{arg, json, refuse, succeed};

#[test]
fn a_slim_result_keeps_summary_report_and_plots_and_names_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("r");
    let small = ["--reps", "2", "--threads", "2", "--idle", "1ms", "--scale", "0.02", "--arena-max", "default"];
    succeed(&[&["run", "mysql/oltp-read-write", "--allocator", "glibc", "-o", arg(&out)][..], &small].concat());
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let (summary, report) = (json(&read("summary.json")), read("report.md"));
    assert!(!json(&read("manifest.json")).as_object().unwrap().contains_key("left_out"));

    let said = succeed(&["report", arg(&out), "--slim"]);
    assert!(said.contains("bytes before"), "{said}");
    assert_eq!((json(&read("summary.json")), read("report.md")), (summary, report.clone()));
    let left_out = json(&read("manifest.json"))["left_out"].clone();
    let left_out: Vec<String> = serde_json::from_value(left_out).unwrap();
    for gone in &left_out {
        assert!(!out.join(gone).exists(), "{gone}");
    }
    for name in ["runs.jsonl", "report.html", "summary.csv"] {
        assert!(left_out.iter().any(|gone| gone == name), "{name}: {left_out:?}");
    }
    assert!(left_out.iter().any(|gone| gone.starts_with("samples/")) && !out.join("samples").exists());
    // Every picture of the report is still there.
    let shown: Vec<_> = report.split("(plots/").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(!shown.is_empty() && shown.iter().all(|name| out.join("plots").join(name).is_file()), "{shown:?}");

    // Once more changes nothing; rendering is refused and says why.
    succeed(&["report", arg(&out), "--slim"]);
    assert_eq!(json(&read("manifest.json"))["left_out"], serde_json::to_value(&left_out).unwrap());
    refuse(1, &["report", arg(&out)], &["--slim", "cannot be rendered again", "report.md"]);
    refuse(1, &["report", arg(dir.path()), "--slim"], &["no result directory"]);
}
