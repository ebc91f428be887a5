//! How each cell looks, the same in every plot: colour, dash pattern and marker. No two cells differ by colour alone.
//! Colours are those of Okabe and Ito (2008, "Color Universal Design"), the yellow left out because it vanishes on
//! white; settings of glibc are a family of blues, from dark to light in the order of the plan.

use fragbench_decide::{BASELINE, NULL};
use fragbench_model::{Settings, Summary, label};
use plotters::style::RGBColor;

use super::scene::{Align, PAPER, Paint, Scene, fitted, text_width};

/// Size of a plot in logical pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    /// Width.
    pub width: f64,
    /// Size of the font.
    pub font: f64,
}

impl Layout {
    /// For a desktop page and for files.
    pub const WIDE: Layout = Layout { width: 880.0, font: 13.0 };
    /// For a telephone: shown at its own size, never scaled down.
    pub const NARROW: Layout = Layout { width: 360.0, font: 12.0 };

    pub(crate) fn is_narrow(self) -> bool {
        self.width < 600.0
    }
}

/// Shape of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Circle,
    Square,
    Diamond,
    Up,
    Down,
    Cross,
    Plus,
    Bar,
}

/// How a cell looks.
#[derive(Debug, Clone)]
pub(crate) struct Style {
    pub(crate) label: String,
    pub(crate) colour: RGBColor,
    pub(crate) dash: &'static [f64],
    pub(crate) marker: Marker,
}

const BASELINE_COLOUR: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
const NULL_COLOUR: RGBColor = RGBColor(0x8C, 0x8C, 0x8C);
const SETTINGS: [(RGBColor, &[f64], Marker); 6] = [
    (RGBColor(0x1F, 0x6F, 0xB2), &[], Marker::Square),
    (RGBColor(0x3E, 0x8F, 0xD0), &[9.0, 3.0], Marker::Diamond),
    (RGBColor(0x56, 0xA6, 0xDE), &[5.0, 3.0], Marker::Up),
    (RGBColor(0x7F, 0xBA, 0xE8), &[2.0, 2.5], Marker::Down),
    (RGBColor(0x6A, 0x7F, 0xC8), &[9.0, 3.0, 2.0, 3.0], Marker::Square),
    (RGBColor(0x8E, 0x9C, 0xDA), &[5.0, 2.0, 2.0, 2.0], Marker::Diamond),
];
const OTHERS: [(RGBColor, &[f64], Marker); 5] = [
    (RGBColor(0x00, 0x9E, 0x73), &[], Marker::Cross),
    (RGBColor(0xCC, 0x79, 0xA7), &[], Marker::Plus),
    (RGBColor(0xE6, 0x9F, 0x00), &[10.0, 3.0], Marker::Bar),
    (RGBColor(0x5B, 0xB0, 0xA0), &[6.0, 3.0], Marker::Diamond),
    (RGBColor(0xA8, 0x57, 0x84), &[3.0, 3.0], Marker::Up),
];

/// The styles of all cells of a result, by label.
#[derive(Debug, Clone)]
pub struct Styles(Vec<Style>);

impl Styles {
    /// Styles for every allocator and setting of a summary, in its order.
    pub fn new(summary: &Summary) -> Self {
        Self::of_all(summary.cells.iter().map(|cell| (cell.allocator.as_str(), &cell.settings)))
    }

    /// Styles for allocators with their settings, in this order.
    pub(crate) fn of_all<'a>(all: impl IntoIterator<Item = (&'a str, &'a Settings)>) -> Self {
        let mut styles: Vec<Style> = Vec::new();
        let (mut settings, mut others) = (0, 0);
        for (allocator, own) in all {
            let name = label(allocator, own);
            if styles.iter().any(|s| s.label == name) {
                continue;
            }
            let (colour, dash, marker): (RGBColor, &[f64], Marker) = match allocator {
                BASELINE if own.is_empty() => (BASELINE_COLOUR, &[], Marker::Circle),
                BASELINE => next(&SETTINGS, &mut settings),
                NULL => (NULL_COLOUR, &[2.0, 4.0], Marker::Down),
                _ => next(&OTHERS, &mut others),
            };
            styles.push(Style { label: name, colour, dash, marker });
        }
        Styles(styles)
    }

    pub(crate) fn of(&self, allocator: &str, settings: &Settings) -> Style {
        let name = label(allocator, settings);
        let unknown = || Style { label: name.clone(), colour: NULL_COLOUR, dash: &[], marker: Marker::Circle };
        self.0.iter().find(|s| s.label == name).cloned().unwrap_or_else(unknown)
    }
}

fn next<T: Copy>(list: &[T], used: &mut usize) -> T {
    *used += 1;
    list[(*used - 1) % list.len()]
}

/// Draws a marker of radius `r`, parted from what is below it by an outline of the page's colour.
pub(crate) fn draw_marker(scene: &mut Scene, marker: Marker, x: f64, y: f64, r: f64, colour: RGBColor) {
    let shape = |scene: &mut Scene, r: f64, colour: RGBColor, thick: f64| match marker {
        Marker::Circle => scene.circle(x, y, r, colour),
        Marker::Square => scene.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r, colour),
        Marker::Diamond => {
            let r = 1.25 * r;
            scene.polygon(vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)], colour);
        }
        Marker::Up => {
            scene.polygon(vec![(x, y - 1.15 * r), (x + 1.1 * r, y + 0.85 * r), (x - 1.1 * r, y + 0.85 * r)], colour)
        }
        Marker::Down => {
            scene.polygon(vec![(x, y + 1.15 * r), (x + 1.1 * r, y - 0.85 * r), (x - 1.1 * r, y - 0.85 * r)], colour)
        }
        Marker::Cross => {
            let d = 0.8 * r;
            scene.line(vec![(x - d, y - d), (x + d, y + d)], colour, thick);
            scene.line(vec![(x - d, y + d), (x + d, y - d)], colour, thick);
        }
        Marker::Plus => {
            scene.line(vec![(x - r, y), (x + r, y)], colour, thick);
            scene.line(vec![(x, y - r), (x, y + r)], colour, thick);
        }
        Marker::Bar => scene.rect(x - 0.5 * r, y - 1.1 * r, r, 2.2 * r, colour),
    };
    shape(scene, r + 1.3, PAPER, 0.62 * r + 2.2);
    shape(scene, r, colour, 0.62 * r);
}

/// One entry of a legend.
pub(crate) enum Key {
    /// Line with marker.
    Line(Style),
    /// Marker alone.
    Point(Style),
    /// Line without marker.
    Stroke(String, RGBColor, &'static [f64]),
    /// Filled box.
    Area(String, RGBColor),
    /// Filled box of that opacity.
    Swatch(String, RGBColor, f64),
}

/// Draws a legend below `top`, in as many rows as it needs, and returns its lower end.
pub(crate) fn legend(scene: &mut Scene, layout: Layout, left: f64, top: f64, keys: &[Key]) -> f64 {
    let (font, gap) = (layout.font, 18.0);
    let row = font * 1.55;
    let right = layout.width - 8.0;
    let (mut x, mut y) = (left, top + row / 2.0);
    for key in keys {
        let (name, sample) = match key {
            Key::Line(s) => (&s.label, 28.0),
            Key::Point(s) => (&s.label, 12.0),
            Key::Stroke(name, ..) => (name, 28.0),
            Key::Area(name, _) | Key::Swatch(name, ..) => (name, 14.0),
        };
        let name = fitted(name, font, right - left - sample - 6.0);
        let width = sample + 6.0 + text_width(&name, font);
        if x > left && x + width > right {
            (x, y) = (left, y + row);
        }
        match key {
            Key::Line(s) => {
                scene.dashed(&[(x, y), (x + sample, y)], s.dash, s.colour, 2.0);
                draw_marker(scene, s.marker, x + sample / 2.0, y, 3.6, s.colour);
            }
            Key::Point(s) => draw_marker(scene, s.marker, x + sample / 2.0, y, 4.2, s.colour),
            Key::Stroke(_, colour, dash) => scene.dashed(&[(x, y), (x + sample, y)], dash, *colour, 2.0),
            Key::Area(_, colour) => scene.rect(x, y - 5.0, sample, 10.0, Paint(*colour, 0.65)),
            Key::Swatch(_, colour, opacity) => scene.rect(x, y - 5.0, sample, 10.0, Paint(*colour, *opacity)),
        }
        scene.text(x + sample + 6.0, y, &name, font, Align::Left);
        x += width + gap;
    }
    y + row / 2.0
}
