//! A live view of one process: the waterfall from address space down to live bytes, live against resident over time,
//! arenas, events, and what watching costs. Pure drawing: readings in, cells out.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, List, Paragraph, Row, Table};

use fragbench_model::{Event, Reading};

use crate::event::events;

/// Readings kept for the curves.
const KEPT: usize = 3600;
/// Events kept.
const EVENTS: usize = 200;

/// Lines of memory and curves.
const UPPER: u16 = 11;
/// Columns of the arenas' table and of the events' list.
const PANE: u16 = 46;

const RESIDENT: Color = Color::Yellow;
const HEAP: Color = Color::Red;
const LIVE: Color = Color::Cyan;

/// What has been read so far.
#[derive(Debug, Default)]
pub struct History {
    readings: VecDeque<Reading>,
    events: VecDeque<(f64, Event)>,
    begun_s: f64,
}

impl History {
    /// Takes a reading in.
    pub fn push(&mut self, reading: Reading) {
        match self.readings.back() {
            Some(last) => {
                let at = reading.unix_s - self.begun_s;
                self.events.extend(events(last, &reading).into_iter().map(|event| (at, event)));
            }
            None => self.begun_s = reading.unix_s,
        }
        self.readings.push_back(reading);
        keep_newest(&mut self.readings, KEPT);
        keep_newest(&mut self.events, EVENTS);
    }

    /// The last reading.
    pub fn last(&self) -> Option<&Reading> {
        self.readings.back()
    }
}

/// Drops the oldest beyond `most`.
fn keep_newest<T>(items: &mut VecDeque<T>, most: usize) {
    items.drain(..items.len().saturating_sub(most));
}

/// Draws it; `interval` is the time asked for between two readings.
pub fn draw(frame: &mut Frame<'_>, history: &History, interval: Duration) {
    let Some(reading) = history.last() else {
        frame.render_widget(Paragraph::new("reading …"), frame.area());
        return;
    };
    let [head, upper, lower, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(UPPER), Constraint::Min(6), Constraint::Length(1)])
            .areas(frame.area());
    let [left, right] = Layout::horizontal([Constraint::Length(44), Constraint::Min(20)]).areas(upper);
    // Side by side where both have their width, else one above the other: figures are never cut.
    let [arenas, happened] = if lower.width >= 2 * PANE {
        Layout::horizontal([Constraint::Min(PANE), Constraint::Length(PANE)]).areas(lower)
    } else {
        Layout::vertical([Constraint::Min(4), Constraint::Length(if lower.height > 9 { 5 } else { 0 })]).areas(lower)
    };
    frame.render_widget(Paragraph::new(title(reading)), head);
    waterfall(frame, left, reading);
    curves(frame, right, history);
    arena_table(frame, arenas, reading);
    event_list(frame, happened, history);
    frame.render_widget(Paragraph::new(foot_line(reading, interval, foot.width)), foot);
}

fn title(reading: &Reading) -> Line<'static> {
    // A name is bytes that a process chose.
    let name = format!("{} ({})", fragbench_model::printable(&reading.name), reading.pid);
    let rest = format!(
        "  {} threads  {} minor and {} major faults",
        reading.threads, reading.minor_faults, reading.major_faults
    );
    Line::from(vec![Span::styled(name, Style::new().add_modifier(Modifier::BOLD)), Span::raw(rest)])
}

/// Each step down from address space to live bytes, with a bar to the scale of what is resident.
fn waterfall(frame: &mut Frame<'_>, area: Rect, reading: &Reading) {
    let mut steps = vec![
        ("address space", Some(reading.vm_bytes), Color::DarkGray),
        ("resident", Some(reading.rss_bytes), RESIDENT),
    ];
    let heap = reading.heap.as_ref();
    steps.extend([
        ("  heap", heap.map(|h| h.resident_bytes), HEAP),
        ("    free chunks", heap.map(|h| h.free_resident_bytes), HEAP),
        ("    tops", heap.map(|h| h.top_resident_bytes), HEAP),
        ("    thread caches", heap.map(|h| h.tcache_bytes), HEAP),
        ("    live", heap.map(|h| h.live_bytes), LIVE),
        ("trim would free", reading.predicted_release_bytes, Color::Green),
    ]);
    let full = reading.rss_bytes.max(1);
    let rows = steps.into_iter().map(|(name, value, colour)| {
        let bar = value.map_or(0, |value| (value.min(full) * 12).div_ceil(full) as usize);
        let text = value.map_or_else(|| "–".to_owned(), mib);
        Row::new([
            Line::raw(name),
            Line::raw(text).right_aligned(),
            Line::styled("█".repeat(bar), Style::new().fg(colour)),
        ])
    });
    let widths = [Constraint::Length(17), Constraint::Length(10), Constraint::Length(12)];
    frame.render_widget(Table::new(rows, widths).block(Block::bordered().title("memory, MiB")), area);
}

fn curves(frame: &mut Frame<'_>, area: Rect, history: &History) {
    let of = |value: fn(&Reading) -> Option<u64>| -> Vec<(f64, f64)> {
        let points = history.readings.iter();
        points.filter_map(|r| Some((r.unix_s - history.begun_s, value(r)? as f64 / f64::from(1 << 20)))).collect()
    };
    let resident = of(|r| Some(r.rss_bytes));
    let heap = of(|r| r.heap.map(|heap| heap.resident_bytes));
    let live = of(|r| r.heap.map(|heap| heap.live_bytes));
    let from = resident.first().map_or(0.0, |point| point.0);
    let to = resident.last().map_or(1.0, |point| point.0).max(from + 1.0);
    let most = resident.iter().map(|point| point.1).fold(1.0, f64::max) * 1.05;
    let line = |name: &'static str, points, colour| {
        let set = Dataset::default().name(name).data(points).graph_type(GraphType::Line);
        set.marker(Marker::Braille).style(Style::new().fg(colour))
    };
    let sets = vec![line("resident", &resident, RESIDENT), line("heap", &heap, HEAP), line("live", &live, LIVE)];
    let x = Axis::default().bounds([from, to]).labels([format!("{from:.0} s"), format!("{to:.0} s")]);
    let y = Axis::default().bounds([0.0, most]).labels(["0".to_owned(), format!("{most:.0}")]);
    frame.render_widget(Chart::new(sets).x_axis(x).y_axis(y).block(Block::bordered().title("over time, MiB")), area);
}

fn arena_table(frame: &mut Frame<'_>, area: Rect, reading: &Reading) {
    let mut arenas: Vec<_> = reading.arenas.iter().enumerate().collect();
    arenas.sort_by_key(|(i, arena)| (std::cmp::Reverse(arena.bytes.resident_bytes), *i));
    let rows = arenas.into_iter().map(|(i, arena)| {
        let bytes = &arena.bytes;
        let name = if arena.main { "main".to_owned() } else { i.to_string() };
        let threads = arena.threads.map_or_else(|| "–".to_owned(), |n| n.to_string());
        let figures = [bytes.resident_bytes, bytes.live_bytes, bytes.free_resident_bytes, bytes.top_resident_bytes];
        let cells = [name, threads].into_iter().chain(figures.map(mib));
        Row::new(cells.map(|text| Line::raw(text).right_aligned()))
    });
    let head = ["arena", "thr", "resident", "live", "free", "top"].map(|name| Line::raw(name).right_aligned());
    let widths = [6, 4, 9, 8, 8, 8].map(Constraint::Length);
    let title = match &reading.lacks {
        Some(_) => "no heap to see".to_owned(),
        None => format!("{} arenas, MiB", reading.arenas.len()),
    };
    let block = Block::bordered().title(title);
    match &reading.lacks {
        Some(why) => {
            let text = Paragraph::new(why.as_str()).wrap(ratatui::widgets::Wrap { trim: true });
            frame.render_widget(text.block(block), area);
        }
        None => frame
            .render_widget(Table::new(rows, widths).header(Row::new(head).style(Modifier::BOLD)).block(block), area),
    }
}

fn event_list(frame: &mut Frame<'_>, area: Rect, history: &History) {
    let newest = history.events.iter().rev().map(|(at, event)| format!("{at:>5.0} s  {event}"));
    frame.render_widget(List::new(newest).block(Block::bordered().title("events, newest first")), area);
}

/// The key that ends it, and as much of what watching costs as there is room for.
fn foot_line(reading: &Reading, interval: Duration, width: u16) -> Line<'static> {
    let key = "q ends";
    let (full, short) = cost(reading, interval);
    let room = usize::from(width).saturating_sub(key.len() + 2);
    let cost = [full, short].into_iter().find(|text| text.chars().count() <= room).unwrap_or_default();
    Line::from(vec![Span::styled(key, Style::new().add_modifier(Modifier::BOLD)), Span::raw("  "), Span::raw(cost)])
}

/// What watching costs, in full and in short.
fn cost(reading: &Reading, interval: Duration) -> (String, String) {
    let every = crate::reading::pause(interval, reading).as_secs_f64() + reading.survey_ms / 1e3;
    let share = reading.survey_ms / 10.0 / every;
    let took = format!("a survey takes {:.1} ms of one processor, every {every:.1} s", reading.survey_ms);
    (format!("{took}: {share:.2} %; the process is not stopped"), took)
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::reading;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn drawn(history: &History, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, history, Duration::from_secs(1))).unwrap();
        terminal.backend().to_string()
    }

    /// A storm of 60 threads that passes and leaves the heap larger, then a trim.
    fn storm() -> History {
        let mut history = History::default();
        for second in 0..60u32 {
            let mut now = reading();
            now.unix_s += f64::from(second);
            let heap = now.heap.as_mut().unwrap();
            if (20..40).contains(&second) {
                now.threads += 60;
                heap.live_bytes += 100 << 20;
            }
            if (20..50).contains(&second) {
                now.rss_bytes += 120 << 20;
                heap.resident_bytes += 120 << 20;
                heap.free_resident_bytes += if second < 40 { 20 << 20 } else { 120 << 20 };
            }
            history.push(now);
        }
        history
    }

    #[test]
    fn a_storm_and_a_trim() {
        insta::assert_snapshot!(drawn(&storm(), 100, 24));
    }

    #[test]
    fn a_heap_that_may_not_be_read() {
        let mut history = History::default();
        let lacks = Some("/proc/4711/mem may not be read: run as the same user or as root".to_owned());
        let blind = Reading { heap: None, predicted_release_bytes: None, arenas: Vec::new(), lacks, ..reading() };
        history.push(blind);
        insta::assert_snapshot!(drawn(&history, 100, 24));
    }

    #[test]
    fn a_narrow_terminal_and_none_at_all_are_drawn_too() {
        for (width, height) in [(1, 1), (20, 5), (60, 10), (300, 80)] {
            drawn(&storm(), width, height);
        }
        for width in [60, 80, 92, 100, 200] {
            let drawn = drawn(&storm(), width, 24);
            assert!(drawn.contains("q ends") && drawn.contains("arenas, MiB"), "{width}:\n{drawn}");
        }
        insta::assert_snapshot!(drawn(&storm(), 80, 24));
        assert!(drawn(&History::default(), 40, 3).contains("reading"));
    }

    #[test]
    fn the_title_shows_a_name_and_obeys_it_in_nothing() {
        let mut history = History::default();
        history.push(Reading { name: "a\u{1b}[2J\n\u{202e}b".into(), ..reading() });
        assert!(drawn(&history, 100, 24).contains(r"a\u001b[2J\n\u202eb (4711)"), "{}", drawn(&history, 100, 24));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut history = History::default();
        for i in 0..(KEPT as u32 + 500) {
            let threads = if i % 2 == 0 { 14 } else { 90 };
            history.push(Reading { unix_s: f64::from(i), threads, ..reading() });
        }
        assert_eq!((history.readings.len(), history.events.len()), (KEPT, EVENTS));
    }
}
