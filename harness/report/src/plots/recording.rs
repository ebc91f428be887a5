//! A watched process over time: what its memory is made of, its arenas and threads, its page faults.

use fragbench_model::{Reading, Unit};
use plotters::style::RGBColor;

use super::Plot;
use super::axis::Axis;
use super::frame::{SOFT, frame, title};
use super::scene::{Align, INK, Paint, Scene, text_width};
use super::style::{Key, Layout, legend};
use crate::recording::Recording;

/// Readings drawn at most; of each stretch the one with the most resident memory.
const POINTS: usize = 600;

const LIVE: RGBColor = RGBColor(0x1F, 0x6F, 0xB2);
const CACHED: RGBColor = RGBColor(0xE6, 0x9F, 0x00);
const FREE: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
const TOP: RGBColor = RGBColor(0xCC, 0x79, 0xA7);
const OUTSIDE: RGBColor = RGBColor(0x8C, 0x8C, 0x8C);
const AFTER_TRIM: RGBColor = RGBColor(0x00, 0x9E, 0x73);

/// A layer of resident memory: its name, its colour, its bytes.
type Layer = (&'static str, RGBColor, fn(&Reading) -> Option<u64>);

/// From the bottom up; together they are what is resident.
const LAYERS: [Layer; 5] = [
    ("live, and malloc's own", LIVE, |r| {
        let heap = r.heap?;
        let idle = heap.tcache_bytes + heap.free_resident_bytes + heap.top_resident_bytes;
        Some(heap.resident_bytes.saturating_sub(idle))
    }),
    ("thread caches", CACHED, |r| Some(r.heap?.tcache_bytes)),
    ("free chunks", FREE, |r| Some(r.heap?.free_resident_bytes)),
    ("tops", TOP, |r| Some(r.heap?.top_resident_bytes)),
    ("outside the heap", OUTSIDE, |r| Some(r.rss_bytes.saturating_sub(r.heap?.resident_bytes))),
];

/// The plots of a recording that have something to show.
pub(crate) fn recording_plots(recording: &Recording) -> Vec<Plot> {
    type Draw = fn(&Recording, Layout) -> Option<Scene>;
    let list: [(&'static str, Draw, &str); 3] = [
        (
            "memory",
            memory,
            "Resident memory by what it is. Blue is in use; what lies between it and the grey is heap that malloc holds: look whether it grows while the blue does not. \
The dashed line is what would be left after malloc_trim(0). Numbers mark events, which are listed with the figures.",
        ),
        (
            "arenas",
            arenas,
            "Arenas and threads. Arenas are made when threads meet, and stay when the threads have gone.",
        ),
        (
            "faults",
            faults,
            "Page faults a second between two readings. Memory given back and taken again at once shows as faults at a steady load; major faults are reads from disk or swap.",
        ),
    ];
    list.into_iter()
        .filter_map(|(name, draw, caption)| {
            Some(Plot {
                name,
                caption: caption.to_owned(),
                wide: draw(recording, Layout::WIDE)?,
                narrow: draw(recording, Layout::NARROW)?,
            })
        })
        .collect()
}

/// Frame of a plot over the recording's time: the scene, both axes, the lower end.
fn over_time(
    recording: &Recording,
    layout: Layout,
    head: &str,
    (y, y_name): (Axis, &str),
) -> (Scene, (Axis, Axis), f64) {
    let about = recording.title();
    let mut scene = Scene::new(layout.width, &format!("{head}, {about}"));
    let top = title(&mut scene, layout, head, &about);
    let x = Axis { hi: recording.duration_s().max(1e-3), ..Axis::from_zero([recording.duration_s()], Unit::Seconds) };
    let height = if layout.is_narrow() { 210.0 } else { 300.0 };
    let (x, y, lower) = frame(&mut scene, layout, (top, height), (x, "time of the recording"), (y, y_name));
    (scene, (x, y), lower)
}

fn memory(recording: &Recording, layout: Layout) -> Option<Scene> {
    let readings = thinned(&recording.readings);
    let most = readings.iter().map(|(_, r)| r.rss_bytes as f64);
    let y = Axis::from_zero(most, Unit::Bytes);
    let (mut scene, (x, y), lower) = over_time(recording, layout, "Resident memory over time", (y, "resident"));
    // A stretch without a heap to see has no layers, only its resident memory.
    for seen in readings.chunk_by(|a, b| a.1.heap.is_some() == b.1.heap.is_some()).filter(|s| s[0].1.heap.is_some()) {
        let mut ground = vec![0.0; seen.len()];
        for (_, colour, layer) in LAYERS {
            let below: Vec<(f64, f64)> = seen.iter().zip(&ground).map(|((t, _), g)| (x.at(*t), y.at(*g))).collect();
            for ((_, reading), ground) in seen.iter().zip(&mut ground) {
                *ground += layer(reading).unwrap_or(0) as f64;
            }
            let mut edge: Vec<(f64, f64)> = seen.iter().zip(&ground).map(|((t, _), g)| (x.at(*t), y.at(*g))).collect();
            edge.extend(below.into_iter().rev());
            scene.polygon(edge, Paint(colour, 0.7));
        }
    }
    let line = |value: &dyn Fn(&Reading) -> Option<u64>| -> Vec<(f64, f64)> {
        readings.iter().filter_map(|(t, r)| Some((x.at(*t), y.at(value(r)? as f64)))).collect()
    };
    scene.line(line(&|r| Some(r.rss_bytes)), INK, 1.6);
    let after = line(&|r| Some(r.rss_bytes.saturating_sub(r.predicted_release_bytes?)));
    scene.dashed(&after, &[5.0, 3.0], AFTER_TRIM, 2.0);
    draw_events(&mut scene, recording, layout, &x, &y);

    let mut keys = vec![Key::Stroke("resident".into(), INK, &[])];
    if !after.is_empty() {
        keys.extend(LAYERS.iter().rev().map(|(name, colour, _)| Key::Swatch((*name).into(), *colour, 0.7)));
        keys.push(Key::Stroke("resident after malloc_trim(0), predicted".into(), AFTER_TRIM, &[5.0, 3.0]));
    }
    scene.height = legend(&mut scene, layout, 8.0, lower + 4.0, &keys) + 8.0;
    Some(scene)
}

/// Numbered lines where something happened; a number that would run into its neighbour is left out.
fn draw_events(scene: &mut Scene, recording: &Recording, layout: Layout, x: &Axis, y: &Axis) {
    let font = layout.font * 0.85;
    let mut taken = f64::NEG_INFINITY;
    for (i, (at, _)) in recording.events.iter().enumerate() {
        let at = x.at(*at);
        scene.dashed(&[(at, y.to), (at, y.from)], &[2.0, 3.0], Paint(INK, 0.45), 1.0);
        let text = (i + 1).to_string();
        let half = text_width(&text, font) / 2.0;
        if at - half > taken {
            scene.text_styled(at, y.to - font * 0.75, &text, font, Align::Centre, false, Paint(INK, SOFT));
            taken = at + half + 3.0;
        }
    }
}

fn arenas(recording: &Recording, layout: Layout) -> Option<Scene> {
    let readings = thinned(&recording.readings);
    if readings.iter().all(|(_, r)| r.arenas.is_empty()) {
        return None;
    }
    let counts = readings.iter().flat_map(|(_, r)| [r.arenas.len() as f64, r.threads as f64]);
    let y = Axis::from_zero(counts, Unit::Count);
    let (mut scene, (x, y), lower) = over_time(recording, layout, "Arenas and threads", (y, "how many"));
    let line = |value: &dyn Fn(&Reading) -> Option<f64>| -> Vec<(f64, f64)> {
        readings.iter().filter_map(|(t, r)| Some((x.at(*t), y.at(value(r)?)))).collect()
    };
    scene.line(line(&|r| r.heap.map(|_| r.arenas.len() as f64)), FREE, 2.0);
    scene.dashed(&line(&|r| Some(r.threads as f64)), &[5.0, 3.0], INK, 1.6);
    let keys = [Key::Stroke("arenas".into(), FREE, &[]), Key::Stroke("threads".into(), INK, &[5.0, 3.0])];
    scene.height = legend(&mut scene, layout, 8.0, lower + 4.0, &keys) + 8.0;
    Some(scene)
}

fn faults(recording: &Recording, layout: Layout) -> Option<Scene> {
    let begun = recording.readings.first()?.unix_s;
    let rates = |count: fn(&Reading) -> u64| -> Vec<(f64, f64)> {
        let pairs = recording.readings.windows(2).filter(|pair| pair[1].unix_s > pair[0].unix_s);
        let rates = pairs.map(|pair| {
            let more = count(&pair[1]).saturating_sub(count(&pair[0])) as f64;
            (pair[1].unix_s - begun, more / (pair[1].unix_s - pair[0].unix_s))
        });
        rates.collect()
    };
    let (minor, major) = (rates(|r| r.minor_faults), rates(|r| r.major_faults));
    if minor.is_empty() {
        return None;
    }
    let y = Axis::from_zero(minor.iter().chain(&major).map(|p| p.1), Unit::PerSecond);
    let (mut scene, (x, y), lower) = over_time(recording, layout, "Page faults", (y, "faults a second"));
    for (rates, colour) in [(&minor, LIVE), (&major, FREE)] {
        // The most of each stretch: a burst is not averaged away.
        let stretch = rates.len().div_ceil(POINTS).max(1);
        let most = rates.chunks(stretch).filter_map(|part| part.iter().max_by(|a, b| a.1.total_cmp(&b.1)));
        scene.line(most.map(|(t, rate)| (x.at(*t), y.at(*rate))).collect(), colour, 1.6);
    }
    let keys = [Key::Stroke("minor".into(), LIVE, &[]), Key::Stroke("major".into(), FREE, &[])];
    scene.height = legend(&mut scene, layout, 8.0, lower + 4.0, &keys) + 8.0;
    Some(scene)
}

/// Readings with their seconds since the first, at most [`POINTS`] and the last one.
fn thinned(readings: &[Reading]) -> Vec<(f64, &Reading)> {
    let begun = readings.first().map_or(0.0, |r| r.unix_s);
    let stretch = readings.len().div_ceil(POINTS).max(1);
    let mut kept: Vec<&Reading> =
        readings.chunks(stretch).filter_map(|part| part.iter().max_by_key(|r| r.rss_bytes)).collect();
    let last = readings.last().filter(|last| kept.last().is_some_and(|kept| kept.unix_s < last.unix_s));
    kept.extend(last);
    kept.into_iter().map(|r| (r.unix_s - begun, r)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_recording_keeps_its_peak_and_its_end() {
        let readings: Vec<Reading> = (0..10_000)
            .map(|i| Reading {
                unix_s: f64::from(i),
                rss_bytes: if i == 5003 { 900 } else { 100 },
                ..Reading::default()
            })
            .collect();
        let kept = thinned(&readings);
        assert!(kept.len() <= POINTS + 1);
        assert!(kept.iter().any(|(t, r)| *t == 5003.0 && r.rss_bytes == 900));
        assert_eq!(kept.last().unwrap().0, 9999.0);
        assert!(kept.is_sorted_by(|a, b| a.0 < b.0));
    }
}
