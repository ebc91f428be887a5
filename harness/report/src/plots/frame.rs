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

/// Half the extent of a marker with its ring, pixels.
const MARK: f64 = 9.0;

/// Texts beside their points, none on another nor on a marker as far as there is room: of the places around a point the first
/// that is free is taken, first near and then farther, with a thin line to the point.
pub(super) fn beside(
    scene: &mut Scene,
    texts: &[(f64, f64, String)],
    marks: &[(f64, f64)],
    font: f64,
    (left, right): (f64, f64),
) {
    for (place, (px, py, text)) in places(texts, marks, font, (left, right)).into_iter().zip(texts) {
        let (x, y) = place.middle();
        if (x - px).hypot(y - py) > 2.5 * MARK + place.half_width {
            scene.line(vec![(*px, *py), (x, y)], Paint(INK, 0.3), 0.8);
        }
        scene.text(x, y, text, font, Align::Centre);
    }
}

/// Where a text stands: its middle and half its extents.
#[derive(Debug, Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    half_width: f64,
    half_height: f64,
}

impl Place {
    fn middle(&self) -> (f64, f64) {
        (self.x, self.y)
    }

    fn meets(&self, x: f64, y: f64, half_width: f64, half_height: f64) -> bool {
        (self.x - x).abs() < self.half_width + half_width && (self.y - y).abs() < self.half_height + half_height
    }
}

fn places(texts: &[(f64, f64, String)], marks: &[(f64, f64)], font: f64, (left, right): (f64, f64)) -> Vec<Place> {
    let mut taken: Vec<Place> = Vec::new();
    for (px, py, text) in texts {
        let (half_width, half_height) = (text_width(text, font) / 2.0 + 1.0, font * 0.55);
        let around = (1..=6).flat_map(|ring| {
            let reach = f64::from(ring);
            [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0), (0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)].map(
                |(across, down)| Place {
                    x: px + across * (half_width + reach * MARK * 0.8),
                    y: py + down * (half_height + reach * MARK * 0.8),
                    half_width,
                    half_height,
                },
            )
        });
        let free = |place: &Place| {
            place.x - half_width >= left
                && place.x + half_width <= right
                && !marks.iter().any(|(x, y)| place.meets(*x, *y, MARK * 0.6, MARK * 0.6))
                && !taken.iter().any(|other| place.meets(other.x, other.y, other.half_width, other.half_height))
        };
        let mut around = around.peekable();
        let first = around.peek().copied();
        if let Some(place) = around.find(free).or(first) {
            taken.push(place);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_points_that_lie_together_lie_apart() {
        super::super::scene::Scene::new(100.0, "fonts");
        let points = [(300.0, 200.0), (302.0, 201.0), (303.0, 199.0), (301.0, 203.0), (640.0, 200.0), (638.0, 203.0)];
        let names = ["1", "2", "4", "8", "default", "∞"];
        let texts: Vec<_> = points.iter().zip(names).map(|((x, y), name)| (*x, *y, name.to_owned())).collect();
        let placed = places(&texts, &points, 12.0, (60.0, 660.0));
        assert_eq!(placed.len(), names.len());
        for (i, a) in placed.iter().enumerate() {
            assert!(a.x + a.half_width <= 660.0, "{a:?}");
            assert!(!points.iter().any(|(x, y)| a.meets(*x, *y, MARK * 0.5, MARK * 0.5)), "{a:?} lies on a marker");
            for b in &placed[i + 1..] {
                assert!(!a.meets(b.x, b.y, b.half_width, b.half_height), "{a:?} lies on {b:?}");
            }
        }
    }
}
