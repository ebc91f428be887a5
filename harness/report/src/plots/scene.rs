//! A plot as a list of shapes in logical pixels, drawn by plotters' back-ends to SVG and to PNG alike. Text is
//! measured with the bundled font, so layout is the same on every machine; it refuses system fonts.

use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontFamily, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, register_font};

/// Text, axes and everything else that must contrast with the page: becomes `currentColor` in an inline SVG.
pub(crate) const INK: RGBColor = RGBColor(0x1A, 0x1A, 0x1A);
/// The page itself, for outlines that part a marker from the lines below it.
pub(crate) const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFE);
/// Back-ends take whole pixels: drawing at a multiple keeps curves smooth and PNGs sharp.
const SVG_SCALE: f64 = 4.0;
const PNG_SCALE: f64 = 2.0;
/// plotters' ab_glyph text stands this share of an em above the middle that its SVG text has (seen by eye).
const PNG_TEXT_DROP: f64 = 0.2;
/// plotters divides a font's size by this before it writes `font-size` (plotters-svg, `draw_text`).
const FONT_FACTOR: f64 = 1.24;

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Centre,
    Right,
}

/// Colour with its opacity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(pub(crate) RGBColor, pub(crate) f64);

impl From<RGBColor> for Paint {
    fn from(colour: RGBColor) -> Self {
        Paint(colour, 1.0)
    }
}

#[derive(Debug, Clone)]
enum Shape {
    Line { points: Vec<(f64, f64)>, paint: Paint, width: f64 },
    Rect { x: f64, y: f64, w: f64, h: f64, paint: Paint },
    Polygon { points: Vec<(f64, f64)>, paint: Paint },
    Circle { x: f64, y: f64, r: f64, paint: Paint },
    Text { x: f64, y: f64, text: String, size: f64, align: Align, bold: bool, paint: Paint },
}

/// A plot.
#[derive(Debug, Clone)]
pub struct Scene {
    pub(crate) width: f64,
    pub(crate) height: f64,
    title: String,
    shapes: Vec<Shape>,
}

impl Scene {
    /// An empty plot; `title` is what a screen reader says of it.
    pub(crate) fn new(width: f64, title: &str) -> Self {
        register();
        Scene { width, height: 0.0, title: fragbench_model::printable(title).into_owned(), shapes: Vec::new() }
    }

    pub(crate) fn line(&mut self, points: Vec<(f64, f64)>, paint: impl Into<Paint>, width: f64) {
        if points.len() > 1 {
            self.shapes.push(Shape::Line { points, paint: paint.into(), width });
        }
    }

    /// A line in strokes and gaps of the given lengths; a solid one when there are none.
    pub(crate) fn dashed(&mut self, points: &[(f64, f64)], dash: &[f64], paint: impl Into<Paint>, width: f64) {
        let paint = paint.into();
        if dash.is_empty() {
            return self.line(points.to_vec(), paint, width);
        }
        for stroke in strokes(points, dash) {
            self.line(stroke, paint, width);
        }
    }

    pub(crate) fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, paint: impl Into<Paint>) {
        self.shapes.push(Shape::Rect { x, y, w, h, paint: paint.into() });
    }

    pub(crate) fn polygon(&mut self, points: Vec<(f64, f64)>, paint: impl Into<Paint>) {
        self.shapes.push(Shape::Polygon { points, paint: paint.into() });
    }

    pub(crate) fn circle(&mut self, x: f64, y: f64, r: f64, paint: impl Into<Paint>) {
        self.shapes.push(Shape::Circle { x, y, r, paint: paint.into() });
    }

    /// Text whose middle line is at `y`.
    pub(crate) fn text(&mut self, x: f64, y: f64, text: &str, size: f64, align: Align) {
        self.text_styled(x, y, text, size, align, false, INK.into());
    }

    #[expect(clippy::too_many_arguments, reason = "every one is a plain attribute of a text")]
    pub(crate) fn text_styled(
        &mut self,
        x: f64,
        y: f64,
        text: &str,
        size: f64,
        align: Align,
        bold: bool,
        paint: Paint,
    ) {
        // A drawing is XML, in which a control cannot stand at all.
        let text = fragbench_model::printable(text).into_owned();
        self.shapes.push(Shape::Text { x, y, text, size, align, bold, paint });
    }

    /// The plot as an SVG file of its own, on a white ground.
    ///
    /// # Errors
    /// When the back-end fails, which it does not for memory.
    pub fn svg(&self) -> Result<String> {
        Ok(self.finish_svg(&self.raw_svg(true)?))
    }

    /// The plot as an element for a page: no ground, text and axes in the page's `currentColor`, scaling with its box.
    ///
    /// # Errors
    /// As [`Scene::svg`].
    pub fn inline_svg(&self) -> Result<String> {
        let svg = self.finish_svg(&self.raw_svg(false)?);
        let (ink, paper) = (hex(INK), hex(PAPER));
        Ok(svg
            .replace(&format!("fill=\"{ink}\""), "fill=\"currentColor\"")
            .replace(&format!("stroke=\"{ink}\""), "stroke=\"currentColor\"")
            .replace(&format!("fill=\"{paper}\""), "class=\"paper\"")
            .replace(&format!("stroke=\"{paper}\""), "class=\"paper-line\""))
    }

    fn raw_svg(&self, ground: bool) -> Result<String> {
        let mut out = String::new();
        let area = SVGBackend::with_string(&mut out, self.size(SVG_SCALE)).into_drawing_area();
        self.draw(&area, SVG_SCALE, 0.0, ground)?;
        drop(area);
        Ok(out)
    }

    /// Replaces plotters' opening tag: size in logical pixels, a name for screen readers, rounded line ends.
    fn finish_svg(&self, svg: &str) -> String {
        let body = svg.split_once('>').map_or("", |(_, body)| body);
        let (w, h) = self.size(SVG_SCALE);
        let title = self.title.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{:.0}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{title}\" stroke-linejoin=\"round\">{}",
            self.width,
            self.height,
            merged(&body.replace("opacity=\"1\" ", ""))
        )
    }

    /// The plot as a PNG file at twice its logical size.
    ///
    /// # Errors
    /// When the encoder fails, which it does not for memory.
    pub fn png(&self) -> Result<Vec<u8>> {
        let size = self.size(PNG_SCALE);
        let mut pixels = vec![0xFF; size.0 as usize * size.1 as usize * 3];
        let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        self.draw(&area, PNG_SCALE, PNG_TEXT_DROP, true)?;
        drop(area);
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, size.0, size.1);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header().and_then(|mut w| w.write_image_data(&pixels)).context("encoding a plot as PNG")?;
        Ok(file)
    }

    fn size(&self, scale: f64) -> (u32, u32) {
        ((self.width * scale).ceil() as u32, (self.height * scale).ceil() as u32)
    }

    fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: f64,
        text_drop: f64,
        ground: bool,
    ) -> Result<()> {
        let at = |x: f64, y: f64| ((x * scale).round() as i32, (y * scale).round() as i32);
        let stroke = |paint: &Paint, width: f64| ShapeStyle {
            color: paint.0.mix(paint.1),
            filled: false,
            stroke_width: (width * scale).round().max(1.0) as u32,
        };
        let path = |points: &[(f64, f64)]| points.iter().map(|&(x, y)| at(x, y)).collect::<Vec<_>>();
        let failed = |e: &dyn std::fmt::Display| anyhow!("drawing {}: {e}", self.title);
        if ground {
            area.fill(&PAPER).map_err(|e| failed(&e))?;
        }
        for shape in &self.shapes {
            match shape {
                Shape::Line { points, paint, width } => {
                    area.draw(&PathElement::new(path(points), stroke(paint, *width))).map_err(|e| failed(&e))?;
                }
                Shape::Rect { x, y, w, h, paint } => {
                    let corners = [at(*x, *y), at(x + w, y + h)];
                    area.draw(&Rectangle::new(corners, paint.0.mix(paint.1).filled())).map_err(|e| failed(&e))?;
                }
                Shape::Polygon { points, paint } => {
                    area.draw(&Polygon::new(path(points), paint.0.mix(paint.1))).map_err(|e| failed(&e))?;
                }
                Shape::Circle { x, y, r, paint } => {
                    let r = (r * scale).round() as i32;
                    area.draw(&Circle::new(at(*x, *y), r, paint.0.mix(paint.1).filled())).map_err(|e| failed(&e))?;
                }
                Shape::Text { x, y, text, size, align, bold, paint } => {
                    let h = match align {
                        Align::Left => HPos::Left,
                        Align::Centre => HPos::Center,
                        Align::Right => HPos::Right,
                    };
                    let style = if *bold { FontStyle::Bold } else { FontStyle::Normal };
                    let font = (FontFamily::SansSerif, size * scale * FONT_FACTOR, style).into_font();
                    let colour = paint.0.mix(paint.1);
                    let style = TextStyle::from(font).color(&colour).pos(Pos::new(h, VPos::Center));
                    area.draw(&Text::new(text.as_str(), at(*x, y + text_drop * size), style))
                        .map_err(|e| failed(&e))?;
                }
            }
        }
        area.present().map_err(|e| failed(&e))
    }
}

/// Joins runs of polylines that differ only in their points (the strokes of a dashed line) into one path each: an
/// SVG a third as large.
fn merged(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut open: Option<(&str, String)> = None;
    let close = |out: &mut String, open: Option<(&str, String)>| {
        if let Some((attributes, path)) = open {
            out.push_str(&format!("<path{attributes}d=\"{path}\"/>\n"));
        }
    };
    for line in body.lines() {
        let polyline = line
            .strip_prefix("<polyline")
            .and_then(|rest| rest.split_once("points=\""))
            .and_then(|(attributes, points)| Some((attributes, points.strip_suffix(" \"/>")?)));
        match (polyline, &mut open) {
            (Some((attributes, points)), Some((same, path))) if *same == attributes => {
                path.push_str(&format!("M{points}"));
            }
            (Some((attributes, points)), _) => {
                close(&mut out, open.take());
                open = Some((attributes, format!("M{points}")));
            }
            (None, _) => {
                close(&mut out, open.take());
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    close(&mut out, open);
    out
}

fn hex(c: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", c.0, c.1, c.2)
}

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let font = include_bytes!("../../font/DejaVuSans-subset.ttf");
        // A damaged font would leave the PNGs without text; the test below draws with it.
        let _ = register_font("sans-serif", FontStyle::Normal, font);
    });
}

/// Width of a text in logical pixels.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    register();
    // Measured at ten times the size because the measure is in whole pixels.
    let font = (FontFamily::SansSerif, size * FONT_FACTOR * 10.0).into_font();
    font.layout_box(text).map_or(0.6 * size * text.chars().count() as f64, |(_, (w, _))| f64::from(w) / 10.0)
}

/// The text, shortened in its middle until it fits.
pub(crate) fn fitted(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    for keep in (2..chars.len()).rev() {
        let (head, tail) = (keep.div_ceil(2), keep / 2);
        let short: String = chars[..head].iter().chain(['…'].iter()).chain(&chars[chars.len() - tail..]).collect();
        if text_width(&short, size) <= width {
            return short;
        }
    }
    "…".into()
}

/// Cuts a polyline into the strokes of a dash pattern.
fn strokes(points: &[(f64, f64)], dash: &[f64]) -> Vec<Vec<(f64, f64)>> {
    let mut out = Vec::new();
    let Some(&first) = points.first() else { return out };
    let (mut part, mut left, mut current) = (0, dash[0], vec![first]);
    for pair in points.windows(2) {
        let ((mut x, mut y), (x1, y1)) = (pair[0], pair[1]);
        let mut rest = (x1 - x).hypot(y1 - y);
        while rest > left {
            let share = left / rest;
            (x, y) = (x + (x1 - x) * share, y + (y1 - y) * share);
            rest -= left;
            if part % 2 == 0 {
                current.push((x, y));
                out.push(std::mem::take(&mut current));
            } else {
                current = vec![(x, y)];
            }
            part += 1;
            left = dash[part % dash.len()];
        }
        left -= rest;
        if part % 2 == 0 {
            current.push((x1, y1));
        }
    }
    if part % 2 == 0 && current.len() > 1 {
        out.push(current);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_cover_their_share_of_the_line() {
        let line = [(0.0, 0.0), (50.0, 0.0), (50.0, 50.0)];
        let length: f64 = strokes(&line, &[6.0, 4.0])
            .iter()
            .flat_map(|s| s.windows(2))
            .map(|w| (w[1].0 - w[0].0).hypot(w[1].1 - w[0].1))
            .sum();
        assert!((length - 60.0).abs() < 1e-9, "{length}");
        assert!(strokes(&[], &[1.0, 1.0]).is_empty());
    }

    #[test]
    fn the_bundled_font_draws_and_measures() {
        assert!(text_width("MiB", 14.0) > text_width("iii", 14.0));
        let mut scene = Scene::new(80.0, "x");
        scene.height = 30.0;
        let blank = scene.png().unwrap();
        scene.text(5.0, 15.0, "Größe µs", 12.0, Align::Left);
        assert!(scene.png().unwrap().len() > blank.len());
    }

    #[test]
    fn a_long_text_keeps_its_ends() {
        let short = fitted("glibc glibc.malloc.mmap_threshold=131072", 12.0, 120.0);
        assert!(short.starts_with("glibc") && short.ends_with("72") && short.contains('…'), "{short}");
        assert!(text_width(&short, 12.0) <= 120.0);
    }

    #[test]
    fn an_inline_plot_takes_the_colour_of_the_page() {
        let mut scene = Scene::new(40.0, "a < b");
        scene.height = 40.0;
        scene.text(1.0, 1.0, "a & b", 10.0, Align::Left);
        scene.circle(3.0, 3.0, 2.0, PAPER);
        let inline = scene.inline_svg().unwrap();
        assert!(inline.contains("currentColor") && inline.contains("class=\"paper\"") && !inline.contains("#1A1A1A"));
        assert!(inline.contains("aria-label=\"a &lt; b\"") && inline.contains("a &amp; b"));
        assert!(scene.svg().unwrap().contains("#1A1A1A"));
    }
}
