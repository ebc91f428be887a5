//! Generated work over the recording it was distilled from: sizes, lifetimes, live bytes.

use fragbench_model::{Histogram, HistogramBin, ProfileFact, Unit};
use plotters::style::RGBColor;

use super::Plot;
use super::axis::{Axis, Scale};
use super::frame::{frame, title};
use super::scene::Scene;
use super::style::{Key, Layout, legend};

const RECORDING: RGBColor = RGBColor(0x1F, 0x6F, 0xB2);
const GENERATED: RGBColor = RGBColor(0xD5, 0x5E, 0x00);

type Points = Vec<(f64, f64)>;

/// The plots that have something to show.
pub(crate) fn profile_plots(fact: &ProfileFact) -> Vec<Plot> {
    let plot = |name: &'static str, caption: &str, draw: &dyn Fn(Layout) -> Option<Scene>| {
        Some(Plot { name, caption: caption.to_owned(), wide: draw(Layout::WIDE)?, narrow: draw(Layout::NARROW)? })
    };
    let (a, b) = (&fact.recording, &fact.generated);
    let about = fact.workload.as_str();
    [
        plot(
            "profile-sizes",
            "Share of all requests up to a size (solid) and share of all bytes asked for (dashed), recording and generated work. Where the lines part, the profile has lost something.",
            &|layout| {
                let lines = [
                    (cumulative(&a.sizes, 1.0, |b| b.count), RECORDING, false),
                    (cumulative(&a.sizes, 1.0, |b| b.bytes), RECORDING, true),
                    (cumulative(&b.sizes, 1.0, |b| b.count), GENERATED, false),
                    (cumulative(&b.sizes, 1.0, |b| b.bytes), GENERATED, true),
                ];
                shares(&lines, layout, ("Sizes asked for", about), Unit::Bytes, "size (logarithmic)")
            },
        ),
        plot(
            "profile-lifetimes",
            "Share of all freed blocks that lived no longer than this, recording and generated work.",
            &|layout| {
                let lines = [
                    (cumulative(&a.lifetimes_us, 1e3, |b| b.count), RECORDING, false),
                    (cumulative(&b.lifetimes_us, 1e3, |b| b.count), GENERATED, false),
                ];
                shares(&lines, layout, ("Lifetimes", about), Unit::Nanoseconds, "lifetime (logarithmic)")
            },
        ),
        plot(
            "profile-live",
            "Live bytes over the whole length of each, recording and generated work.",
            &|layout| live(fact, layout, about),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Share, in per cent, of what lies below the end of each bin, as steps.
fn cumulative(bins: &Histogram, factor: f64, weight: fn(&HistogramBin) -> u64) -> Points {
    let total: f64 = bins.iter().map(|b| weight(b) as f64).sum();
    let mut below = 0.0;
    let mut points = Vec::new();
    for bin in bins.iter().filter(|_| total > 0.0) {
        let from = (bin.from as f64).max(0.5) * factor;
        points.push((from, 100.0 * below / total));
        below += weight(bin) as f64;
        points.push((from.max((bin.to as f64 - 0.5) * factor), 100.0 * below / total));
    }
    points
}

fn shares(
    lines: &[(Points, RGBColor, bool)],
    layout: Layout,
    (head, about): (&str, &str),
    unit: Unit,
    x_name: &str,
) -> Option<Scene> {
    if lines.iter().any(|(points, ..)| points.is_empty()) {
        return None;
    }
    let x = Axis::log(lines.iter().flat_map(|(points, ..)| points.iter().map(|p| p.0)), unit);
    let y = Axis::from_zero([100.0], Unit::Ratio);
    Some(overlay(lines, layout, (head, about), (x, x_name), (y, "share in per cent")))
}

fn live(fact: &ProfileFact, layout: Layout, about: &str) -> Option<Scene> {
    let curve = |shape: &fragbench_model::Shape| -> Points {
        let n = shape.live_growth_bytes.len() as f64;
        let start = shape.live_start_bytes as f64;
        let share = |i: usize| 100.0 * (i as f64 + 0.5) / n;
        shape.live_growth_bytes.iter().enumerate().map(|(i, b)| (share(i), (start + b).max(0.0))).collect()
    };
    let lines = [(curve(&fact.recording), RECORDING, false), (curve(&fact.generated), GENERATED, false)];
    if lines.iter().any(|(points, ..)| points.is_empty()) {
        return None;
    }
    let y = Axis::from_zero(lines.iter().flat_map(|(points, ..)| points.iter().map(|p| p.1)), Unit::Bytes);
    let x = Axis { hi: 100.0, scale: Scale::Linear, ..Axis::from_zero([100.0], Unit::Ratio) };
    let head = "Live bytes over normalised time";
    Some(overlay(&lines, layout, (head, about), (x, "per cent of the length"), (y, "live bytes")))
}

fn overlay(
    lines: &[(Points, RGBColor, bool)],
    layout: Layout,
    (head, about): (&str, &str),
    x: (Axis, &str),
    y: (Axis, &str),
) -> Scene {
    let mut scene = Scene::new(layout.width, &format!("{head}, {about}"));
    let top = title(&mut scene, layout, head, about);
    let height = if layout.is_narrow() { 190.0 } else { 250.0 };
    let (x, y, lower) = frame(&mut scene, layout, (top, height), x, y);
    for (points, colour, dashed) in lines {
        let line: Points = points.iter().map(|p| (x.at(p.0), y.at(p.1))).collect();
        if *dashed {
            scene.dashed(&line, &[5.0, 3.0], *colour, 1.8);
        } else {
            scene.line(line, *colour, 1.8);
        }
    }
    let keys = [Key::Stroke("recording".into(), RECORDING, &[]), Key::Stroke("generated work".into(), GENERATED, &[])];
    scene.height = legend(&mut scene, layout, 8.0, lower + 4.0, &keys) + 8.0;
    scene
}
