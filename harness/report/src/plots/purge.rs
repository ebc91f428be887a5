//! What a purge costs against what it gives back.

use fragbench_model::{Interval, Unit};

use super::axis::{Axis, Scale};
use super::frame::{frame, title};
use super::scene::{Paint, Scene};
use super::style::{Key, Layout, draw_marker, legend};
use super::{Measured, Subject};

pub(super) const CAPTION: &str = "Duration of the first purge (malloc_trim(0), jemalloc's arena purge, mi_collect(true)) against the heap memory it gave back; \
right and down is better. A purge holds locks while it runs: the stall it causes in a thread that works meanwhile is in the purge table. \
Near the left edge there was nothing to give back, or nothing that could be.";

pub(super) fn draw(subject: &Subject, layout: Layout) -> Option<Scene> {
    let points: Vec<(&Measured, Interval, Interval)> = subject
        .cells
        .iter()
        .filter(|m| !m.is_null())
        .filter_map(|m| Some((m, m.median("purge_released_bytes")?, m.median("purge_ms")?)))
        .collect();
    if points.is_empty() {
        return None;
    }
    let x = Axis::from_zero(points.iter().flat_map(|p| [p.1.hi, p.1.median]), Unit::Bytes);
    let costs = || points.iter().flat_map(|p| [p.2.lo, p.2.hi, p.2.median]);
    let (least, most) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
    let wide = least > 0.0 && most > 40.0 * least;
    let y = if wide { Axis::log(costs(), Unit::Milliseconds) } else { Axis::from_zero(costs(), Unit::Milliseconds) };
    let mut scene = Scene::new(layout.width, &format!("Purge cost against memory given back, {}", subject.workload));
    let top = title(&mut scene, layout, "Purge: cost against memory given back", subject.workload);
    let height = if layout.is_narrow() { 220.0 } else { 280.0 };
    let y_name = if y.scale == Scale::Log { "duration (logarithmic)" } else { "duration" };
    let (x, y, lower) = frame(&mut scene, layout, (top, height), (x, "heap memory given back"), (y, y_name));
    for (m, freed, cost) in &points {
        let (px, py) = (x.at(freed.median), y.at(cost.median));
        if freed.n > 1 {
            scene.line(vec![(x.at(freed.lo), py), (x.at(freed.hi), py)], Paint(m.style.colour, 0.9), 1.5);
            scene.line(vec![(px, y.at(cost.lo)), (px, y.at(cost.hi))], Paint(m.style.colour, 0.9), 1.5);
        }
        draw_marker(&mut scene, m.style.marker, px, py, 5.0, m.style.colour);
    }
    let keys: Vec<Key> = points.iter().map(|(m, ..)| Key::Point(m.style.clone())).collect();
    scene.height = legend(&mut scene, layout, 8.0, lower + 4.0, &keys) + 8.0;
    Some(scene)
}
