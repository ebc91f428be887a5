//! Transparent huge pages: as the server has them, as the user says, and never a setting that does nothing.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{arg, json, refuse, succeed};

const SMALL: [&str; 11] = [
    "run",
    "mysql/oltp-read-write",
    "--allocator",
    "glibc",
    "--arena-max",
    "default",
    "--scale",
    "0.02",
    "--reps",
    "1",
    "--idle=1ms",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SMALL.iter().copied().chain(more.iter().copied()).collect()
}

/// What this machine grants.
fn granted() -> String {
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap();
    text.split(['[', ']']).nth(1).unwrap().to_owned()
}

#[test]
fn a_setting_that_would_do_nothing_is_refused() {
    refuse(2, &with(&["--setting", "glibc.malloc.hugetlb=1"]), &["glibc.malloc.hugetlb=1", "--thp madvise"]);
}

#[test]
fn models_follow_their_flavor_and_a_difference_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let fact = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        let printed = succeed(&with(&[more, &["-o", arg(&out)]].concat()));
        let manifest = json(&std::fs::read_to_string(out.join("manifest.json")).unwrap());
        (printed, manifest["huge_pages"][0].clone(), std::fs::read_to_string(out.join("report.md")).unwrap())
    };
    let (printed, mariadb, _) = fact("mariadb", &[]);
    assert_eq!((&mariadb["used"], &mariadb["server"]), (&json("\"off\""), &json("\"off\"")));
    assert!(!printed.contains("with transparent huge pages"), "{printed}");
    if granted() == "never" {
        eprintln!("skipped: this machine grants no huge pages");
        return;
    }
    let (_, mysql, _) = fact("mysql", &["--flavor", "mysql"]);
    assert_ne!(mysql["used"], json("\"off\""), "MySQL leaves them on");
    assert_eq!(mysql["used"], mysql["server"]);
    let (printed, chosen, report) = fact("chosen", &["--thp", "madvise"]);
    assert_eq!((&chosen["used"], &chosen["server"]), (&json("\"madvise\""), &json("\"off\"")));
    for text in [printed, report] {
        // Sentences are folded.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("with transparent huge pages where madvise"), "{text}");
        assert!(text.contains("the server runs without"), "{text}");
    }
}
