//! Rows of figures: one row a cell, named at its left, and panels side by side, three a line (one below the other on a
//! narrow page). Each row needs no legend and its figure stands beside it.

use fragbench_decide::BASELINE;
use plotters::style::RGBColor;

use super::axis::{Axis, Scale};
use super::frame::{GRID, SOFT};
use super::scene::{Align, INK, PAPER, Paint, Scene, fitted, text_width};
use super::style::{Layout, Marker, Style, draw_marker};

/// Between panels that stand side by side.
const GAP: f64 = 26.0;

/// What stands in one row of one panel.
#[derive(Debug, Default, Clone)]
pub(crate) struct Figure {
    /// A bar from zero.
    pub(crate) bar: Option<f64>,
    /// Interval of the bar's value.
    pub(crate) interval: Option<(f64, f64)>,
    /// Every run.
    pub(crate) dots: Vec<f64>,
    /// Markers, joined by a thin line.
    pub(crate) points: Vec<(f64, Marker, RGBColor)>,
    /// Text at the right of all this.
    pub(crate) text: String,
}

impl Figure {
    fn extent(&self) -> f64 {
        let ends = self.interval.map(|i| i.1);
        self.bar
            .iter()
            .chain(&ends)
            .chain(&self.dots)
            .copied()
            .chain(self.points.iter().map(|p| p.0))
            .fold(f64::MIN, f64::max)
    }
}

/// A column of figures with its own axis.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) axis: Axis,
    /// One a row; `None` is missing.
    pub(crate) figures: Vec<Option<Figure>>,
}

/// Draws the panels below `top`; returns the lower end.
pub(crate) fn rows(scene: &mut Scene, layout: Layout, top: f64, labels: &[Style], panels: &[Panel]) -> f64 {
    let font = layout.font;
    let widest = labels.iter().map(|s| text_width(row_label(layout, s), font)).fold(0.0, f64::max);
    let label_width = widest.min(if layout.is_narrow() { 112.0 } else { 190.0 });
    let left = 8.0 + label_width + 24.0;
    let all = layout.width - left - 10.0;
    // The same room for figures in every panel: bars on the same axis must compare across panels.
    let texts = panels.iter().flat_map(|p| p.figures.iter().flatten());
    let room = texts.map(|f| text_width(&f.text, font * 0.92)).fold(0.0, f64::max) + 10.0;
    let mut lower = top;
    if layout.is_narrow() {
        for panel in panels {
            draw_labels(scene, layout, lower, label_width, labels);
            lower = draw_panel(scene, layout, lower, (left, all, room), labels, panel) + 6.0;
        }
    } else {
        let columns = panels.len().clamp(1, 3);
        let width = (all - GAP * (columns as f64 - 1.0)) / columns as f64;
        for line in panels.chunks(columns) {
            let top = lower;
            draw_labels(scene, layout, top, label_width, labels);
            for (i, panel) in line.iter().enumerate() {
                let x = left + i as f64 * (width + GAP);
                lower = lower.max(draw_panel(scene, layout, top, (x, width, room), labels, panel));
            }
            lower += 8.0;
        }
    }
    lower
}

/// A narrow page has room for a setting or for the name it belongs to; the settings are all glibc's.
fn row_label(layout: Layout, style: &Style) -> &str {
    let setting = style.label.strip_prefix(BASELINE).and_then(|s| s.strip_prefix(' '));
    setting.filter(|_| layout.is_narrow()).unwrap_or(&style.label)
}

fn row_height(layout: Layout) -> f64 {
    layout.font * 1.85
}

fn row_at(layout: Layout, top: f64, i: usize) -> f64 {
    top + layout.font * 2.0 + (i as f64 + 0.5) * row_height(layout)
}

fn draw_labels(scene: &mut Scene, layout: Layout, top: f64, width: f64, labels: &[Style]) {
    for (i, style) in labels.iter().enumerate() {
        let y = row_at(layout, top, i);
        scene.text(8.0 + width, y, &fitted(row_label(layout, style), layout.font, width), layout.font, Align::Right);
        draw_marker(scene, style.marker, 8.0 + width + 13.0, y, 4.0, style.colour);
    }
}

fn draw_panel(
    scene: &mut Scene,
    layout: Layout,
    top: f64,
    (x, width, room): (f64, f64, f64),
    labels: &[Style],
    panel: &Panel,
) -> f64 {
    let font = layout.font;
    let soft = Paint(INK, SOFT);
    scene.text_styled(
        x,
        top + font * 0.8,
        &fitted(&panel.title, font, width + 18.0),
        font,
        Align::Left,
        true,
        INK.into(),
    );
    let axis = panel.axis.placed(x, x + width - room);
    let (upper, lower) = (top + font * 2.0, row_at(layout, top, labels.len()) - row_height(layout) / 2.0);
    let small = font * 0.88;
    let mut taken = f64::NEG_INFINITY;
    for tick in axis.ticks(((axis.to - axis.from) / (4.0 * font)) as usize) {
        let (at, text) = (axis.at(tick), axis.tick_label(tick));
        scene.line(vec![(at, upper), (at, lower)], Paint(INK, GRID), 1.0);
        let half = text_width(&text, small) / 2.0;
        if at - half > taken && at + half <= x + width + 12.0 {
            scene.text_styled(at, lower + font * 0.8, &text, small, Align::Centre, false, soft);
            taken = at + half + 5.0;
        }
    }
    for (i, (figure, style)) in panel.figures.iter().zip(labels).enumerate() {
        let y = row_at(layout, top, i);
        match figure {
            None => scene.text_styled(axis.from + 4.0, y, "no figure", small, Align::Left, false, Paint(INK, 0.55)),
            Some(figure) => draw_figure(scene, layout, y, &axis, figure, style),
        }
    }
    lower + font * 1.7
}

fn draw_figure(scene: &mut Scene, layout: Layout, y: f64, axis: &Axis, figure: &Figure, style: &Style) {
    let half = row_height(layout) * 0.33;
    let beyond = figure.extent() > axis.hi;
    if let Some(value) = figure.bar {
        let to = axis.at(value);
        scene.rect(axis.from, y - half, (to - axis.from).max(1.0), 2.0 * half, Paint(style.colour, 0.72));
        if value > axis.hi {
            // The bar goes on past the panel: a pointed end says so.
            scene.polygon(vec![(to, y - half), (to + 7.0, y), (to, y + half)], Paint(style.colour, 0.72));
        }
    }
    for dot in figure.dots.iter().filter(|d| **d <= axis.hi) {
        scene.circle(axis.at(*dot), y, 2.2, Paint(INK, 0.6));
    }
    if let Some((lo, hi)) = figure.interval.filter(|i| i.1 <= axis.hi) {
        let (lo, hi) = (axis.at(lo), axis.at(hi));
        scene.line(vec![(lo, y), (hi, y)], Paint(INK, 0.9), 1.4);
        for end in [lo, hi] {
            scene.line(vec![(end, y - 3.5), (end, y + 3.5)], Paint(INK, 0.9), 1.4);
        }
    }
    if let (Some(first), Some(last)) = (figure.points.first(), figure.points.last()) {
        let ends = (axis.at(first.0), axis.at(last.0));
        scene.line(vec![(ends.0, y), (ends.1, y)], Paint(style.colour, 0.5), 3.0);
        for (value, marker, colour) in &figure.points {
            draw_marker(scene, *marker, axis.at(*value), y, 4.2, *colour);
        }
    }
    let text_at = match (axis.scale, beyond) {
        (_, true) => axis.to + 11.0,
        (Scale::Linear, false) => axis.at(figure.extent().max(0.0)) + 8.0,
        (Scale::Log, false) => axis.at(figure.extent()) + 10.0,
    };
    let size = layout.font * 0.92;
    // The grid must not run through the figure.
    scene.rect(text_at - 1.0, y - size * 0.6, text_width(&figure.text, size) + 2.0, size * 1.2, PAPER);
    scene.text(text_at, y, &figure.text, size, Align::Left);
}
