//! A recording of `fragbench watch` for people: what it comes to in a sentence, a table of its figures, its events, plots.

use anyhow::{Context, Result};
use fragbench_decide::{LEAST_READINGS, median, trend};
use fragbench_model::{Event, Reading, Trend, TrendKind};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Value as Json, json};

use crate::html::{figure, table};
use crate::markdown::{escape, markdown_table};
use crate::plots::recording_plots;
use crate::table::{Row, Table, Value};
use crate::units::{bytes, count, digits, utc};
use crate::{RenderedFile, plot_stem, terminal};

/// One process of a recording.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Its readings in order; never empty.
    pub readings: Vec<Reading>,
    /// What happened, each with the seconds since the first reading.
    pub events: Vec<(f64, Event)>,
}

type Figure = (&'static str, &'static str, fn(f64) -> String, fn(&Reading) -> Option<u64>);

/// What the table and the JSON show of a recording.
const FIGURES: [Figure; 10] = [
    ("vm_bytes", "address space", bytes, |r| Some(r.vm_bytes)),
    ("rss_bytes", "resident", bytes, |r| Some(r.rss_bytes)),
    ("heap_rss_bytes", "heap, resident", bytes, |r| Some(r.heap?.resident_bytes)),
    ("live_bytes", "live", bytes, |r| Some(r.heap?.live_bytes)),
    ("free_rss_bytes", "free chunks, resident", bytes, |r| Some(r.heap?.free_resident_bytes)),
    ("top_rss_bytes", "tops, resident", bytes, |r| Some(r.heap?.top_resident_bytes)),
    ("predicted_release_bytes", "malloc_trim would release", bytes, |r| r.predicted_release_bytes),
    ("swap_bytes", "swapped", bytes, |r| Some(r.swap_bytes)),
    ("arena_count", "arenas", count, |r| r.heap.map(|_| r.arenas.len() as u64)),
    ("thread_count", "threads", count, |r| Some(r.threads)),
];

impl Recording {
    pub(crate) fn title(&self) -> String {
        format!("{} ({})", self.name(), self.readings[0].pid)
    }

    /// Its last name: exec changes it.
    fn name(&self) -> &str {
        self.readings.last().map_or("", |last| &last.name)
    }

    pub(crate) fn duration_s(&self) -> f64 {
        self.readings.last().map_or(0.0, |last| last.unix_s - self.readings[0].unix_s)
    }

    /// File name stem of its plots.
    fn stem(&self) -> String {
        format!("{}-{}", self.name(), self.readings[0].pid)
    }

    /// First, least, median, most and last of a figure.
    fn range(&self, figure: &Figure) -> Option<[f64; 5]> {
        let values: Vec<f64> = self.readings.iter().filter_map(|r| Some(figure.3(r)? as f64)).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        Some([*values.first()?, least, median(&values)?, most, *values.last()?])
    }
}

/// The figures of a recording.
pub(crate) fn recording_table(recording: &Recording) -> Table {
    let rows = FIGURES.iter().filter_map(|figure| {
        let values = recording.range(figure)?;
        let text = |value: f64| Some(Value { text: figure.2(value), interval: None, mark: None });
        Some(Row { label: figure.1.to_owned(), values: values.map(text).into() })
    });
    Table {
        corner: recording.title(),
        columns: ["first", "least", "median", "most", "last"].map(str::to_owned).into(),
        rows: rows.collect(),
        notes: Vec::new(),
    }
}

/// What a recording comes to.
pub(crate) fn recording_finding(recording: &Recording) -> String {
    let n = recording.readings.len();
    let time = span(recording.duration_s());
    match trend(&recording.readings) {
        None => format!("{n} readings in {time}: at least {LEAST_READINGS} are needed to say how memory went."),
        Some(trend) => format!("Over {time}, {n} readings: {}", trend_text(&trend)),
    }
}

fn trend_text(trend: &Trend) -> String {
    let part = |value: Option<f64>| value.map_or("an unknown amount".to_owned(), signed);
    let (resident, rise) = (signed(trend.resident_bytes), bytes(trend.resident_bytes));
    let (heap, live) = (part(trend.heap_bytes), part(trend.live_bytes));
    match trend.kind {
        TrendKind::Steady => format!("resident memory is steady ({resident}; live {live})."),
        TrendKind::Falls => format!("resident memory fell ({resident}; heap {heap}, live {live})."),
        TrendKind::LiveRises => format!(
            "resident memory rose by {rise}, live bytes changed by {live}: a leak, growth, or warming up. Watch on under the same load; what leaks goes on. \
`fragbench record` and `fragbench trace leaks` show what is never freed."
        ),
        TrendKind::HeldRises => format!(
            "resident memory rose by {rise}, live bytes changed by {live}: what rose is heap that is not in use, fragmentation or retention and no leak. \
`fragbench inspect` says what holds it and what malloc_trim gives back."
        ),
        TrendKind::OutsideRises => format!(
            "resident memory rose by {rise}, of it {heap} in the heap: it grows outside malloc. `fragbench syscalls` shows who maps it."
        ),
        TrendKind::MixedRise => format!(
            "resident memory rose by {rise}: the heap changed by {heap}, live bytes by {live}. No part is most of it; `fragbench inspect` takes each apart."
        ),
        TrendKind::Rises => {
            format!(
                "resident memory rose by {rise}; the heap could not be seen, so whether it is a leak cannot be said."
            )
        }
    }
}

fn signed(value: f64) -> String {
    if value > 0.0 { format!("+{}", bytes(value)) } else { bytes(value) }
}

/// Seconds as people say them over hours.
fn span(seconds: f64) -> String {
    match seconds {
        s if s >= 7200.0 => format!("{} h", digits(s / 3600.0)),
        s if s >= 120.0 => format!("{} min", digits(s / 60.0)),
        s => format!("{} s", digits(s)),
    }
}

/// The events of a recording, one a line, numbered as in the plot.
pub(crate) fn event_lines(recording: &Recording) -> Vec<String> {
    recording.events.iter().enumerate().map(|(i, (at, event))| format!("{}. {}: {event}", i + 1, span(*at))).collect()
}

/// A note on what watching cost and on readings without a heap.
fn notes(recording: &Recording) -> Vec<String> {
    let took: Vec<f64> = recording.readings.iter().map(|r| r.survey_ms).collect();
    let share = took.iter().sum::<f64>() / 10.0 / recording.duration_s().max(1e-3);
    let mut notes = vec![format!(
        "A survey took {} ms at the median; all of them {} % of one processor.",
        digits(median(&took).unwrap_or(0.0)),
        digits(share)
    )];
    let blind: Vec<&Reading> = recording.readings.iter().filter(|r| r.heap.is_none()).collect();
    if let Some(lacks) = blind.first().and_then(|r| r.lacks.as_ref()) {
        notes.push(format!("{} of {} readings show no heap: {lacks}", blind.len(), recording.readings.len()));
    }
    notes
}

/// Recordings for programs: trend, figures, events of each process.
pub fn recording_json(recordings: &[Recording]) -> Json {
    let of = |recording: &Recording| {
        let figures = FIGURES.iter().map(|figure| {
            let range = recording.range(figure);
            let named = range.map(|[first, least, median, most, last]| {
                json!({ "first": first, "least": least, "median": median, "most": most, "last": last })
            });
            (figure.0.to_owned(), named.unwrap_or(Json::Null))
        });
        json!({
            "pid": recording.readings[0].pid,
            "name": recording.name(),
            "started_unix_s": recording.readings[0].unix_s,
            "duration_s": recording.duration_s(),
            "readings": recording.readings.len(),
            "trend": trend(&recording.readings),
            "figures": figures.collect::<serde_json::Map<_, _>>(),
            "events": recording.events.iter().map(|(at, event)| json!({ "at_s": at, "event": event })).collect::<Vec<_>>(),
        })
    };
    Json::Array(recordings.iter().map(of).collect())
}

/// `recording.json`, `report.md`, `report.html` and the plots.
///
/// # Errors
/// When a plot cannot be drawn, which does not happen for readings of a recording.
pub fn render_recordings(recordings: &[Recording]) -> Result<Vec<RenderedFile>> {
    let json = serde_json::to_string_pretty(&recording_json(recordings)).context("writing recording.json")? + "\n";
    let mut markdown = String::from("# A process over time\n");
    let mut sections = Vec::new();
    let mut files = vec![("recording.json".to_owned(), json.into_bytes())];
    for recording in recordings {
        let plots = recording_plots(recording);
        let (stem, finding, figures) = (recording.stem(), recording_finding(recording), recording_table(recording));
        markdown += &format!("\n## {}\n\n{}\n\n", escape(&recording.title()), escape(&finding));
        markdown += &markdown_table(&figures);
        for line in event_lines(recording).iter().chain(&notes(recording)) {
            markdown += &format!("\n{}\n", escape(line));
        }
        for plot in &plots {
            let path = plot_stem(&stem, plot.name);
            markdown += &format!("\n![{}]({path}.svg)\n", plot.caption);
            files.push((format!("{path}.svg"), plot.wide.svg()?.into_bytes()));
            files.push((format!("{path}.png"), plot.wide.png()?));
        }
        let figures_drawn: Vec<Markup> = plots.iter().map(|plot| figure(&stem, plot)).collect::<Result<_>>()?;
        sections.push(html! {
            h2 { (recording.title()) }
            p.soft { "from " (utc(recording.readings[0].unix_s as u64)) }
            p.finding { (finding) }
            @for drawn in &figures_drawn { (drawn) }
            (table(&figures))
            @if !recording.events.is_empty() {
                h3 { "Events" }
                ol { @for (at, event) in &recording.events { li { (span(*at)) ": " (event) } } }
            }
            @for note in notes(recording) { p.legend { (note) } }
        });
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "fragbench: a process over time" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body { main { h1 { "Where did its memory go?" } @for section in &sections { (section) } } }
        }
    };
    files.push(crate::text_file("report.md", &markdown));
    files.push(crate::text_file("report.html", &page.into_string()));
    Ok(files)
}

/// A recording on a terminal.
pub fn recording_text(recording: &Recording, width: Option<u16>, colour: bool) -> String {
    let mut lines = vec![terminal::draw(&recording_table(recording), width, colour)];
    lines.extend(event_lines(recording));
    lines.extend(notes(recording));
    lines.push(recording_finding(recording));
    lines.join("\n")
}
