//! `fragbench syscalls`: where a process's mappings come from.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use fragbench_report::{Row, Table, Value, bytes, count, draw, duration_ns};
use fragbench_syscalls::{Machine, Subject, Summary, Tool, machine, record, summarize};

use super::spark::spark;
use crate::options::Format;
use crate::sizes::{parse_pid, parse_seconds, parse_size};
use crate::{Outcome, interrupt, there, usage};

/// Count a process's memory system calls, and say who makes them and what for
///
/// mmap, munmap, brk, mprotect, madvise and mremap, by what the memory is for: arenas of glibc's, thread stacks, large
/// chunks, files, the program's own. Recorded with perf where the machine allows, with strace elsewhere.
///
/// Examples: fragbench syscalls --min-size 60M --stacks --seconds 30 $(pidof mariadbd),
/// fragbench syscalls --stacks --flame maps.svg -- sort big.txt
#[derive(Debug, Args)]
pub(crate) struct Syscalls {
    /// Process to watch
    #[arg(required_unless_present = "command", conflicts_with = "command", value_parser = parse_pid)]
    pid: Option<u32>,
    /// Leave out calls that concern less than this
    #[arg(long, value_parser = parse_size, value_name = "SIZE", default_value = "0")]
    min_size: u64,
    /// Record who makes each call
    #[arg(long)]
    stacks: bool,
    /// How long to watch PID
    #[arg(long, value_parser = parse_seconds, value_name = "TIME", default_value = "10s", conflicts_with = "command")]
    seconds: Duration,
    /// Draw a flame graph of who takes address space into FILE (SVG); implies --stacks
    #[arg(long, value_name = "FILE")]
    flame: Option<PathBuf>,
    /// What to record with [default: perf where it can be used, else strace]
    #[arg(long, value_enum)]
    with: Option<With>,
    /// Stacks shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Command to run and watch to its end
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum With {
    Perf,
    Strace,
}

impl Syscalls {
    pub(crate) fn go(&self) -> Result<Outcome> {
        self.pid.map_or(Ok(()), there::require)?;
        let machine = machine();
        let tool = machine.choose(self.with.map(|with| match with {
            With::Perf => Tool::Perf,
            With::Strace => Tool::Strace,
        }))?;
        let stacks = self.stacks || self.flame.is_some();
        let subject = match self.pid {
            Some(pid) => Subject::Process(pid, self.seconds),
            None => Subject::Command(self.command.clone()),
        };
        if let Subject::Command(words) = &subject
            && fragbench_run::program_file(&words[0].to_string_lossy()).is_none()
        {
            return Err(usage(format!("{:?} is no program on the PATH", words[0])));
        }
        note!("{}", choice(tool, &machine));
        let flag = interrupt::flag()?;
        let recording = record(&subject, tool, self.min_size, stacks, || flag.load(Ordering::Acquire))?;
        let lost = recording.lost;
        let summary = summarize(&recording.calls, recording.regions, self.min_size);
        if let Some(file) = &self.flame {
            let svg = std::fs::File::create(file).with_context(|| format!("{} cannot be written", file.display()))?;
            fragbench_syscalls::flame_graph(&summary, "address space taken, bytes", svg)?;
        }
        match self.format {
            Format::Json => {
                let value = serde_json::json!({
                    "schema": fragbench_model::SCHEMA,
                    "with": tool,
                    "machine": machine,
                    "min_size_bytes": self.min_size,
                    "lost": lost,
                    "summary": summary,
                });
                say!("{}", serde_json::to_string_pretty(&value)?);
            }
            Format::Text => self.print(&summary, lost, stacks),
        }
        Ok(Outcome::Success)
    }

    fn print(&self, summary: &Summary, lost: u64, stacks: bool) {
        let (width, colour) = crate::output::terminal();
        if lost > 0 {
            say!("! {lost} events were lost, more than perf could take: use a larger --min-size, or no --stacks.\n");
        }
        if summary.calls == 0 {
            let least =
                if self.min_size > 0 { format!(" of at least {}", bytes(self.min_size as f64)) } else { String::new() };
            say!("No memory system call{least} was made.");
            return;
        }
        say!("{}", draw(&line_table(summary), width, colour));
        say!("\nOver {}:", duration_ns(summary.seconds * 1e9));
        for (purpose, bins) in &summary.timeline.calls {
            say!("{:<16} {}", purpose.text(), spark(bins));
        }
        say!();
        let mut seen: Vec<_> = summary.lines.iter().map(|line| line.purpose).collect();
        seen.dedup();
        for purpose in seen {
            say!("{:<16} {}", purpose.text(), purpose.sign());
        }
        if stacks {
            say!("\nMost bytes by who asked:");
            for stack in summary.stacks.iter().take(self.top) {
                let callers: Vec<&str> = stack.callers().map(|frame| frame.function.as_str()).take(4).collect();
                let who = if callers.is_empty() { "the C library by itself".to_owned() } else { callers.join(" < ") };
                let (calls, sum) = (count(stack.calls as f64), bytes(stack.bytes as f64));
                say!("{sum:>10} {calls:>7} × {:<8} {:<16} {who}", stack.call.text(), stack.purpose.text());
            }
        }
    }
}

/// Which tool is used, and what the better one would need.
fn choice(tool: Tool, machine: &Machine) -> String {
    match (tool, &machine.perf_lacks) {
        (Tool::Strace, Some(why)) => format!("recording with strace, which slows every call; perf would not: {why}"),
        (tool, _) => format!("recording with {}", tool.text()),
    }
}

fn line_table(summary: &Summary) -> Table {
    let value = |text: String| Some(Value { text, interval: None, mark: None });
    let rows = summary.lines.iter().map(|line| Row {
        label: format!("{}, {}", line.purpose.text(), line.call.text()),
        values: vec![
            value(count(line.calls as f64)),
            value(bytes(line.bytes as f64)),
            value(bytes(line.largest_bytes as f64)),
            line.failed.and_then(|n| value(count(n as f64))),
        ],
    });
    Table {
        corner: "what for, call".into(),
        columns: ["calls", "bytes", "largest", "failed"].map(String::from).to_vec(),
        rows: rows.collect(),
        notes: Vec::new(),
    }
}
