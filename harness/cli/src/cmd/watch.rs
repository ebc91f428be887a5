//! `fragbench watch`: a process's heap over time, on a terminal and into a file.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use fragbench_model::{Event, Reading};
use fragbench_proc::ProcError;
use fragbench_report::bytes;
use fragbench_watch::{History, Watched, events, pause, write};
use ratatui::crossterm::event::{self, KeyCode};

use crate::sizes::{parse_duration, parse_pid};
use crate::{Outcome, interrupt, there};

/// Watch a process's heap live: memory from address space to live bytes, arenas, events
///
/// The process is not stopped. Surveys take at most a tenth of one processor's time: of a large heap they are taken less
/// often than asked for. Where the output is no terminal, a line a reading is printed.
///
/// Example: fragbench watch $(pidof mariadbd) --record night.jsonl
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Process
    #[arg(value_parser = parse_pid)]
    pid: u32,
    /// Time between two readings
    #[arg(long, value_parser = parse_duration, value_name = "TIME", default_value = "1s")]
    interval: Duration,
    /// Append every reading to FILE, a line of JSON each
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// End after so many readings
    #[arg(long, value_name = "N")]
    readings: Option<u64>,
}

impl Watch {
    pub(crate) fn go(&self) -> Result<Outcome> {
        there::require(self.pid)?;
        let watched = Watched::open(self.pid)?;
        let mut record = match &self.record {
            Some(file) => {
                let opened = std::fs::File::options().create(true).append(true).open(file);
                Some(opened.with_context(|| format!("{} cannot be written", file.display()))?)
            }
            None => None,
        };
        let flag = interrupt::flag()?;
        let mut history = History::default();
        let mut screen = std::io::stdout().is_terminal().then(ratatui::init);
        let result = (|| {
            for taken in 1.. {
                let reading = match watched.read() {
                    Ok(reading) => reading,
                    // It has ended: what was seen of it stands.
                    Err(ProcError::Gone(_)) if taken > 1 => return Ok("the process has ended"),
                    Err(error) => return Err(error.into()),
                };
                if let Some(file) = &mut record {
                    write(&reading, file)?;
                }
                let wait = pause(self.interval, &reading);
                if screen.is_none() {
                    let seen = history.last().map_or_else(Vec::new, |last| events(last, &reading));
                    print(&reading, &seen, history.last().and_then(|last| last.lacks.as_ref()));
                }
                history.push(reading);
                if self.readings == Some(taken) {
                    return Ok("");
                }
                let until = Instant::now() + wait;
                loop {
                    if let Some(screen) = &mut screen {
                        screen.draw(|frame| fragbench_watch::draw(frame, &history, self.interval))?;
                    }
                    let left = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
                    let ended = if screen.is_some() { asked_to_end(left)? } else { rest(left) };
                    if ended || flag.load(Ordering::Acquire) {
                        return Ok("");
                    }
                    if Instant::now() >= until {
                        break;
                    }
                }
            }
            Ok("")
        })();
        if screen.is_some() {
            ratatui::restore();
        }
        let last: Result<&str> = result;
        let last = last?;
        if !last.is_empty() {
            note!("{last}");
        }
        Ok(Outcome::Success)
    }
}

/// Waits for a key that ends it.
fn asked_to_end(limit: Duration) -> Result<bool> {
    if !event::poll(limit)? {
        return Ok(false);
    }
    // In raw mode Ctrl-C is a key too.
    Ok(event::read()?
        .as_key_press_event()
        .is_some_and(|key| matches!(key.code, KeyCode::Char('q' | 'c') | KeyCode::Esc)))
}

fn rest(limit: Duration) -> bool {
    std::thread::sleep(limit);
    false
}

/// A reading in one line, and what happened before it.
fn print(reading: &Reading, events: &[Event], last_lacks: Option<&String>) {
    let size = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |n| bytes(n as f64));
    let heap = reading.heap.as_ref();
    for event in events {
        say!("  {event}");
    }
    // Said once, and again when it changes.
    if let (Some(why), false) = (&reading.lacks, last_lacks == reading.lacks.as_ref()) {
        say!("  no heap is seen: {why}");
    }
    say!(
        "rss {}  heap {}  live {}  free {}  tops {}  trim would free {}  arenas {}  threads {}  survey {:.1} ms",
        bytes(reading.rss_bytes as f64),
        size(heap.map(|h| h.resident_bytes)),
        size(heap.map(|h| h.live_bytes)),
        size(heap.map(|h| h.free_resident_bytes)),
        size(heap.map(|h| h.top_resident_bytes)),
        size(reading.predicted_release_bytes),
        reading.arenas.len(),
        reading.threads,
        reading.survey_ms
    );
}
