//! The table of who knows whom in ARCHITECTURE.md is what Cargo says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

type Known = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Rows of the table, by place: the last column's names, without what stands in parentheses.
fn written() -> Known {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.filter_map(|row| {
        let (place, rest) = row.split_once("` | ")?;
        let (_, names) = rest.rsplit_once(" | ")?;
        let names = names.split(", ").map(|name| name.split(" (").next().unwrap_or(name).to_owned());
        Some((place.to_owned(), names.filter(|name| name != "–").collect()))
    })
    .collect()
}

/// Dependencies of each package on others of the workspace, tests' own left out.
fn real() -> Known {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let top = Path::new(metadata["workspace_root"].as_str().unwrap());
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            let place = manifest.parent().unwrap().strip_prefix(top).unwrap().display().to_string();
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let own = dependencies.filter(|dependency| dependency["kind"].is_null()).filter_map(|dependency| {
                let path = Path::new(dependency["path"].as_str()?);
                Some(path.file_name()?.to_string_lossy().into_owned())
            });
            (place, own.collect())
        })
        .collect()
}

#[test]
fn the_table_of_who_knows_whom_is_what_cargo_says() {
    let (written, real) = (written(), real());
    for (place, known) in &real {
        // The benches may know anything; the preload libraries stand in the row of `harness/allocators`.
        if place == "benches" || place.starts_with("harness/allocators/") {
            assert!(place == "benches" || known.is_empty(), "{place} knows {known:?}");
            continue;
        }
        assert_eq!(written.get(place), Some(known), "ARCHITECTURE.md, the row of {place}");
    }
    assert!(real.len() > 20, "{real:?}");
}
