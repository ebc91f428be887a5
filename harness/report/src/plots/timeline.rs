//! Heap RSS and live bytes over time: all allocators of a workload in one chart, phases marked.

use fragbench_model::{RecordingFact, Unit};

use super::axis::Axis;
use super::frame::{SOFT, frame, title};
use super::scene::{Align, INK, Paint, Scene, text_width};
use super::style::{Key, Layout, Style, draw_marker, legend};
use super::{Measured, Subject};
use crate::samples::{PhaseClock, Point, between, representative, thinned};
use crate::units::bytes;

pub(super) const CAPTION: &str = "Heap RSS over time, one run a cell (the one nearest the cell's median), with the live bytes of the same work. \
The gap between a curve and the live bytes is what the allocator holds beyond need. (RSS lies below the live bytes where a program leaves untouched what it asked for.) Look where the live bytes fall and a curve does not follow: \
that is memory kept after a peak. From left to right runs the progress of the work (calls completed), each phase as wide as its median duration, so that the same work \
lies above itself; speed is in the table.";

/// Dash of the recorded server's line.
const SERVER_DASH: &[f64] = &[9.0, 2.5, 2.0, 2.5];

struct Curve {
    style: Style,
    points: Vec<Point>,
    null: bool,
    seed: usize,
}

pub(super) fn draw(subject: &Subject, layout: Layout) -> Option<Scene> {
    // Of several recordings one is drawn: only the same work lies above itself.
    let drawn = subject.cells.iter().find_map(|m| representative(&m.runs, subject.files, None));
    let drawn = drawn.and_then(|(run, _)| run.recording.as_deref());
    let chosen: Vec<(&Measured, _)> =
        subject.cells.iter().filter_map(|m| Some((m, representative(&m.runs, subject.files, drawn)?))).collect();
    let clock = PhaseClock::new(&chosen.iter().map(|(_, (run, _))| *run).collect::<Vec<_>>());
    let most = if layout.is_narrow() { 160 } else { 420 };
    let curves: Vec<Curve> = chosen
        .iter()
        .enumerate()
        .map(|(seed, (m, (run, samples)))| Curve {
            style: m.style.clone(),
            points: thinned(&clock.curve(run, samples), most),
            null: m.is_null(),
            seed,
        })
        .filter(|c| !c.points.is_empty())
        .collect();
    // The live bytes are the same work under every allocator: the first cell's stand for all.
    let live = curves.iter().find(|c| !c.null).or(curves.first())?;
    // A command does not tell its live bytes.
    let has_live = chosen.iter().any(|(_, (run, _))| run.done.is_some());
    // The null allocator never reuses memory; it may leave the chart but not flatten the others.
    let scaled = |c: &&Curve| !c.null || curves.iter().all(|c| c.null);
    let servers = of_servers(subject, &clock);
    let heights = curves.iter().filter(scaled).flat_map(|c| c.points.iter().flat_map(|p| [p.1, p.2]));
    let heights = heights.chain(servers.iter().flatten().map(|p| p.1));
    let y = Axis::from_zero(heights, Unit::Bytes);
    let end = curves.iter().flat_map(|c| c.points.last()).map(|p| p.0).fold(0.0, f64::max);
    let end = clock.bands.last().map_or(end, |b| b.2.max(end));
    let x = Axis { hi: end.max(1e-9), ..Axis::from_zero([end], Unit::Seconds) };

    let name = if has_live { "Heap RSS and live bytes over time" } else { "Heap RSS over time" };
    let mut scene = Scene::new(layout.width, &format!("{name}, {}", subject.workload));
    let top = title(&mut scene, layout, name, subject.workload);
    let height = if layout.is_narrow() { 230.0 } else { 340.0 };
    let name =
        if clock.bands.is_empty() { "time" } else { "progress of the work, each phase as wide as its median duration" };
    let (x, y, mut lower) = frame(&mut scene, layout, (top, height), (x, name), (y, "heap RSS"));
    let phase_key = draw_phases(&mut scene, layout, &clock, &x, &y);

    for curve in &curves {
        let points: Vec<(f64, f64)> = curve.points.iter().map(|p| (x.at(p.0), y.at(p.1))).collect();
        // Where the null allocator leaves the chart its line ends instead of running along the edge.
        let inside = curve.points.iter().take_while(|p| !curve.null || p.1 <= y.hi).count();
        scene.dashed(&points[..inside], curve.style.dash, curve.style.colour, 1.9);
        let shown = &points[..inside];
        let every = (shown.len() / 6).max(1);
        for i in (0..6).map(|k| k * every + every * (2 * curve.seed + 1) / (2 * curves.len().max(1))) {
            if let Some((px, py)) = shown.get(i) {
                draw_marker(&mut scene, curve.style.marker, *px, *py, 3.4, curve.style.colour);
            }
        }
    }
    for server in &servers {
        let line: Vec<(f64, f64)> = server.iter().map(|p| (x.at(p.0), y.at(p.1))).collect();
        scene.dashed(&line, SERVER_DASH, INK, if servers.len() > 1 { 1.4 } else { 2.4 });
    }
    let live: Vec<(f64, f64)> = live.points.iter().map(|p| (x.at(p.0), y.at(p.2))).collect();
    let mut keys = Vec::new();
    if has_live {
        scene.dashed(&live, &[4.0, 2.0], INK, 1.7);
        keys.push(Key::Stroke("live bytes".into(), INK, &[4.0, 2.0]));
    }
    match servers.len() {
        0 => {}
        1 => keys.push(Key::Stroke("the recorded server".into(), INK, SERVER_DASH)),
        n => keys.push(Key::Stroke(format!("the server, recorded {n} times"), INK, SERVER_DASH)),
    }
    keys.extend(curves.iter().map(|c| {
        let mut style = c.style.clone();
        let peak = c.points.iter().map(|p| p.1).fold(0.0, f64::max);
        if c.null && peak > y.hi {
            style.label = format!("{} (leaves the chart, up to {})", style.label, bytes(peak));
        }
        Key::Line(style)
    }));
    if let Some(text) = phase_key {
        lower = wrapped(&mut scene, layout, lower, &text);
    }
    scene.height = legend(&mut scene, layout, 8.0, lower + 4.0, &keys) + 8.0;
    Some(scene)
}

/// What each recorded server held, at the moments of the work it held it at.
fn of_servers(subject: &Subject, clock: &PhaseClock) -> Vec<Vec<(f64, f64)>> {
    let line = |fact: &&RecordingFact| {
        let of_it =
            subject.cells.iter().filter_map(|m| representative(&m.runs, subject.files, fact.recording.as_deref()));
        let told = of_it.map(|(run, samples)| clock.recorded(run, samples)).max_by_key(Vec::len).unwrap_or_default();
        let place = |(us, held): &(u64, u64)| Some((between(&told, *us as f64)?, *held as f64));
        fact.samples.iter().filter_map(place).collect()
    };
    subject.recordings.iter().map(line).filter(|line: &Vec<_>| !line.is_empty()).collect()
}

/// Bounds and names of the phases; where a name does not fit its number stands, and the key to the numbers is returned.
fn draw_phases(scene: &mut Scene, layout: Layout, clock: &PhaseClock, x: &Axis, y: &Axis) -> Option<Vec<String>> {
    let font = layout.font * 0.9;
    let fits = |(name, a, b): &(String, f64, f64)| text_width(name, font) + 6.0 < x.at(*b) - x.at(*a);
    let mut taken = f64::NEG_INFINITY;
    let mut numbered = Vec::new();
    for (i, band) in clock.bands.iter().enumerate() {
        let (a, b) = (x.at(band.1), x.at(band.2));
        if i % 2 == 1 {
            scene.rect(a, y.to, b - a, y.from - y.to, Paint(INK, 0.045));
        }
        if i > 0 {
            scene.dashed(&[(a, y.to), (a, y.from)], &[2.0, 3.0], Paint(INK, 0.35), 1.0);
        }
        let text = if fits(band) {
            band.0.clone()
        } else {
            numbered.push(format!("{} {}", i + 1, band.0));
            (i + 1).to_string()
        };
        let middle = f64::midpoint(a, b);
        let half = text_width(&text, font) / 2.0;
        if middle - half > taken {
            scene.text_styled(middle, y.to - font * 0.75, &text, font, Align::Centre, false, Paint(INK, SOFT));
            taken = middle + half + 4.0;
        }
    }
    (!numbered.is_empty()).then_some(numbered)
}

/// Writes words in as many lines as they need; returns the lower end.
fn wrapped(scene: &mut Scene, layout: Layout, top: f64, words: &[String]) -> f64 {
    let font = layout.font * 0.92;
    let mut line = String::from("phases:");
    let mut y = top + font * 0.6;
    for word in words {
        let longer = format!("{line}{} {word}", if line.ends_with(':') { "" } else { "," });
        if text_width(&longer, font) > layout.width - 16.0 {
            scene.text_styled(8.0, y, &line, font, Align::Left, false, Paint(INK, SOFT));
            y += font * 1.4;
            line = word.clone();
        } else {
            line = longer;
        }
    }
    scene.text_styled(8.0, y, &line, font, Align::Left, false, Paint(INK, SOFT));
    y + font
}
