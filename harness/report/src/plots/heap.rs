//! Heap maps as a plot: every cell a column of what its bytes are, several maps of one heap below each other.

use fragbench_model::{HeapCell, HeapMap, HeapRow};
use plotters::style::RGBColor;

use super::Plot;
use super::frame::{SOFT, title};
use super::scene::{Align, INK, Paint, Scene, fitted};
use super::style::{Key, Layout, Marker, Style, draw_marker, legend};
use crate::heap_map::{arena, groups, likes, named_pins, pin_text};
use crate::units::bytes;

const CAPTION: &str = "The heap to scale, from the lowest address to the highest, line after line: each column is a cell, filled from below by what its bytes are. \
Orange is free memory the process still holds. A heap in `brk` shrinks only from its end, so a thin live column at the end of much orange is what keeps all of it; \
the triangles mark it.";

type Band = (&'static str, RGBColor, f64, fn(&HeapCell) -> u64);

const BANDS: [Band; 8] = [
    ("live", RGBColor(0x1F, 0x6F, 0xB2), 1.0, |c| c.live),
    ("malloc's own", INK, 0.55, |c| c.own),
    ("tcache", RGBColor(0xCC, 0x79, 0xA7), 1.0, |c| c.tcache),
    ("free, in memory", RGBColor(0xD5, 0x5E, 0x00), 0.85, |c| c.free_resident),
    ("top, in memory", RGBColor(0xE6, 0x9F, 0x00), 0.85, |c| c.top_resident),
    ("free, given back", INK, 0.18, |c| c.free_absent),
    ("top, not in memory", INK, 0.08, |c| c.top_absent),
    ("not malloc's or not understood", INK, 0.9, |c| c.unknown),
];

/// Steps the height of a cell is drawn in: cells that look alike become one shape.
const STEPS: u64 = 14;
/// Segments drawn; of more the largest are.
const ROWS: usize = 24;

/// Maps of one heap, best to one scale, each with what it shows.
pub fn heap_plot(maps: &[(&str, &HeapMap)], about: &str) -> Plot {
    let draw = |layout| draw(maps, about, layout);
    Plot { name: "heap-map", caption: CAPTION.into(), wide: draw(Layout::WIDE), narrow: draw(Layout::NARROW) }
}

fn draw(maps: &[(&str, &HeapMap)], about: &str, layout: Layout) -> Scene {
    let mut scene = Scene::new(layout.width, &format!("Heap map, {about}"));
    let mut y = title(&mut scene, layout, "Heap map", about) + 4.0;
    let (font, step) = (layout.font, if layout.is_narrow() { 4.0 } else { 6.0 });
    let room = layout.width - 16.0;
    let columns = (room / step) as usize;
    let soft = Paint(INK, SOFT);
    let line = |scene: &mut Scene, y: &mut f64, text: &str, paint: Paint| {
        *y += font * 0.8;
        scene.text_styled(8.0, *y, &fitted(text, font, room), font, Align::Left, false, paint);
        *y += font * 0.8;
    };
    let mut totals = [0u64; BANDS.len()];
    for (name, map) in maps {
        y += font * 1.4;
        scene.text_styled(8.0, y, &fitted(name, font, room), font, Align::Left, true, INK.into());
        y += font * 0.6;
        let looks = |row: &HeapRow| row.cells.iter().map(|cell| steps(cell, map.cell_bytes)).collect::<Vec<_>>();
        let (groups, left_out) = groups(map, ROWS, looks);
        let drawn: Vec<&HeapRow> = groups.iter().map(|group| &group[0]).collect();
        let named = named_pins(map, &drawn);
        for group in &groups {
            let row = &group[0];
            let pins = || named.iter().filter(|(_, of, _)| std::ptr::eq(*of, row)).map(|(.., pin)| *pin);
            let (size, resident) = (bytes(row.bytes as f64), bytes(row.resident_bytes as f64));
            line(&mut scene, &mut y, &format!("{}, {size}, {resident} in memory{}", arena(row), likes(group)), soft);
            for (place, cells) in row.cells.chunks(columns).enumerate() {
                let height = f64::from(STEPS as u32);
                strip(&mut scene, (8.0, y + 2.0), (step, height), cells, map.cell_bytes);
                y += height + 4.0;
                let mut marked = false;
                for pin in pins() {
                    let cell = (pin.offset / map.cell_bytes.max(1)) as usize;
                    if let Some(column) = cell.checked_sub(place * columns).filter(|c| *c < cells.len()) {
                        let x = 8.0 + (column as f64 + 0.5) * step;
                        draw_marker(&mut scene, Marker::Up, x, y + 4.0, 4.0, INK);
                        marked = true;
                    }
                }
                y += if marked { 10.0 } else { 0.0 };
            }
            for pin in pins() {
                line(&mut scene, &mut y, &pin_text(row, pin), INK.into());
            }
        }
        if let Some(text) = left_out {
            line(&mut scene, &mut y, &text, soft);
        }
        for cell in map.rows.iter().flat_map(|row| &row.cells) {
            BANDS.iter().zip(&mut totals).for_each(|((.., part), total)| *total += part(cell));
        }
    }
    let present = BANDS.iter().zip(totals).filter(|(_, total)| *total > 0);
    let mut keys: Vec<Key> = present.map(|(band, _)| Key::Swatch(band.0.into(), band.1, band.2)).collect();
    if maps.iter().any(|(_, map)| map.rows.iter().any(|row| !row.pins.is_empty())) {
        let label = "what holds the free memory".into();
        keys.push(Key::Point(Style { label, colour: INK, dash: &[], marker: Marker::Up }));
    }
    let cell = maps.iter().map(|(_, map)| map.cell_bytes).max().unwrap_or(0);
    line(&mut scene, &mut y, &format!("one column: {}", bytes(cell as f64)), soft);
    scene.height = legend(&mut scene, layout, 8.0, y + 4.0, &keys) + 8.0;
    scene
}

/// One line of cells.
fn strip(scene: &mut Scene, (left, top): (f64, f64), (step, height): (f64, f64), cells: &[HeapCell], cell_bytes: u64) {
    let parts: Vec<_> = cells.iter().map(|cell| steps(cell, cell_bytes)).collect();
    let mut column = 0.0;
    for run in parts.chunk_by(|a, b| a == b) {
        let width = run.len() as f64 * step;
        let mut y = top + height;
        for ((_, colour, opacity, _), part) in BANDS.iter().zip(run[0]) {
            let h = height * part as f64 / STEPS as f64;
            if part > 0 {
                y -= h;
                scene.rect(left + column, y, width, h, Paint(*colour, *opacity));
            }
        }
        column += width;
    }
}

/// Heights of a cell's bands in steps. What is there is seen: a band with bytes gets a step.
fn steps(cell: &HeapCell, cell_bytes: u64) -> [u64; BANDS.len()] {
    let mut heights = BANDS.map(|(.., part)| {
        let bytes = part(cell);
        if bytes == 0 { 0 } else { (bytes * STEPS / cell_bytes.max(1)).max(1) }
    });
    // What rounding took is given to the tallest, what it added is taken from there.
    let full = (cell.bytes() * STEPS).div_ceil(cell_bytes.max(1)).min(STEPS);
    let sum: u64 = heights.iter().sum();
    if let Some(tallest) = heights.iter_mut().max() {
        *tallest = (*tallest + full).saturating_sub(sum);
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap_map::tests::example;

    #[test]
    fn a_cell_is_filled_exactly_and_shows_even_one_chunk() {
        let held = HeapCell { live: 100, free_resident: 65436, ..HeapCell::default() };
        assert_eq!(steps(&held, 65536), [1, 0, 0, 13, 0, 0, 0, 0]);
        let last = HeapCell { live: 32768, ..HeapCell::default() };
        assert_eq!(steps(&last, 65536).iter().sum::<u64>(), STEPS / 2);
        for cell in example().rows.iter().flat_map(|row| &row.cells) {
            assert_eq!(steps(cell, 65536).iter().sum::<u64>(), STEPS);
        }
    }

    #[test]
    fn the_plot_names_stages_pins_and_kinds() {
        let map = example();
        let plot = heap_plot(&[("full", &map), ("freed", &map)], "pinned-top");
        let svg = plot.wide.inline_svg().unwrap();
        for text in
            ["full", "freed", "main arena", "arena 1", "1 live chunk of 1.09 KiB", "tcache", "one column: 64 KiB"]
        {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(!svg.contains("#1A1A1A"), "the ink is the page's");
        assert!(plot.narrow.width < 400.0 && plot.wide.png().is_ok());
    }
}
