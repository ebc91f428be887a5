//! Address space against resident memory, on one logarithmic axis: two quantities that must not be taken for each other.

use fragbench_model::{Metric, metric};

use super::axis::Axis;
use super::frame::title;
use super::rows::{Figure, Panel, rows};
use super::scene::{INK, Scene};
use super::style::{Key, Layout, Marker, Style, legend};
use super::{Measured, Subject};
use crate::units::human;

pub(super) const CAPTION: &str = "Address space (VIRT) against resident memory (RSS) and live bytes, each at its peak, on a logarithmic axis. \
VIRT costs next to nothing until a page is touched: a wide gap between VIRT and RSS is no fault in itself. \
It matters where address space is limited (ulimit -v, strict overcommit, cgroups that count it).";

const MARKS: [(&str, &str, Marker); 3] = [
    ("live_peak_bytes", "live bytes", Marker::Plus),
    ("heap_rss_peak_bytes", "heap RSS", Marker::Circle),
    ("vm_peak_bytes", "VIRT", Marker::Square),
];

pub(super) fn draw(subject: &Subject, layout: Layout) -> Option<Scene> {
    let found: Vec<(&Metric, Marker)> =
        MARKS.iter().filter_map(|(name, _, marker)| Some((metric(name)?, *marker))).collect();
    let figure = |m: &Measured| {
        let mut points: Vec<_> = found
            .iter()
            .filter_map(|(what, marker)| {
                let value = m.median(what.name)?.median;
                let colour = if *marker == Marker::Plus { INK } else { m.style.colour };
                (value > 0.0).then_some((value, *marker, colour))
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let say = |name: &str| Some(human(metric(name)?, m.median(name)?.median));
        let text = match (say("heap_rss_peak_bytes"), say("vm_peak_bytes")) {
            (Some(_), Some(vm)) if layout.is_narrow() => vm,
            (Some(rss), Some(vm)) => format!("RSS {rss}, VIRT {vm}"),
            _ => String::new(),
        };
        (!points.is_empty()).then_some(Figure { points, text, ..Figure::default() })
    };
    let figures: Vec<Option<Figure>> = subject.cells.iter().map(figure).collect();
    let values: Vec<f64> = figures.iter().flatten().flat_map(|f| f.points.iter().map(|p| p.0)).collect();
    if values.is_empty() {
        return None;
    }
    let unit = metric("vm_peak_bytes")?.unit;
    let panel = Panel {
        title: if layout.is_narrow() { "peak (figure: VIRT)" } else { "peak" }.into(),
        axis: Axis::log(values, unit),
        figures,
    };
    let mut scene = Scene::new(layout.width, &format!("Address space against resident memory, {}", subject.workload));
    let top = title(&mut scene, layout, "VIRT against RSS", &format!("{} (logarithmic axis)", subject.workload));
    let labels: Vec<Style> = subject.cells.iter().map(|m| m.style.clone()).collect();
    let lower = rows(&mut scene, layout, top + 6.0, &labels, &[panel]);
    let keys: Vec<Key> = MARKS
        .iter()
        .map(|(_, name, marker)| Key::Point(Style { label: (*name).into(), colour: INK, dash: &[], marker: *marker }))
        .collect();
    scene.height = legend(&mut scene, layout, 8.0, lower + 2.0, &keys) + 8.0;
    Some(scene)
}
