//! Heap RSS at its peak, in the mean, at the end, after idling and after a purge: bars with intervals and every run.

use fragbench_model::metric;

use super::axis::Axis;
use super::frame::title;
use super::rows::{Figure, Panel, rows};
use super::scene::Scene;
use super::style::{Layout, Style};
use super::{Measured, Subject, dots};
use crate::units::human;

pub(super) const CAPTION: &str = "Heap RSS at five moments. Bars are medians, whiskers their 95 % interval, dots the single runs. \
The peak decides how much memory the machine must have; a bar that stays long from \u{201c}end\u{201d} to \u{201c}idle\u{201d} is memory the allocator keeps; \
what shrinks only under \u{201c}purged\u{201d} could be given back but is not until asked.";

const PANELS: [(&str, &str); 5] = [
    ("heap_rss_peak_bytes", "peak"),
    ("heap_rss_mean_bytes", "mean"),
    ("heap_rss_end_bytes", "end"),
    ("heap_rss_idle_bytes", "idle"),
    ("heap_rss_after_purge_bytes", "purged"),
];

pub(super) fn draw(subject: &Subject, layout: Layout) -> Option<Scene> {
    let panels = bar_panels(&subject.cells, &PANELS)?;
    let mut scene =
        Scene::new(layout.width, &format!("Heap RSS at its peak, mean, end, idle and purged, {}", subject.workload));
    let top = title(&mut scene, layout, "Heap RSS", subject.workload);
    let labels: Vec<Style> = subject.cells.iter().map(|m| m.style.clone()).collect();
    scene.height = rows(&mut scene, layout, top + 6.0, &labels, &panels) + 6.0;
    Some(scene)
}

/// One panel of bars a metric, all on the same axis so that lengths compare across panels; `None` when no cell has
/// any of the metrics. The null allocator does not stretch the axis.
pub(super) fn bar_panels(cells: &[Measured], metrics: &[(&str, &str)]) -> Option<Vec<Panel>> {
    let unit = metric(metrics.first()?.0)?.unit;
    let reach = |with_null: bool| -> Vec<f64> {
        cells
            .iter()
            .filter(|m| with_null || !m.is_null())
            .flat_map(|m| metrics.iter().flat_map(|(name, _)| dots(&m.runs.ok, name)))
            .collect()
    };
    let mut values = reach(false);
    if values.is_empty() {
        values = reach(true);
    }
    if values.is_empty() {
        return None;
    }
    let axis = Axis::from_zero(values, unit);
    let panel = |(name, title): &(&str, &str)| {
        let what = metric(name)?;
        let figure = |m: &Measured| {
            let i = m.median(name)?;
            Some(Figure {
                bar: Some(i.median),
                interval: (i.n > 1).then_some((i.lo, i.hi)),
                dots: dots(&m.runs.ok, name),
                points: Vec::new(),
                text: human(what, i.median),
            })
        };
        Some(Panel { title: (*title).to_owned(), axis, figures: cells.iter().map(figure).collect() })
    };
    metrics.iter().map(panel).collect()
}
