//! The documents: links lead somewhere, the book holds every page, the commands they show exist with the options they show.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use common::succeed;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The project's own pages: those at its top and of its book; results are written by the program.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("results/README.md"), root().join("workloads/replay/traces/README.md")];
    for (dir, deep) in [(root(), false), (root().join("docs"), true), (root().join("examples"), true)] {
        markdown(&dir, deep, &mut pages);
    }
    assert!(pages.len() > 15, "{pages:?}");
    pages
}

fn markdown(dir: &Path, deep: bool, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && deep {
            markdown(&path, deep, into);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            into.push(path);
        }
    }
}

/// The text outside and inside of fenced blocks; of each block also its language.
fn split(text: &str) -> (String, Vec<(String, String)>) {
    let (mut prose, mut blocks, mut open) = (String::new(), Vec::new(), None::<(String, String)>);
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, block))) => *block += &format!("{line}\n"),
            (None, None) => prose += &format!("{line}\n"),
        }
    }
    assert!(open.is_none(), "a block is not closed: {open:?}");
    (prose, blocks)
}

/// Targets of `[text](target)`.
fn links(prose: &str) -> Vec<&str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target)).collect()
}

/// As GitHub and mdBook name headings.
fn anchors(prose: &str) -> BTreeSet<String> {
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings.map(|text| text.to_lowercase().replace(' ', "-").chars().filter(|c| kept(*c)).collect()).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    for page in pages() {
        let (prose, _) = split(&std::fs::read_to_string(&page).unwrap());
        for link in links(&prose).into_iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !anchor.is_empty() {
                let (other, _) = split(&std::fs::read_to_string(&target).unwrap());
                assert!(anchors(&other).contains(anchor), "{}: {link} among {:?}", page.display(), anchors(&other));
            }
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn the_book_holds_every_page() {
    let docs = root().join("docs");
    let (summary, _) = split(&std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap());
    let listed: BTreeSet<PathBuf> = links(&summary).into_iter().map(|link| docs.join(link)).collect();
    let mut there = Vec::new();
    markdown(&docs, true, &mut there);
    let there: BTreeSet<PathBuf> = there.into_iter().filter(|page| !page.ends_with("SUMMARY.md")).collect();
    assert_eq!(listed, there);
}

#[test]
fn the_readme_is_read_in_five_minutes() {
    let lines = std::fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 150, "{lines} lines");
}

/// The words of a shell command that fragbench is to see: up to a pipe, a redirection, or `--`.
fn arguments(line: &str) -> Option<Vec<&str>> {
    let start = line.split_whitespace().position(|word| word == "fragbench" || word.ends_with("/fragbench"))?;
    let words = line.split_whitespace().skip(start + 1);
    Some(words.take_while(|word| !matches!(*word, "--" | "|" | "||" | "&&" | ">" | ";" | "#")).collect())
}

#[test]
fn commands_and_options_of_the_documents_exist() {
    let mut help: BTreeMap<String, String> = BTreeMap::new();
    let mut checked = 0;
    for page in pages() {
        let (_, blocks) = split(&std::fs::read_to_string(&page).unwrap());
        for (_, block) in blocks.iter().filter(|(language, _)| language == "sh") {
            for line in block.replace("\\\n", " ").lines() {
                let Some(words) = arguments(line.trim_start_matches("$ ")) else { continue };
                let Some(verb) = words.first().filter(|word| !word.starts_with('-')) else { continue };
                let of_trace = *verb == "trace";
                let verbs = &words[..if of_trace { 2 } else { 1 }];
                let name = verbs.join(" ");
                let text = help
                    .entry(name.clone())
                    .or_insert_with(|| succeed(&verbs.iter().copied().chain(["--help"]).collect::<Vec<_>>()));
                for option in words.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
                    let option = option.split('=').next().unwrap();
                    let known = text.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == option);
                    assert!(known, "{}: `fragbench {name}` has no {option}: {line}", page.display());
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 25, "{checked}");
}
