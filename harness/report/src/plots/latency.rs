//! Latency percentiles of malloc and free, on a logarithmic axis.

use fragbench_model::metric;

use super::axis::Axis;
use super::frame::title;
use super::rows::{Figure, Panel, rows};
use super::scene::{INK, Scene};
use super::style::{Key, Layout, Marker, Style, legend};
use super::{Measured, Subject};
use crate::units::human;

pub(super) const CAPTION: &str = "Latency of an allocation: median, 99th, 99.9th percentile and the longest one timed; and the 99th percentile of a free. \
The axis is logarithmic and the timer's own cost is included. The median says what a call costs, the right end what a request may have to wait for: \
page faults, a lock held by another thread, memory given back.";

const MARKS: [(&str, &str, Marker); 4] = [
    ("malloc_p50_ns", "median", Marker::Circle),
    ("malloc_p99_ns", "99 %", Marker::Diamond),
    ("malloc_p999_ns", "99.9 %", Marker::Square),
    ("malloc_max_ns", "longest", Marker::Bar),
];

pub(super) fn draw(subject: &Subject, layout: Layout) -> Option<Scene> {
    let panel = |title: &str, names: &[(&str, &str, Marker)], said: &str| {
        let figure = |m: &Measured| {
            let points: Vec<_> = names
                .iter()
                .filter_map(|(name, _, marker)| Some((m.median(name)?.median, *marker, m.style.colour)))
                .filter(|p| p.0 > 0.0)
                .collect();
            let text = metric(said).zip(m.median(said)).map(|(what, i)| human(what, i.median)).unwrap_or_default();
            (!points.is_empty()).then_some(Figure { points, text, ..Figure::default() })
        };
        let figures: Vec<Option<Figure>> = subject.cells.iter().map(figure).collect();
        let values: Vec<f64> = figures.iter().flatten().flat_map(|f| f.points.iter().map(|p| p.0)).collect();
        let unit = metric(said)?.unit;
        (!values.is_empty()).then(|| Panel { title: title.into(), axis: Axis::log(values, unit), figures })
    };
    let panels: Vec<Panel> = [
        panel("malloc (figure: longest)", &MARKS, "malloc_max_ns"),
        panel("free, 99 %", &[("free_p99_ns", "99 %", Marker::Diamond)], "free_p99_ns"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if panels.is_empty() {
        return None;
    }
    let mut scene = Scene::new(layout.width, &format!("Latency percentiles, {}", subject.workload));
    let top = title(&mut scene, layout, "Latency", &format!("{} (logarithmic axes)", subject.workload));
    let labels: Vec<Style> = subject.cells.iter().map(|m| m.style.clone()).collect();
    let lower = rows(&mut scene, layout, top + 6.0, &labels, &panels);
    let keys: Vec<Key> = MARKS
        .iter()
        .map(|(_, name, marker)| Key::Point(Style { label: (*name).into(), colour: INK, dash: &[], marker: *marker }))
        .collect();
    scene.height = legend(&mut scene, layout, 8.0, lower + 2.0, &keys) + 8.0;
    Some(scene)
}
