//! The sentences of a verdict: each reason and each doubt, by what would give more data.

use std::collections::BTreeMap;

use fragbench_model::{
    Allocator, AllocatorKind, Bars, Better, Confidence, Contrast, Doubt, Effects, Interval, Price, Reason, Settings,
    Standing, Summary, Tried, Verdict, VerdictKind, Weighing,
};
use fragbench_report::{MoreBy, doubts, finding, reasons};

/// An effect known to a hundredth, beyond a noise floor of 2 %.
fn known(median: f64) -> Contrast {
    let ratio = Interval { median, lo: median - 0.01, hi: median + 0.01, n: 15 };
    Contrast { ratio, p: Some(0.001), noise: Some(0.02), standing: Standing::Significant, relevant: true }
}

fn tried(allocator: &str, memory: f64) -> Box<Tried> {
    let noise = Contrast { standing: Standing::Noise, relevant: false, ..known(1.0) };
    Box::new(Tried {
        allocator: allocator.into(),
        settings: Settings::new(),
        effects: Effects { memory: Some(known(memory)), throughput: Some(noise), ..Effects::default() },
    })
}

fn verdict(kind: VerdictKind, reasons: Vec<Reason>) -> Verdict {
    let baseline = Allocator {
        name: "glibc".into(),
        kind: AllocatorKind::Glibc,
        library: None,
        libc: None,
        settings: Settings::new(),
        environment: BTreeMap::new(),
        notes: Vec::new(),
    };
    Verdict {
        kind,
        allocator: Some("jemalloc".into()),
        settings: Settings::new(),
        change: None,
        baseline: Some(baseline),
        workloads: 2,
        memory_ratio: None,
        throughput_ratio: None,
        memory_noise: None,
        throughput_noise: None,
        weighing: Weighing::Loop,
        price: None,
        reasons,
        confidence: None,
        doubts: Vec::new(),
        risks: Vec::new(),
        alternatives: Vec::new(),
    }
}

fn said(reason: Reason, more: MoreBy) -> String {
    reasons(&verdict(VerdictKind::Switch, vec![reason]), more).remove(0)
}

#[test]
fn a_recommendation_names_gain_noise_and_price() {
    let mut with_price = tried("jemalloc", 0.6);
    with_price.effects.p99 = Some(known(1.4));
    assert_eq!(
        said(Reason::Recommended(with_price.clone()), MoreBy::Blocks),
        "In the geometric mean over all workloads, jemalloc has 40 % less resident memory (39 % to 41 %, noise floor 2 %) and \
         throughput not told apart from noise (+0 %, noise floor 2 %) relative to glibc with default settings, at the price of \
         40 % more p99 latency of an allocation (39 % to 41 %, noise floor 2 %)."
    );
    let nearly = Reason::LessTrouble { best: with_price.clone(), share: 0.93 };
    let text = said(nearly, MoreBy::Blocks);
    assert!(text.starts_with("jemalloc would gain more (40 % less") && text.contains("93 % of that gain"), "{text}");
    // Better, within the noise, of no consequence: no price.
    let noise = Contrast { standing: Standing::Noise, ..known(1.4) };
    for p99 in [None, Some(known(0.5)), Some(noise), Some(Contrast { relevant: false, ..known(1.04) })] {
        with_price.effects.p99 = p99;
        let text = said(Reason::Recommended(with_price.clone()), MoreBy::Blocks);
        assert!(!text.contains("price"), "{text}");
    }
}

#[test]
fn the_price_is_the_servers_where_it_is_known() {
    let mut slow_loop = tried("glibc", 0.41);
    slow_loop.effects.cost = Some(known(1.08));
    slow_loop.effects.throughput = Some(known(0.7));
    let reasons_of = |weighing| {
        let v = Verdict {
            weighing,
            ..verdict(VerdictKind::Tune, vec![Reason::Recommended(slow_loop.clone()), Reason::WeighedBy])
        };
        reasons(&v, MoreBy::Blocks)
    };
    let server = reasons_of(Weighing::ServerTime { cpu_s: 17.0, span_s: 60.0, workloads: 2 });
    let price = "59 % less resident memory (58 % to 60 %, noise floor 2 %) and 1.360 s more of the server's 17.000 s of \
                 processor time (8 %, 7 % to 9 %, noise floor 2 %)";
    assert!(server[0].contains(price) && server[1].contains("weighed by the server's own"), "{server:?}");
    let beside = Price {
        cpu_ratio: known(1.08).ratio,
        noise: Some(0.02),
        extra_cpu_s: 1.36,
        faults_ratio: Some(known(1.12).ratio),
        longest_ns: Some(1.6e6),
        baseline_longest_ns: Some(40e3),
    };
    let v = verdict(VerdictKind::Tune, vec![Reason::Recommended(slow_loop.clone())]);
    let text = reasons(&Verdict { price: Some(beside), ..v }, MoreBy::Blocks).remove(0);
    assert!(text.contains("(page faults +12 %, longest call 1.60 ms instead of 40 µs)"), "{text}");
    let alone = reasons_of(Weighing::Loop);
    assert!(alone[0].contains("30 % less throughput") && alone[1].contains("judges a loop"), "{alone:?}");
}

#[test]
fn what_is_not_taken_says_why() {
    let mut slow = tried("slow", 0.8);
    slow.effects.peak = Some(known(1.4));
    slow.effects.others.insert("p99_ms".into(), (Better::Less, known(1.5)));
    let text = said(Reason::CostsItsGain { tried: slow.clone(), more: true }, MoreBy::Blocks);
    assert!(text.starts_with("slow costs more than it gains"), "{text}");
    assert!(text.contains("peak 40 % higher") && text.contains("p99_ms +50 %"), "{text}");
    let text = said(Reason::CostsItsGain { tried: slow.clone(), more: false }, MoreBy::Blocks);
    assert!(text.starts_with("slow costs about what it gains"), "{text}");
    slow.effects.memory = Some(Contrast { relevant: false, ..known(0.96) });
    let text = said(Reason::NotBetter(slow), MoreBy::Blocks);
    assert!(text.contains("4 % less resident memory") && text.contains("not clearly of consequence"), "{text}");
    for (reason, words) in [
        (Reason::Failed { label: "own".into(), runs: 1 }, "1 of its runs failed"),
        (Reason::Lacking("own".into()), "own is not considered: it lacks runs in some of the 2 workloads"),
        (Reason::NoisyBaseline(0.25), "by up to 25 %"),
    ] {
        assert!(said(reason.clone(), MoreBy::Blocks).contains(words), "{reason:?}");
    }
}

#[test]
fn what_is_lacking_comes_with_what_would_give_it() {
    let unsettled = Reason::Unsettled { labels: vec!["jemalloc".into()], relevant: 0.05 };
    for (reason, blocks, time) in [
        (Reason::NoBaseline, "--allocator glibc", "--max-time"),
        (Reason::NoCopy { of_memory: false }, "throughput is unknown", "--max-time"),
        (Reason::TooFewPairs { most: 1, least: 2 }, "--reps 3", "--max-time"),
        (Reason::OnlyBaseline, "name another allocator", "--max-time"),
        (unsettled, "--precision", "--max-time"),
    ] {
        let text = said(reason.clone(), MoreBy::Blocks);
        assert!(text.contains(blocks), "{text}");
        let text = said(reason, MoreBy::Time);
        assert!(text.contains(time) && !text.contains("--reps"), "{text}");
    }
    let few = Doubt::TooFewBlocks { blocks: 3, needed: 8, compared: 5 };
    let all = [few, Doubt::BaselineDiffers { in_memory: false, in_time: true }, Doubt::Disturbed(0.5)].map(|doubt| {
        let v = Verdict { doubts: vec![doubt], ..verdict(VerdictKind::Switch, Vec::new()) };
        (doubts(&v, MoreBy::Blocks).remove(0), doubts(&v, MoreBy::Time).remove(0))
    });
    assert!(all[0].0.contains("preliminary: 3 blocks") && all[0].0.contains("--reps 15"), "{all:?}");
    assert!(all[0].1.contains("takes 8 with 5 cells") && all[0].1.contains("--max-time"), "{all:?}");
    assert!(all[1].0.contains("its own copy in throughput") && all[2].0.contains("quieter machine"), "{all:?}");
}

#[test]
fn the_finding_says_that_a_loop_is_judged_even_where_nothing_is_recommended() {
    let bars = Bars { memory: Some(0.01), time: None, relevant: 0.05 };
    let reasons = vec![Reason::NothingBetter(bars), Reason::WeighedBy, Reason::NotBetter(tried("jemalloc", 0.99))];
    let v = Verdict { confidence: Some(Confidence::High), ..verdict(VerdictKind::Leave, reasons) };
    let summary = Summary {
        schema: 1,
        partial: true,
        noise_floor: BTreeMap::new(),
        relevant: 0.05,
        cells: Vec::new(),
        comparisons: Vec::new(),
        verdict: v,
    };
    let text = finding(&summary);
    assert!(text.starts_with("Leave glibc as it is. Nothing tried is better"), "{text}");
    assert!(text.contains("judges a loop") && !text.contains("not relevantly better"), "{text}");
    assert!(text.contains("Confidence: high.") && text.ends_with("these figures are partial."), "{text}");
}
