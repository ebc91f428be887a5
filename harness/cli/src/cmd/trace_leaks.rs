//! `fragbench trace leaks`: what was never freed while a trace was recorded.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use fragbench_report::{Row, Table, Value, bytes, count, draw, duration_ns};
use fragbench_trace::{LeakSize, Pattern};

use super::spark::spark;
use super::trace::open;
use crate::Outcome;
use crate::options::Format;

/// Blocks never freed, by size, thread and age, and when in the recording they were made
///
/// A trace holds no pointers: whether the program could still reach a block is not known, as with valgrind's "still
/// reachable". Blocks that came about evenly all the time (steady) are a leak's sign; those of the start are none.
///
/// Example: fragbench trace leaks server.fbt
#[derive(Debug, Args)]
pub(crate) struct Leaks {
    /// Trace
    file: PathBuf,
    /// Rows a table
    #[arg(long, value_name = "N", default_value_t = 12)]
    top: usize,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Leaks {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let leaks = fragbench_trace::leaks(&open(&self.file)?);
        match self.format {
            Format::Json => say!("{}", serde_json::to_string_pretty(&leaks)?),
            Format::Text => self.print(&leaks),
        }
        Ok(Outcome::Success)
    }

    fn print(&self, leaks: &fragbench_trace::Leaks) {
        let (width, colour) = crate::measure::terminal();
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
    }
}

fn size_table(sizes: &[LeakSize], top: usize) -> Table {
    let rows = sizes.iter().take(top).map(|line| {
        let size = if line.to_bytes - line.from_bytes == 1 {
            line.from_bytes.to_string()
        } else {
            format!("{} to {}", line.from_bytes, line.to_bytes - 1)
        };
        let pattern = match line.pattern {
            Pattern::Steady => "steady",
            Pattern::Startup => "startup",
            Pattern::Recent => "recent",
            Pattern::Mixed => "mixed",
        };
        let share = format!("{:.1} %", 100.0 * line.blocks as f64 / line.made as f64);
        let thread = match line.threads {
            1 => line.most_thread.to_string(),
            n => format!("{n}, most {}", line.most_thread),
        };
        row(
            size,
            [count(line.blocks as f64), bytes(line.bytes as f64), share, pattern.to_owned(), spark(&line.born), thread],
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
