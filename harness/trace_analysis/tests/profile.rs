//! Profiles: the text comes back whole, generated work is the same for a seed and near the recording, what is wrong in
//! the text is named with its line, and nothing of the recorded host is kept.
#![allow(clippy::unwrap_used)]

#[path = "../../trace/tests/common/mod.rs"]
mod common;

use std::path::Path;

use fragbench_model::{Life, Profile};
use fragbench_trace::synth::{Shape, program};
use fragbench_trace::{PackOptions, RecordedOn, Totals, Trace, pack_source};
use fragbench_trace_analysis::profile::{Generated, Length, distil, from_toml, generate, to_toml};
use fragbench_trace_analysis::{distances, shape};

fn shipped(name: &str) -> Trace {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workloads/replay/traces");
    Trace::open(&traces.join(name).with_extension("fbt")).unwrap()
}

fn packed(generated: &Generated) -> Trace {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.fbt");
    let totals = pack_source(generated, &path, &PackOptions::default(), Totals { complete: true, ..Totals::default() })
        .unwrap()
        .totals;
    assert_eq!((totals.unseen_frees, totals.unresolved), (0, 0));
    Trace::from_bytes(std::fs::read(&path).unwrap()).unwrap()
}

fn synthetic() -> (Trace, Profile) {
    let shape = Shape {
        threads: 4,
        events: 20_000,
        cross: 100,
        realloc: 50,
        special: 100,
        large: 20,
        thread_life: 900,
        ..Shape::default()
    };
    let recorded_on = RecordedOn {
        kernel: Some("Linux secret-host".into()),
        cmdline: Some("/opt/secret/bin/server --secret".into()),
        allocator: Some("libsecret.so".into()),
        ..RecordedOn::default()
    };
    let (bytes, _) = common::packed(&program(&shape), &PackOptions { recorded_on, ..PackOptions::default() });
    let trace = Trace::from_bytes(bytes).unwrap();
    let profile = distil(&trace);
    (trace, profile)
}

#[test]
fn the_text_comes_back_whole_and_tells_nothing_of_the_host() {
    for profile in [synthetic().1, distil(&shipped("blob-churn"))] {
        let text = to_toml(&profile);
        let again = from_toml(&text).unwrap();
        assert_eq!(to_toml(&again), text);
        assert_eq!(again.role.len(), profile.role.len());
        for (a, b) in again.role.iter().zip(&profile.role) {
            assert_eq!((&a.blocks, &a.waves, &a.growth), (&b.blocks, &b.waves, &b.growth));
        }
        assert!(text.len() < 90_000, "{}", text.len());
        // Quoted words are roles and lives, and nothing else that is not a number is there besides keys.
        let (_, body) = text.split_once("\nversion").unwrap();
        for word in body.split('"').skip(1).step_by(2) {
            assert!(
                ["first", "thread", "end"].contains(&word) || word.starts_with("role-") || word.starts_with("phase "),
                "{word}"
            );
        }
        for secret in ["secret", "Linux", "/", "0x", "mariadb", ".so"] {
            assert!(!body.contains(secret), "{secret}");
        }
    }
}

#[test]
fn every_block_of_the_recording_is_in_the_profile() {
    for name in ["blob-churn", "connection-storm"] {
        let trace = shipped(name);
        let (profile, shape) = (distil(&trace), shape(&trace, 0..u64::MAX));
        let rows = || profile.role.iter().flat_map(|r| &r.blocks);
        assert_eq!(rows().flat_map(|b| &b.n).sum::<u64>(), shape.blocks);
        let stay: u64 = rows().filter(|b| b.life == Life::End).flat_map(|b| &b.n).sum();
        assert_eq!(stay, shape.blocks - shape.frees);
        assert_eq!(u64::from(profile.role.iter().map(|r| r.threads()).sum::<u32>()), trace.info().threads);
    }
}

#[test]
fn generated_work_is_near_the_recording() {
    for name in ["blob-churn", "connection-storm"] {
        let recording = shipped(name);
        let profile = from_toml(&to_toml(&distil(&recording))).unwrap();
        let work = shape(&packed(&generate(&profile, &Length::default())), 0..u64::MAX);
        for reference in [shape(&recording, 0..u64::MAX), profile.recording.shape(profile.duration_us)] {
            let d = distances(&work, &reference);
            assert!(d.sizes_by_count_ks.unwrap() <= 0.1 && d.sizes_by_bytes_ks.unwrap() <= 0.1, "{name}: {d:?}");
            assert!(d.cross_thread_points.unwrap().abs() <= 3.0, "{name}: {d:?}");
            assert!(d.realloc_points.unwrap().abs() <= 1.0 && d.unfreed_points.unwrap().abs() <= 1.0, "{name}: {d:?}");
            assert!(d.live_nrmse.unwrap() <= 0.15, "{name}: {d:?}");
            assert_eq!(d.thread_starts_ratio, Some(1.0), "{name}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_work_and_another_seed_other_work() {
    let profile = synthetic().1;
    let of = |seed| generate(&profile, &Length { seed, ..Length::default() });
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

#[test]
fn length_and_threads_scale_the_work_and_not_what_stays() {
    let profile = distil(&shipped("connection-storm"));
    let of = |threads, scale| shape(&packed(&generate(&profile, &Length { threads, scale, seed: 1 })), 0..u64::MAX);
    let once = of(None, 1.0);
    let twice = of(None, 2.0);
    let near = |a: u64, b: u64, by: f64| (a as f64 - b as f64).abs() <= by * b as f64;
    assert!(near(twice.blocks, 2 * once.blocks, 0.1), "{} {}", twice.blocks, once.blocks);
    let end = |s: &fragbench_model::Shape| *s.live_growth_bytes.last().unwrap() as u64;
    assert!(near(end(&twice), end(&once), 0.2), "{} {}", end(&twice), end(&once));
    assert!(near(twice.threads_peak, once.threads_peak, 0.1), "{} {}", twice.threads_peak, once.threads_peak);
    let few = of(Some(100), 1.0);
    assert!(near(few.threads_peak, 100, 0.15), "{}", few.threads_peak);
    assert!(few.blocks < once.blocks);
    let short = of(None, 0.1);
    assert!(short.blocks < once.blocks / 3, "{}", short.blocks);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let text = to_toml(&synthetic().1);
    let edit = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let at = text.find(from).unwrap();
        let line = text[..at].matches('\n').count() + 1;
        (text.replacen(from, to, 1), line)
    };
    let first_row = text.lines().find(|l| l.contains("life =")).unwrap();
    let cases = [
        (edit("\ngaps_ns =", "\ngap_ns ="), 1, &["unknown key `gap_ns`", "did you mean `gaps_ns`?"][..]),
        (edit(first_row, &first_row.replace("life =", "live =")), 0, &["`live`", "`life`"]),
        (edit(first_row, "  { size = [9, 1], life = \"end\", n = [1] },"), 0, &["size = [9, 1]"]),
        (edit(first_row, "  { size = [1, 1], life = \"forever\", n = [1] },"), 0, &["forever", "\"end\""]),
        (edit(first_row, "  { size = [1, 1], life = \"phase 99\", n = [1] },"), 0, &["phase 99"]),
        (edit(first_row, "  { size = [1, 1], life = [5, 2], n = [1] },"), 0, &["life"]),
        (edit(first_row, "  { size = [1, 1], life = \"end\", phase = 90, n = [1] },"), 0, &["phase 90"]),
        (edit(first_row, "  { size = [1, 1], life = \"end\", align = 3, n = [1] },"), 0, &["align", "power of two"]),
        (
            edit(first_row, "  { size = [1, 1], life = \"end\", freed_by = \"role-l\", n = [1] },"),
            0,
            &["role-l", "did you mean"],
        ),
        (edit(first_row, "  { size = [1, 1], life = \"end\" },"), 0, &["missing field `n`"]),
        (edit("version = 1", "version = 99"), 0, &["version 99"]),
        (edit("duration_us = ", "duration_us = x"), 0, &[]),
    ];
    for ((text, line), shift, words) in cases {
        let error = from_toml(&text).unwrap_err();
        assert_eq!(if error.what.contains("version 99") { line } else { error.line }, line + shift, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error} should say {word}");
        }
    }
    assert!(from_toml("").is_err());
    let bare = from_toml("version = 1\nduration_us = 1\n").unwrap_err();
    assert!(bare.what.contains("missing field"), "{bare}");
}

#[test]
fn no_number_makes_more_work_than_the_recording_was() {
    let text = to_toml(&synthetic().1);
    let row = text.lines().find(|l| l.contains("life =")).unwrap();
    let line = text[..text.find(row).unwrap()].matches('\n').count() + 1;
    for n in ["9223372036854775807", "4294967296", "1000000000"] {
        let error = from_toml(&text.replacen(row, &format!("  {{ size = [1, 1], life = \"end\", n = [{n}] }},"), 1));
        let error = error.unwrap_err();
        assert_eq!(error.line, line, "{error}");
        assert!(error.what.contains(n) && error.what.contains("[recording]"), "{error}");
    }
    let many = "  { size = [1, 1], life = \"end\", reallocs = [0, 1048576], n = [1000] },";
    assert!(from_toml(&text.replacen(row, many, 1)).unwrap_err().what.contains("reallocs"));
    let blocks = text.lines().find(|l| l.starts_with("blocks = ") && !l.ends_with('[')).unwrap();
    assert!(from_toml(&text.replacen(blocks, "blocks = 9000000000", 1)).unwrap_err().what.contains("9000000000"));
    let duration = text.lines().find(|l| l.starts_with("duration_us")).unwrap();
    assert!(from_toml(&text.replacen(duration, "duration_us = 9223372036854775807", 1)).is_err());
}
