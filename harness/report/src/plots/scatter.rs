//! Heap RSS against throughput: the choice itself. The sweep of the arena limit is joined as a curve.

use fragbench_decide::{BASELINE, PEAK, pareto_front, throughput_of};
use fragbench_model::{Interval, Unit};

use super::axis::Axis;
use super::frame::{SOFT, beside, frame, title};
use super::scene::{Align, INK, Paint, Scene};
use super::style::{Key, Layout, draw_marker, legend};
use super::{Measured, Subject, dots};

pub(super) const CAPTION: &str = "Peak heap RSS against throughput, medians with their 95 % intervals, single runs as dots; left and up is better. \
Rings mark the Pareto front: cells that no other beats in both. The curve joins the settings of the arena limit (the number beside a point; \
\u{221e} is the default). Going left along it saves memory; how far it drops meanwhile is the price. The dotted line is the null allocator, which never reuses memory: \
the driver's own cost plus the page faults of ever new memory; its memory is off the chart.";

const ARENA_MAX: &str = "MALLOC_ARENA_MAX";

pub(super) fn draw(subject: &Subject, layout: Layout) -> Option<Scene> {
    let speed = throughput_of(&subject.cells.first()?.runs.cell.workload);
    let points: Vec<(&Measured, Interval, Interval)> = subject
        .cells
        .iter()
        .filter(|m| !m.is_null())
        .filter_map(|m| Some((m, m.median(PEAK)?, m.median(speed)?)))
        .collect();
    if points.is_empty() {
        return None;
    }
    let null = subject.cells.iter().find(|m| m.is_null()).and_then(|m| m.median(speed));
    let every = |metric: &str| points.iter().flat_map(|p| dots(&p.0.runs.ok, metric)).collect::<Vec<f64>>();
    let x = Axis::around(points.iter().flat_map(|p| [p.1.lo, p.1.hi, p.1.median]).chain(every(PEAK)), Unit::Bytes);
    let speeds = points.iter().flat_map(|p| [p.2.lo, p.2.hi, p.2.median]).chain(every(speed));
    let fastest = points.iter().map(|p| p.2.hi).fold(0.0, f64::max);
    // The null allocator's line belongs in the chart unless it would flatten everything else.
    let limit = null.map(|n| n.median).filter(|n| *n <= 2.5 * fastest);
    let y = Axis::around(speeds.chain(limit), Unit::PerSecond);

    let mut scene = Scene::new(layout.width, &format!("Heap RSS against throughput, {}", subject.workload));
    let top = title(&mut scene, layout, "Heap RSS against throughput", subject.workload);
    let height = if layout.is_narrow() { 240.0 } else { 330.0 };
    let (x, y, lower) = frame(
        &mut scene,
        layout,
        (top, height),
        (x, &named("peak heap RSS (less is better", &x)),
        (y, &named(&format!("{} (more is better", if speed == "ops_per_s" { "calls a second" } else { speed }), &y)),
    );

    if let Some(limit) = limit {
        let at = y.at(limit);
        scene.dashed(&[(x.from, at), (x.to, at)], &[2.0, 4.0], Paint(INK, 0.7), 1.4);
        let text = "null allocator";
        scene.text_styled(
            x.to - 4.0,
            at - layout.font * 0.8,
            text,
            layout.font * 0.92,
            Align::Right,
            false,
            Paint(INK, SOFT),
        );
    }
    let mut sweep: Vec<(u64, f64, f64)> = points
        .iter()
        .filter_map(|(m, mem, speed)| Some((arena_limit(m)?, x.at(mem.median), y.at(speed.median))))
        .collect();
    sweep.sort_by_key(|s| s.0);
    scene.line(sweep.iter().map(|s| (s.1, s.2)).collect(), Paint(INK, 0.45), 1.4);
    for (m, mem, speed) in &points {
        let (px, py) = (x.at(mem.median), y.at(speed.median));
        if mem.n > 1 {
            scene.line(vec![(x.at(mem.lo), py), (x.at(mem.hi), py)], Paint(m.style.colour, 0.9), 1.5);
            scene.line(vec![(px, y.at(speed.lo)), (px, y.at(speed.hi))], Paint(m.style.colour, 0.9), 1.5);
        }
    }
    // Every run is a dot: resident memory often has several levels.
    for (m, ..) in &points {
        for run in &m.runs.ok {
            if let (Some(&mem), Some(&per_s)) = (run.metrics.get(PEAK), run.metrics.get(speed)) {
                scene.circle(x.at(mem), y.at(per_s), 1.6, Paint(m.style.colour, 0.55));
            }
        }
    }
    let front = pareto_front(&points.iter().map(|p| (p.1.median, p.2.median)).collect::<Vec<_>>());
    for (i, (m, mem, speed)) in points.iter().enumerate() {
        let (px, py) = (x.at(mem.median), y.at(speed.median));
        if front.contains(&i) {
            let ring = (0..=24).map(|k| std::f64::consts::TAU * f64::from(k) / 24.0);
            scene.line(ring.map(|a| (px + 9.0 * a.cos(), py + 9.0 * a.sin())).collect(), Paint(INK, 0.8), 1.2);
        }
        draw_marker(&mut scene, m.style.marker, px, py, 5.0, m.style.colour);
    }
    if sweep.len() > 1 {
        let name = |limit: u64| if limit == u64::MAX { "∞".to_owned() } else { limit.to_string() };
        let texts: Vec<_> = sweep.iter().map(|(limit, px, py)| (*px, *py, name(*limit))).collect();
        let marks: Vec<(f64, f64)> = points.iter().map(|(_, mem, v)| (x.at(mem.median), y.at(v.median))).collect();
        beside(&mut scene, &texts, &marks, layout.font, (x.from, x.to));
    }
    let keys: Vec<Key> = points.iter().map(|(m, ..)| Key::Point(m.style.clone())).collect();
    scene.height = legend(&mut scene, layout, 8.0, lower + 4.0, &keys) + 8.0;
    Some(scene)
}

/// Name of an axis; one that leaves zero out says so.
fn named(name: &str, axis: &Axis) -> String {
    format!("{name}{})", if axis.lo > 0.0 { "; not from zero" } else { "" })
}

/// The arena limit of a cell of the sweep; the default is above any.
fn arena_limit(m: &Measured) -> Option<u64> {
    let allocator = &m.runs.cell.allocator;
    if allocator.name != BASELINE {
        return None;
    }
    match (allocator.settings.len(), allocator.settings.get(ARENA_MAX)) {
        (0, _) => Some(u64::MAX),
        (1, Some(limit)) => limit.parse().ok(),
        _ => None,
    }
}
