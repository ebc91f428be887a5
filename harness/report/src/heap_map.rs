//! A heap map for a terminal: block characters that are read without colour, a legend, and the chunks that hold the
//! heap marked and named.

use std::fmt::Write;

use fragbench_model::{HeapCell, HeapMap, HeapPin, HeapRow, PinKind};

use crate::units::{bytes, count};

/// Segments drawn; of more the largest are.
const ROWS: usize = 16;
/// Pins named; of more those that hold most.
const PINS: usize = 8;

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Glyph {
    sign: char,
    /// SGR parameters of ECMA-48.
    colour: &'static str,
    means: &'static str,
}

const LIVE: Glyph = Glyph { sign: '█', colour: "34", means: "live" };
const HALF: Glyph = Glyph { sign: '▓', colour: "34", means: "live, 1/8 to 1/2" };
const HELD: Glyph = Glyph { sign: '▒', colour: "33", means: "little live, rest free in memory" };
const SPARSE: Glyph = Glyph { sign: ':', colour: "34", means: "little live, rest given back" };
const TCACHE: Glyph = Glyph { sign: 't', colour: "35", means: "tcache among free" };
const FREE: Glyph = Glyph { sign: '░', colour: "31", means: "free, in memory" };
const ABSENT: Glyph = Glyph { sign: '·', colour: "2", means: "free, given back" };
const TOP: Glyph = Glyph { sign: 'T', colour: "36", means: "top, in memory" };
const TOP_ABSENT: Glyph = Glyph { sign: '_', colour: "2", means: "top, not in memory" };
const UNKNOWN: Glyph = Glyph { sign: '?', colour: "7", means: "not malloc's, or not understood" };
const ALL: [Glyph; 10] = [LIVE, HALF, HELD, SPARSE, TCACHE, FREE, ABSENT, TOP, TOP_ABSENT, UNKNOWN];

impl Glyph {
    fn of(cell: &HeapCell) -> Glyph {
        let total = cell.bytes().max(1);
        let used = cell.live + cell.own;
        let resident = cell.free_resident + cell.top_resident;
        let absent = cell.free_absent + cell.top_absent;
        match () {
            () if 2 * cell.unknown >= total => UNKNOWN,
            () if 2 * used >= total => LIVE,
            () if 8 * used >= total => HALF,
            () if used > 0 && 4 * resident >= absent => HELD,
            () if used > 0 => SPARSE,
            () if cell.tcache > 0 => TCACHE,
            () if cell.top_resident + cell.top_absent > cell.free_resident + cell.free_absent => {
                if cell.top_resident > 0 { TOP } else { TOP_ABSENT }
            }
            () if 4 * cell.free_resident >= cell.free_absent => FREE,
            () => ABSENT,
        }
    }
}

/// The map, at most `width` columns wide.
pub fn heap_map(map: &HeapMap, width: usize, colour: bool) -> String {
    let mut out = String::new();
    let columns = width.max(24) - 2;
    let (groups, left_out) = groups(map, ROWS, |row| row.cells.iter().map(Glyph::of).collect::<Vec<Glyph>>());
    let drawn: Vec<&HeapRow> = groups.iter().map(|group| &group[0]).collect();
    let named = named_pins(map, &drawn);
    let mut used = Vec::new();
    for group in &groups {
        let row = &group[0];
        let (size, resident) = (bytes(row.bytes as f64), bytes(row.resident_bytes as f64));
        let _ = writeln!(out, "{} at {:#x}: {size}, {resident} in memory{}", arena(row), row.start, likes(group));
        for (line, cells) in row.cells.chunks(columns).enumerate() {
            let glyphs: Vec<Glyph> = cells.iter().map(Glyph::of).collect();
            used.extend_from_slice(&glyphs);
            let _ = writeln!(out, "  {}", painted(&glyphs, colour));
            let mut marks = vec![' '; cells.len()];
            for (letter, _, pin) in named.iter().filter(|(_, of, _)| std::ptr::eq(*of, row)) {
                let cell = (pin.offset / map.cell_bytes.max(1)) as usize;
                if let Some(mark) = cell.checked_sub(line * columns).and_then(|place| marks.get_mut(place)) {
                    *mark = *letter;
                }
            }
            let marks: String = marks.into_iter().collect();
            if !marks.trim().is_empty() {
                let _ = writeln!(out, "  {}", marks.trim_end());
            }
        }
    }
    if let Some(text) = left_out {
        let _ = writeln!(out, "{text}");
    }
    let _ = writeln!(out, "one character: {}", bytes(map.cell_bytes as f64));
    for keys in ALL.iter().filter(|glyph| used.contains(glyph)).collect::<Vec<_>>().chunks(2) {
        let texts: Vec<String> = keys
            .iter()
            .map(|glyph| {
                let pad = 35usize.saturating_sub(glyph.means.chars().count());
                format!("{} {}{}", painted(&[**glyph], colour), glyph.means, " ".repeat(pad))
            })
            .collect();
        let _ = writeln!(out, "  {}", texts.concat().trim_end());
    }
    for (letter, row, pin) in named {
        let options = textwrap::Options::new(width.max(24)).subsequent_indent("  ");
        let _ = writeln!(out, "{}", textwrap::fill(&format!("{letter} {}", pin_text(row, pin)), options));
    }
    out
}

/// Neighbours that look alike and are held alike, as groups; of more than `most` groups those with the largest segments,
/// and a sentence about the rest.
pub(crate) fn groups<K: PartialEq>(
    map: &HeapMap,
    most: usize,
    look: impl Fn(&HeapRow) -> K,
) -> (Vec<&[HeapRow]>, Option<String>) {
    let held = |row: &HeapRow| {
        row.pins.iter().map(|p| (p.offset, p.chunks, p.bytes, p.kind, p.holds_bytes)).collect::<Vec<_>>()
    };
    let alike = |a: &HeapRow, b: &HeapRow| a.bytes == b.bytes && held(a) == held(b) && look(a) == look(b);
    let all: Vec<&[HeapRow]> = map.rows.chunk_by(alike).collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(all[*i][0].bytes));
    let mut shown: Vec<usize> = order.iter().copied().take(most).collect();
    shown.sort_unstable();
    let rest: Vec<&HeapRow> = order.iter().skip(most).flat_map(|i| all[*i]).collect();
    let bytes_left = bytes(rest.iter().map(|row| row.bytes).sum::<u64>() as f64);
    let left_out =
        (!rest.is_empty()).then(|| format!("{} smaller segments of {bytes_left} in all left out", rest.len()));
    (shown.into_iter().map(|i| all[i]).collect(), left_out)
}

/// What stands behind a segment that stands for several.
pub(crate) fn likes(group: &[HeapRow]) -> String {
    match group {
        [_, .., last] => format!("; {} more like it, up to {}", group.len() - 1, arena(last)),
        _ => String::new(),
    }
}

/// The pins that hold most, of those that hold a cell or more, by letters in the order of the map.
pub(crate) fn named_pins<'m>(map: &HeapMap, rows: &[&'m HeapRow]) -> Vec<(char, &'m HeapRow, &'m HeapPin)> {
    let all = || rows.iter().flat_map(|row| row.pins.iter().map(move |pin| (*row, pin)));
    let mut held: Vec<u64> = all().map(|(_, pin)| pin.holds_bytes).filter(|held| *held >= map.cell_bytes).collect();
    held.sort_unstable_by(|a, b| b.cmp(a));
    let least = held.get(PINS - 1).or(held.last()).copied().unwrap_or(u64::MAX);
    let most = all().filter(|(_, pin)| pin.holds_bytes >= least).take(PINS);
    ('A'..='Z').zip(most).map(|(letter, (row, pin))| (letter, row, pin)).collect()
}

/// The name of a segment's arena.
pub(crate) fn arena(row: &HeapRow) -> String {
    if row.arena == 0 { "main arena".into() } else { format!("arena {}", row.arena) }
}

/// What a pin is and what it holds, in a sentence.
pub(crate) fn pin_text(row: &HeapRow, pin: &HeapPin) -> String {
    let kind = match pin.kind {
        PinKind::Tcache => "chunk in a tcache",
        PinKind::Live => "live chunk",
        PinKind::Own => "chunk of malloc's own",
        _ => "chunk in use",
    };
    let (size, held) = (bytes(pin.bytes as f64), bytes(pin.holds_bytes as f64));
    let place = format!("{} + {} ({:#x})", arena(row), bytes(pin.offset as f64), pin.address);
    if pin.chunks == 1 {
        format!("1 {kind} of {size} at {place} keeps {held} below it from the top")
    } else {
        let kinds = kind.replacen("chunk", "chunks", 1);
        format!("{} {kinds} ({size}) from {place} to the top keep {held} from it", count(pin.chunks as f64))
    }
}

fn painted(glyphs: &[Glyph], colour: bool) -> String {
    let mut out = String::new();
    for run in glyphs.chunk_by(|a, b| a == b) {
        let signs: String = run.iter().map(|glyph| glyph.sign).collect();
        if colour {
            let _ = write!(out, "\x1b[{}m{signs}\x1b[0m", run[0].colour);
        } else {
            out.push_str(&signs);
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A main arena held by one chunk, and an arena that was trimmed.
    pub(crate) fn example() -> HeapMap {
        const CELL: u64 = 64 << 10;
        let all = |set: fn(&mut HeapCell, u64)| {
            let mut cell = HeapCell::default();
            set(&mut cell, CELL);
            cell
        };
        let live = all(|c, n| c.live = n);
        let free = all(|c, n| c.free_resident = n);
        let absent = all(|c, n| c.free_absent = n);
        let held = HeapCell { live: 1120, free_resident: CELL - 1120, ..HeapCell::default() };
        let sparse = HeapCell { live: 1120, free_absent: CELL - 1120, ..HeapCell::default() };
        let tcache = HeapCell { tcache: 7056, free_resident: CELL - 7056, ..HeapCell::default() };
        let quarter = HeapCell { live: CELL / 4, free_resident: CELL / 4 * 3, ..HeapCell::default() };
        let top = HeapCell { top_resident: 4096, top_absent: CELL - 4096, ..HeapCell::default() };
        let away = all(|c, n| c.top_absent = n);
        let odd = all(|c, n| c.unknown = n);
        let mut main = vec![live; 30];
        main.extend(vec![free; 90]);
        main.extend([held, top, away]);
        let mut other = vec![live, quarter, tcache, sparse, odd];
        other.extend(vec![absent; 20]);
        let pin = |offset: u64, chunks, bytes, kind: PinKind, holds_bytes| HeapPin {
            address: 0x5555_5555_9000 + offset,
            offset,
            chunks,
            bytes,
            kind,
            holds_bytes,
        };
        let row = |arena, start, cells: Vec<HeapCell>, pins| HeapRow {
            arena,
            start,
            bytes: cells.len() as u64 * CELL,
            resident_bytes: cells.iter().map(|c| c.live + c.free_resident + c.tcache + c.top_resident).sum(),
            cells,
            pins,
        };
        HeapMap {
            cell_bytes: CELL,
            rows: vec![
                row(0, 0x5555_5555_9000, main, vec![pin(120 * CELL, 1, 1120, PinKind::Live, 90 * CELL)]),
                row(1, 0x7fff_d000_0000, other, vec![pin(2 * CELL, 7, 7056, PinKind::Tcache, CELL)]),
            ],
        }
    }

    #[test]
    fn a_map_is_read_without_colour() {
        insta::assert_snapshot!(heap_map(&example(), 80, false));
    }

    #[test]
    fn colour_changes_no_character_and_no_width() {
        let plain = heap_map(&example(), 80, false);
        let mut coloured = heap_map(&example(), 80, true);
        for glyph in ALL {
            coloured = coloured.replace(&format!("\x1b[{}m", glyph.colour), "");
        }
        assert_eq!(coloured.replace("\x1b[0m", ""), plain);
        let drawing = plain.lines().filter(|line| line.starts_with("  "));
        assert!(drawing.clone().count() > 4 && drawing.clone().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn of_very_many_segments_the_largest_are_drawn() {
        let mut map = example();
        let row = map.rows[1].clone();
        // No two neighbours alike.
        let other = |i: usize| HeapRow { arena: 2 + i, bytes: row.bytes - (!i as u64 & 1), ..row.clone() };
        map.rows.extend((0..200).map(other));
        let text = heap_map(&map, 80, false);
        assert!(text.contains("main arena") && text.contains("186 smaller segments"), "{text}");
    }

    #[test]
    fn neighbours_that_look_alike_are_drawn_once() {
        let mut map = example();
        let row = map.rows[1].clone();
        map.rows.extend((0..200).map(|i| HeapRow {
            arena: 2 + i,
            start: row.start + (i as u64 + 1) * (64 << 20),
            ..row.clone()
        }));
        let text = heap_map(&map, 80, false);
        assert!(text.contains("200 more like it, up to arena 201"), "{text}");
        assert!(text.lines().count() < 20, "{text}");
    }
}
