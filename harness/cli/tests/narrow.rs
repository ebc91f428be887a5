//! The page of a result on a telephone, by a browser: nothing is cut, tables that are wider scroll in their own place.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::process::Command;

use common::{arg, program, succeed};

/// What in the page passes its right edge, unless what it stands in scrolls.
const LOOK: &str = r#"
const page = document.querySelector('iframe').contentDocument;
const width = page.documentElement.clientWidth;
const scrolls = e => { for (let p = e.parentElement; p; p = p.parentElement)
    if (['auto', 'scroll'].includes(page.defaultView.getComputedStyle(p).overflowX)) return true; return false; };
const cut = [...page.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > width + 1 && !scrolls(e)
    && !e.closest('svg'));
document.body.dataset.seen = `width ${width}, tables ${page.querySelectorAll('table').length}, page ${page.documentElement.scrollWidth}, cut `
    + cut.map(e => e.tagName + ' ' + e.textContent.slice(0, 40)).join('; ') + '.';
"#;

#[test]
fn nothing_of_the_page_is_cut_at_390_pixels() {
    let Some(browser) = program("chromium") else { return };
    let dir = tempfile::tempdir().unwrap();
    let result = dir.path().join("r");
    let line = ["compare", "--reps", "1", "--idle", "1ms", "-o", arg(&result), "--", "sort", "/etc/services"];
    succeed(&line);
    let page = std::fs::read_to_string(result.join("report.html")).unwrap();
    let page = page.replace('&', "&amp;").replace('"', "&quot;");
    let frame = dir.path().join("frame.html");
    let text = format!(
        "<!doctype html><body><iframe width=390 height=900 srcdoc=\"{page}\" onload=\"setTimeout(() => {{ {} }})\"></iframe>",
        LOOK.replace('"', "&quot;")
    );
    std::fs::write(&frame, text).unwrap();
    let profile = dir.path().join("profile");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"])
        .args([format!("--user-data-dir={}", arg(&profile)), format!("file://{}", arg(&frame))])
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let seen = dom.split("data-seen=\"").nth(1).and_then(|rest| rest.split('"').next());
    let seen = seen.unwrap_or_else(|| panic!("the browser did not look: {}", String::from_utf8_lossy(&output.stderr)));
    let number = |name: &str| -> u32 {
        seen.split(name).nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    assert!((360..=390).contains(&number("width ")), "{seen}");
    assert!(number("tables ") > 3, "{seen}");
    assert!(number("page ") <= number("width "), "the page itself scrolls sideways: {seen}");
    assert!(seen.ends_with("cut ."), "{seen}");
}
