//! The frame of a plot with two axes: title, grid, ticks, axis names; everything but the data and the legend.

use super::axis::Axis;
use super::scene::{Align, INK, Paint, Scene, fitted, text_width};
use super::style::Layout;

/// Opacity of the grid.
pub(crate) const GRID: f64 = 0.16;
/// Opacity of texts that are not data.
pub(crate) const SOFT: f64 = 0.75;

/// Draws a title with what the plot is about below it; returns the lower end.
pub(crate) fn title(scene: &mut Scene, layout: Layout, title: &str, about: &str) -> f64 {
    let room = layout.width - 16.0;
    scene.text_styled(
        8.0,
        14.0,
        &fitted(title, layout.font * 1.15, room),
        layout.font * 1.15,
        Align::Left,
        true,
        INK.into(),
    );
    let y = 14.0 + layout.font * 1.5;
    scene.text_styled(8.0, y, &fitted(about, layout.font, room), layout.font, Align::Left, false, Paint(INK, SOFT));
    y + layout.font
}

/// Draws grid and axes of a plot whose data area is `height` high below `top`; returns the axes placed in pixels and
/// the lower end of the frame. The name of the vertical axis stands above it: nothing need be read sideways.
pub(crate) fn frame(
    scene: &mut Scene,
    layout: Layout,
    (top, height): (f64, f64),
    (x, x_name): (Axis, &str),
    (y, y_name): (Axis, &str),
) -> (Axis, Axis, f64) {
    let font = layout.font;
    let soft = Paint(INK, SOFT);
    let y_ticks = y.ticks((height / (3.2 * font)) as usize);
    let widest = y_ticks.iter().map(|v| text_width(&y.tick_label(*v), font)).fold(0.0, f64::max);
    let (left, right) = (8.0 + widest + 8.0, layout.width - 14.0);
    scene.text_styled(8.0, top + font * 0.7, y_name, font, Align::Left, false, soft);
    let (upper, lower) = (top + font * 2.5, top + font * 2.5 + height);
    let (x, y) = (x.placed(left, right), y.placed(lower, upper));
    for tick in y_ticks {
        let at = y.at(tick);
        scene.line(vec![(left, at), (right, at)], Paint(INK, GRID), 1.0);
        scene.text(left - 8.0, at, &y.tick_label(tick), font, Align::Right);
    }
    let mut taken = f64::NEG_INFINITY;
    for tick in x.ticks(((right - left) / (5.2 * font)) as usize) {
        let (at, text) = (x.at(tick), x.tick_label(tick));
        let half = text_width(&text, font) / 2.0;
        scene.line(vec![(at, lower), (at, lower + 4.0)], Paint(INK, 0.6), 1.0);
        // A label that would be cut off or run into its neighbour is left out; its tick stays.
        if at - half > taken && at + half < layout.width - 2.0 {
            scene.text(at, lower + 6.0 + font * 0.6, &text, font, Align::Centre);
            taken = at + half + 6.0;
        }
    }
    scene.line(vec![(left, lower), (right, lower)], Paint(INK, 0.6), 1.0);
    let name_at = lower + 8.0 + font * 1.9;
    scene.text_styled(f64::midpoint(left, right), name_at, x_name, font, Align::Centre, false, soft);
    (x, y, name_at + font * 0.9)
}
