//! The outcome of a search: memory against throughput, what was dropped on the way included.

use fragbench_decide::BASELINE;
use fragbench_model::{TunePoint, Tuning, Unit, metric};

use super::Plot;
use super::axis::Axis;
use super::frame::{beside, frame, title};
use super::scene::{INK, Paint, Scene};
use super::style::{Key, Layout, Styles, draw_marker, legend};

const CAPTION: &str = "Memory against throughput, medians of all runs; left and up is better. The steps are the Pareto front: what stands \
at a corner is beaten in both by none that was measured to the end, and beats in both what lies right of and below the steps. The large ring is the recommendation, the small one the knee: beyond it less memory begins to cost more. \
Small grey dots were dropped after few runs.";

/// The plot; `None` where nothing has figures.
pub fn tuning_plot(tuning: &Tuning) -> Option<Plot> {
    Some(Plot {
        name: "tune",
        caption: CAPTION.to_owned(),
        wide: draw(tuning, Layout::WIDE)?,
        narrow: draw(tuning, Layout::NARROW)?,
    })
}

fn place(point: &TunePoint) -> Option<(f64, f64)> {
    Some((point.memory_bytes?, point.ops_per_s?))
}

fn draw(tuning: &Tuning, layout: Layout) -> Option<Scene> {
    let kept: Vec<&TunePoint> =
        tuning.baseline.iter().chain(&tuning.finalists).filter(|p| place(p).is_some()).collect();
    if kept.is_empty() {
        return None;
    }
    // Axes end where the finalists do: what was dropped may be far off and is then left out.
    let around = |of: fn((f64, f64)) -> f64, unit| Axis::around(kept.iter().filter_map(|p| place(p)).map(of), unit);
    let (x, y) = (around(|p| p.0, Unit::Bytes), around(|p| p.1, Unit::PerSecond));
    let mut scene = Scene::new(layout.width, &format!("Settings tried, {}", tuning.workload));
    let top = title(&mut scene, layout, "Memory against throughput", &tuning.workload);
    let height = if layout.is_narrow() { 240.0 } else { 330.0 };
    let what = metric(&tuning.memory).map_or(tuning.memory.as_str(), |m| m.meaning);
    let speed = match tuning.throughput.as_str() {
        "ops_per_s" => "calls a second",
        "runs_per_s" => "runs a second",
        own => own,
    };
    let (x, y, lower) = frame(
        &mut scene,
        layout,
        (top, height),
        (x, &named(what, "less is better", &x)),
        (y, &named(speed, "more is better", &y)),
    );
    for (memory, speed) in tuning.dropped.iter().filter_map(place) {
        if (x.lo..=x.hi).contains(&memory) && (y.lo..=y.hi).contains(&speed) {
            scene.circle(x.at(memory), y.at(speed), 2.2, Paint(INK, 0.35));
        }
    }
    let at = |p: &TunePoint| place(p).map(|(memory, speed)| (x.at(memory), y.at(speed)));
    // A staircase: below and right of it lies what the front beats. Of one point it has a corner still.
    let mut front: Vec<(f64, f64)> = tuning.front.iter().filter_map(at).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    if let (Some(first), Some(last)) = (front.first().copied(), front.last().copied()) {
        let mut stairs = vec![(first.0, y.from), first];
        stairs.extend(front.windows(2).flat_map(|pair| [(pair[1].0, pair[0].1), pair[1]]));
        stairs.push((x.to, last.1));
        scene.line(stairs, Paint(INK, 0.45), 1.4);
    }
    let mut ring = |point: &TunePoint, radius: f64| {
        if let Some((px, py)) = at(point) {
            let angles = (0..=32).map(|k| std::f64::consts::TAU * f64::from(k) / 32.0);
            scene.line(angles.map(|a| (px + radius * a.cos(), py + radius * a.sin())).collect(), Paint(INK, 0.8), 1.4);
        }
    };
    if let Some(knee) = tuning.knee.and_then(|i| tuning.front.get(i)) {
        ring(knee, 9.0);
    }
    let recommended = tuning.recommendation.as_ref();
    if let Some(point) =
        recommended.and_then(|r| kept.iter().find(|p| p.allocator == r.allocator && p.settings == r.settings))
    {
        ring(point, 13.0);
    }
    let styles = Styles::of_all(kept.iter().map(|p| (p.allocator.as_str(), &p.settings)));
    let (mut keys, mut texts) = (Vec::new(), Vec::new());
    for point in &kept {
        let style = styles.of(&point.allocator, &point.settings);
        if let Some((px, py)) = at(point) {
            draw_marker(&mut scene, style.marker, px, py, 5.0, style.colour);
            if point.allocator == BASELINE && point.settings.is_empty() {
                texts.push((px, py, "default".to_owned()));
            }
        }
        keys.push(Key::Point(style));
    }
    let marks: Vec<(f64, f64)> = kept.iter().filter_map(|p| at(p)).collect();
    beside(&mut scene, &texts, &marks, layout.font, (x.from, x.to));
    scene.height = legend(&mut scene, layout, 8.0, lower + 4.0, &keys) + 8.0;
    Some(scene)
}

/// Name of an axis; one that leaves zero out says so.
fn named(name: &str, better: &str, axis: &Axis) -> String {
    format!("{name} ({better}{})", if axis.lo > 0.0 { "; not from zero" } else { "" })
}
