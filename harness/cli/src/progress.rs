//! How far a plan is: a bar on a terminal, elsewhere (a log, a pipe) a plain line every ten seconds.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use fragbench_model::{RunStatus, label};
use fragbench_run::Event;
use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// A bar of runs, or of time where their number is not known beforehand.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// In place of a bar that nobody would see.
    lines: Option<Lines>,
}

impl Progress {
    /// Of a plan of so many runs, of which so many are done.
    pub(crate) fn of_runs(runs: usize, done: usize) -> Result<Self> {
        let bar = ProgressBar::new(runs as u64)
            .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {eta} left  {msg}")?)
            .with_position(done as u64);
        Ok(Self::told(bar, Far { done, runs, ..Far::default() }))
    }

    /// Of a search that may take so many seconds.
    pub(crate) fn of_time(seconds: u64) -> Result<Self> {
        let template = format!("{{elapsed}} of {seconds} s  {{pos}}/{{len}} runs  {{wide_msg}}");
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(&template)?);
        Ok(Self::told(bar, Far { limit_s: Some(seconds), ..Far::default() }))
    }

    fn told(bar: ProgressBar, far: Far) -> Self {
        let lines = bar.is_hidden().then(|| Lines::begin(far, EVERY, |line| note!("{line}")));
        Self { bar, lines }
    }

    pub(crate) fn hear(&self, event: &Event) {
        match event {
            Event::Begins(_, cell) => {
                let what = format!("{} under {}", cell.workload.name(), cell.allocator.label());
                self.far(|far| far.what.clone_from(&what));
                // A name is one line, and does nothing to the terminal.
                self.bar.set_message(fragbench_model::printable(&what).into_owned());
            }
            Event::Repeats(record) => self.say(&format!("{}: the machine was busy, once more", record.workload)),
            Event::Ended(record) => {
                if let RunStatus::Failed(failure) = &record.status {
                    let label = label(&record.allocator, &record.settings);
                    self.say(&format!("{} under {label} failed: {}", record.workload, failure.reason));
                }
                self.far(|far| far.done += 1);
                self.bar.inc(1);
            }
            Event::Grown(runs) => {
                self.far(|far| far.runs = *runs);
                self.bar.set_length(*runs as u64);
            }
        }
    }

    fn far(&self, change: impl FnOnce(&mut Far)) {
        if let Some(lines) = &self.lines {
            change(&mut lines.shared.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// A line above the bar; on standard error where there is no terminal.
    fn say(&self, line: &str) {
        let line = fragbench_model::printable(line);
        if self.bar.is_hidden() { note!("{line}") } else { self.bar.println(line) }
    }

    pub(crate) fn finish(&self) {
        self.far(|far| far.ended = true);
        if let Some(lines) = &self.lines {
            lines.shared.1.notify_all();
        }
        self.bar.finish_and_clear();
    }
}

/// How far it is.
#[derive(Debug, Default)]
struct Far {
    done: usize,
    /// Of those planned so far.
    runs: usize,
    /// Of a search.
    limit_s: Option<u64>,
    /// What runs now.
    what: String,
    ended: bool,
}

impl Far {
    fn line(&self, gone: Duration) -> String {
        let time = self.limit_s.map_or_else(String::new, |limit| format!(" of {limit}"));
        let what = if self.what.is_empty() { "beginning" } else { &self.what };
        // What others named is one line.
        let what = fragbench_model::printable(what);
        format!("{} of {} runs after {}{time} s: {what}", self.done, self.runs, gone.as_secs())
    }
}

/// Lines at an interval, from a thread of their own: a run may take minutes.
struct Lines {
    shared: Arc<(Mutex<Far>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    fn begin(far: Far, every: Duration, say: impl Fn(&str) + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(far), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            let (far, changed) = &*theirs;
            let mut next = begun + every;
            let mut far = far.lock().unwrap_or_else(PoisonError::into_inner);
            while !far.ended {
                let left = next.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    next += every;
                    say(&far.line(begun.elapsed()));
                } else {
                    far = changed.wait_timeout(far, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }
}

impl Drop for Lines {
    /// Nothing is said after the end.
    fn drop(&mut self) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.shared.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn lines_come_while_nothing_happens_and_end_with_it() {
        let (said, heard) = channel();
        let far = Far { done: 3, runs: 48, what: "mysql under jemalloc".into(), ..Far::default() };
        let lines = Lines::begin(far, Duration::from_millis(2), move |line| {
            let _ = said.send(line.to_owned());
        });
        for _ in 0..3 {
            let line = heard.recv().unwrap();
            assert!(line.starts_with("3 of 48 runs after ") && line.ends_with(" s: mysql under jemalloc"), "{line}");
        }
        drop(lines);
        while heard.try_recv().is_ok() {}
        assert!(heard.recv().is_err(), "nobody is left who could say something");
    }

    #[test]
    fn a_search_says_of_which_time() {
        let far = Far { done: 2, runs: 9, limit_s: Some(480), ..Far::default() };
        let hostile = Far { what: "x\u{1b}[2J\n9 of 9 runs".into(), ..Far::default() };
        assert!(hostile.line(Duration::ZERO).ends_with(r"x\u001b[2J\n9 of 9 runs"));
        assert_eq!(far.line(Duration::from_secs(31)), "2 of 9 runs after 31 of 480 s: beginning");
    }
}
