//! `fragbench trace leaks`: what was never freed while a trace was recorded.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use fragbench_report::{Row, Table, Value, bytes, count, draw, duration_ns};
use fragbench_trace_analysis::{LeakFrame, LeakSize, LeakStack, Pattern};

use super::spark::spark;
use super::trace::open;
use crate::options::Format;
use crate::{Outcome, usage};

/// Blocks never freed, by size, thread, age and call stack, and when in the recording they were made
///
/// A trace holds no pointers: whether the program could still reach a block is not known, as with valgrind's "still
/// reachable". Blocks that came about evenly all the time (steady) are a leak's sign; those of the start are none.
///
/// Stacks are there when the trace was recorded with --stacks.
///
/// Examples: fragbench trace leaks server.fbt, fragbench trace leaks server.fbt --flame leaks.svg
#[derive(Debug, Args)]
pub(crate) struct Leaks {
    /// Trace
    file: PathBuf,
    /// Rows a table
    #[arg(long, value_name = "N", default_value_t = 12)]
    top: usize,
    /// Draw a flame graph of who made the blocks into FILE (SVG)
    #[arg(long, value_name = "FILE")]
    flame: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Leaks {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let trace = open(&self.file)?;
        let leaks = fragbench_trace_analysis::leaks(&trace);
        if trace.info().stacks && leaks.stacks.is_none() {
            note!("{}: the call stacks are damaged, everything else can be read", self.file.display());
        }
        if let Some(file) = &self.flame {
            let lines = leaks.stacks.as_deref().map(folded).unwrap_or_default();
            if lines.is_empty() {
                let why = "holds no call stacks of blocks never freed: record with --stacks";
                return Err(usage(format!("{} {why}", self.file.display())));
            }
            let svg = std::fs::File::create(file).with_context(|| format!("{} cannot be written", file.display()))?;
            fragbench_syscalls::draw_folded(&lines, "never freed, bytes", svg)
                .with_context(|| format!("{}", file.display()))?;
        }
        match self.format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&leaks)?),
            Format::Text => self.print(&leaks),
        }
        Ok(Outcome::Success)
    }

    fn print(&self, leaks: &fragbench_trace_analysis::Leaks) {
        let (width, colour) = crate::output::terminal();
        say!(
            "Never freed in {}: {} blocks, {}.",
            duration_ns(leaks.duration_s * 1e9),
            count(leaks.blocks as f64),
            bytes(leaks.bytes as f64)
        );
        if !leaks.complete {
            say!("! The trace is cut or damaged: some of them may have been freed.");
        }
        let steady: u64 = leaks.sizes.iter().filter(|s| s.pattern == Pattern::Steady).map(|s| s.bytes).sum();
        say!("Of sizes that were made and kept all the time, as a leak does: {}.\n", bytes(steady as f64));
        say!("{}", draw(&size_table(&leaks.sizes, self.top), width, colour));
        let threads = leaks.threads.iter().take(self.top).map(|line| {
            let label = format!("{}{}", line.thread, if line.ended { ", ended" } else { "" });
            row(label, [count(line.blocks as f64), bytes(line.bytes as f64)])
        });
        say!("\n{}", draw(&table("thread", &["blocks", "bytes"], threads.collect()), width, colour));
        let ages = leaks.ages.iter().map(|line| {
            let label = format!("{} to {}", duration_ns(line.from_s * 1e9), duration_ns(line.to_s * 1e9));
            row(label, [count(line.blocks as f64), bytes(line.bytes as f64)])
        });
        say!("\n{}", draw(&table("age at the end", &["blocks", "bytes"], ages.collect()), width, colour));
        if let Some(stacks) = &leaks.stacks {
            print_stacks(stacks, self.top);
        }
    }
}

fn print_stacks(stacks: &[LeakStack], top: usize) {
    say!("\nBy who made them, innermost first:");
    for stack in stacks.iter().take(top) {
        let threads = match stack.threads {
            1 => format!("thread {}", stack.most_thread),
            n => format!("{n} threads, most {}", stack.most_thread),
        };
        let (from, to) = (duration_ns(stack.youngest_s * 1e9), duration_ns(stack.oldest_s * 1e9));
        say!(
            "\n{} in {} blocks, {}, {threads}, {from} to {to} old {}",
            bytes(stack.bytes as f64),
            count(stack.blocks as f64),
            pattern(stack.pattern),
            spark(&stack.born)
        );
        if stack.frames.is_empty() {
            say!("    not known who made them");
        }
        // A recursion is the same line again and again.
        for same in stack.frames.chunk_by(|a, b| a == b) {
            let times = if same.len() > 1 { format!(", {} times", same.len()) } else { String::new() };
            say!("    {}{times}", shown(&same[0]));
        }
    }
    if let Some(rest) = stacks.get(top..).filter(|rest| !rest.is_empty()) {
        let sum: u64 = rest.iter().map(|stack| stack.bytes).sum();
        say!("\nand {} from {} more stacks.", bytes(sum as f64), rest.len());
    }
}

/// `function (file:line)`, or as much of it as is known: `function (module+offset)`.
fn shown(frame: &LeakFrame) -> String {
    let place = match (&frame.file, frame.line, &frame.module) {
        (Some(file), Some(line), _) => format!("{file}:{line}"),
        (_, _, Some(module)) => format!("{module}+{:#x}", frame.offset),
        (_, _, None) => format!("{:#x}", frame.offset),
    };
    let inlined = if frame.inlined { ", inlined" } else { "" };
    format!("{} ({place}{inlined})", frame.function.as_deref().unwrap_or("?"))
}

/// Stacks for a flame graph.
fn folded(stacks: &[LeakStack]) -> Vec<String> {
    let name = |frame: &LeakFrame| match &frame.function {
        Some(function) => function.replace(';', ":"),
        None => shown(frame).replace(';', ":"),
    };
    let known = stacks.iter().filter(|stack| !stack.frames.is_empty() && stack.bytes > 0);
    known
        .map(|stack| {
            let path: Vec<String> = stack.frames.iter().rev().map(name).collect();
            format!("{} {}", path.join(";"), stack.bytes)
        })
        .collect()
}

fn pattern(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Steady => "steady",
        Pattern::Startup => "startup",
        Pattern::Recent => "recent",
        Pattern::Mixed => "mixed",
    }
}

fn size_table(sizes: &[LeakSize], top: usize) -> Table {
    let rows = sizes.iter().take(top).map(|line| {
        let size = if line.to_bytes - line.from_bytes == 1 {
            line.from_bytes.to_string()
        } else {
            format!("{} to {}", line.from_bytes, line.to_bytes - 1)
        };
        let share = format!("{:.1} %", 100.0 * line.blocks as f64 / line.made as f64);
        let thread = match line.threads {
            1 => line.most_thread.to_string(),
            n => format!("{n}, most {}", line.most_thread),
        };
        row(
            size,
            [
                count(line.blocks as f64),
                bytes(line.bytes as f64),
                share,
                pattern(line.pattern).to_owned(),
                spark(&line.born),
                thread,
            ],
        )
    });
    let columns = ["blocks", "bytes", "of made", "pattern", "when made", "threads"];
    table("size, bytes", &columns, rows.collect())
}

fn table(corner: &str, columns: &[&str], rows: Vec<Row>) -> Table {
    let columns = columns.iter().map(|name| (*name).to_owned()).collect();
    Table { corner: corner.to_owned(), columns, rows, notes: Vec::new() }
}

fn row<const N: usize>(label: String, values: [String; N]) -> Row {
    let values = values.into_iter().map(|text| Some(Value { text, interval: None, mark: None })).collect();
    Row { label, values }
}
