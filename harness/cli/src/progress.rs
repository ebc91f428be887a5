//! What a terminal shows while a plan is carried out.

use anyhow::Result;
use fragbench_model::{RunStatus, label};
use fragbench_run::Event;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar of runs, or of time where their number is not known beforehand.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Of a plan of so many runs, of which so many are done.
    pub(crate) fn of_runs(runs: usize, done: usize) -> Result<Self> {
        let bar = ProgressBar::new(runs as u64)
            .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {eta} left  {msg}")?)
            .with_position(done as u64);
        Ok(Self { bar })
    }

    /// Of a search that may take so many seconds.
    pub(crate) fn of_time(seconds: u64) -> Result<Self> {
        let template = format!("{{elapsed}} of {seconds} s  {{pos}}/{{len}} runs  {{wide_msg}}");
        Ok(Self { bar: ProgressBar::new(0).with_style(ProgressStyle::with_template(&template)?) })
    }

    pub(crate) fn hear(&self, event: &Event) {
        match event {
            Event::Begins(_, cell) => {
                self.bar.set_message(format!("{} under {}", cell.workload.name(), cell.allocator.label()));
            }
            Event::Repeats(record) => self.say(&format!("{}: the machine was busy, once more", record.workload)),
            Event::Ended(record) => {
                if let RunStatus::Failed(failure) = &record.status {
                    let label = label(&record.allocator, &record.settings);
                    self.say(&format!("{} under {label} failed: {}", record.workload, failure.reason));
                }
                self.bar.inc(1);
            }
            Event::Grown(runs) => self.bar.set_length(*runs as u64),
        }
    }

    /// A line above the bar; on standard error where there is no terminal.
    fn say(&self, line: &str) {
        if self.bar.is_hidden() { note!("{line}") } else { self.bar.println(line) }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
