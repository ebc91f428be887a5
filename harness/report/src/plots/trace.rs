//! What a trace holds: sizes, lifetimes, live bytes over recorded time.

use fragbench_model::{Histogram, TraceStat, Unit};
use plotters::style::RGBColor;

use super::Plot;
use super::axis::{Axis, Scale};
use super::frame::{frame, title};
use super::scene::{INK, Paint, Scene};
use super::style::{Key, Layout, legend};
use crate::units::{bytes, count};

const COUNT: RGBColor = RGBColor(0x1F, 0x6F, 0xB2);
const BYTES: RGBColor = RGBColor(0xD5, 0x5E, 0x00);

/// The plots of a trace's statistics that have something to show; `name` is the trace's.
pub fn trace_plots(stat: &TraceStat, name: &str) -> Vec<Plot> {
    let both = |name: &'static str, caption: &str, draw: &dyn Fn(Layout) -> Option<Scene>| {
        Some(Plot { name, caption: caption.to_owned(), wide: draw(Layout::WIDE)?, narrow: draw(Layout::NARROW)? })
    };
    [
        both(
            "sizes",
            "Objects by the size asked for: share of all objects and share of all bytes. Where the two part, few objects make the memory.",
            &|layout| histogram(&stat.sizes, layout, "Sizes asked for", name, Unit::Bytes, "size"),
        ),
        both(
            "lifetimes",
            "Freed objects by how long they lived. Long-lived objects among short-lived ones are what fragments a heap.",
            &|layout| histogram(&stat.lifetimes, layout, "Lifetimes", name, Unit::Nanoseconds, "lifetime"),
        ),
        both("live", "Bytes asked for and not yet freed over the recording.", &|layout| live(stat, layout, name)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn histogram(bins: &Histogram, layout: Layout, head: &str, name: &str, unit: Unit, axis: &str) -> Option<Scene> {
    let (objects, total) = bins.iter().fold((0u64, 0u64), |(c, b), bin| (c + bin.count, b + bin.bytes));
    if objects == 0 {
        return None;
    }
    // Lifetimes come in microseconds; the axis is in nanoseconds. A bin from 0 begins at half its end.
    let factor = if unit == Unit::Nanoseconds { 1e3 } else { 1.0 };
    let edges = |from: u64, to: u64| {
        let to = to.max(from + 1) as f64;
        (if from == 0 { 0.5 * to } else { from as f64 } * factor, to * factor)
    };
    let x = Axis::log(bins.iter().flat_map(|b| <[f64; 2]>::from(edges(b.from, b.to))), unit);
    let share = |part: u64, of: u64| if of == 0 { 0.0 } else { 100.0 * part as f64 / of as f64 };
    let y = Axis::from_zero(bins.iter().flat_map(|b| [share(b.count, objects), share(b.bytes, total)]), Unit::Ratio);
    let mut scene = Scene::new(layout.width, &format!("{head}, {name}"));
    let top = title(&mut scene, layout, head, name);
    let height = if layout.is_narrow() { 200.0 } else { 260.0 };
    let x_name = format!("{axis} (logarithmic)");
    let (x, y, lower) = frame(&mut scene, layout, (top, height), (x, &x_name), (y, "share in per cent"));
    for bin in bins {
        let (from, to) = edges(bin.from, bin.to);
        let (a, b) = (x.at(from), x.at(to));
        let h = y.from - y.at(share(bin.count, objects));
        scene.rect(a, y.from - h, (b - a - 1.0).max(1.5), h, Paint(COUNT, 0.65));
    }
    for bin in bins {
        let (from, to) = edges(bin.from, bin.to);
        let (a, b, top) = (x.at(from), x.at(to), y.at(share(bin.bytes, total)));
        scene.line(vec![(a, top), (b.max(a + 2.0), top)], BYTES, 2.6);
    }
    let keys = [
        Key::Area(format!("of {} objects", count(objects as f64)), COUNT),
        Key::Stroke(format!("of their {}", bytes(total as f64)), BYTES, &[]),
    ];
    scene.height = legend(&mut scene, layout, 8.0, lower + 4.0, &keys) + 8.0;
    Some(scene)
}

fn live(stat: &TraceStat, layout: Layout, name: &str) -> Option<Scene> {
    let points: Vec<(f64, f64)> =
        stat.live.at_us.iter().zip(&stat.live.live_bytes).map(|(t, b)| (*t as f64 / 1e6, *b as f64)).collect();
    let end = points.last()?.0;
    let y = Axis::from_zero(points.iter().map(|p| p.1), Unit::Bytes);
    let x = Axis { hi: end.max(1e-9), scale: Scale::Linear, ..Axis::from_zero([end], Unit::Seconds) };
    let mut scene = Scene::new(layout.width, &format!("Live bytes over time, {name}"));
    let top = title(&mut scene, layout, "Live bytes over recorded time", name);
    let height = if layout.is_narrow() { 190.0 } else { 250.0 };
    let (x, y, lower) = frame(&mut scene, layout, (top, height), (x, "recorded time"), (y, "live bytes"));
    let line: Vec<(f64, f64)> = points.iter().map(|p| (x.at(p.0), y.at(p.1))).collect();
    let mut ground = line.clone();
    ground.extend([(x.at(end), y.from), (line[0].0, y.from)]);
    scene.polygon(ground, Paint(COUNT, 0.2));
    scene.line(line, INK, 1.6);
    scene.height = lower + 8.0;
    Some(scene)
}
