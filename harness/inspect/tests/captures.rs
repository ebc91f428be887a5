//! Captures of processes on each family of glibc's layouts: what is said of them, word by word. Each was made by
//! `fragbench inspect --capture` of `programs/heap.c` (built with `-DSCALE=8`) on that glibc.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use fragbench_inspect::{Depth, inspect};
use fragbench_model::Inspection;
use fragbench_proc::{CaptureTarget, Target};

fn captures() -> Vec<(String, PathBuf)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let mut all: Vec<(String, PathBuf)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    all.sort();
    all
}

fn look(dir: &Path) -> Inspection {
    let target = CaptureTarget::open(dir).unwrap();
    assert!(target.gaps().is_empty());
    let mut inspection = inspect(&target, &Depth::default()).unwrap().inspection;
    // The one figure that is this machine's.
    inspection.survey.as_mut().unwrap().ms = 1.0;
    inspection
}

#[test]
fn every_capture_reads_as_it_did() {
    let all = captures();
    for family in ["2.31", "2.36", "2.41", "2.43"] {
        assert!(all.iter().any(|(name, _)| name.contains(family)), "{family} has a capture");
    }
    for (name, dir) in all {
        let inspection = look(&dir);
        assert_eq!(inspection.coverage_ratio, Some(1.0), "{name}");
        insta::assert_snapshot!(name, fragbench_report::inspection_text(&inspection, Some(100), false));
    }
}

#[test]
fn a_capture_cut_short_anywhere_is_an_answer() {
    let (_, dir) = captures().remove(0);
    let copy = tempfile::tempdir().unwrap();
    for name in ["maps", "status"] {
        std::fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    let whole = std::fs::read(dir.join("memory.zst")).unwrap();
    for share in 0..10 {
        std::fs::write(copy.path().join("memory.zst"), &whole[..whole.len() * share / 10]).unwrap();
        let Ok(target) = CaptureTarget::open(copy.path()) else { continue };
        assert!(!target.gaps().is_empty(), "{share}");
        // An error or an inspection, but an end.
        if let Ok(seen) = inspect(&target, &Depth::default()) {
            assert!(!seen.inspection.lacks.is_empty());
        }
    }
}
