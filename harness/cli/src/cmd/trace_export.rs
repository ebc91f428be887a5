//! `fragbench trace export`: a trace's events as a table, one row an event in recorded order, for other programs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use fragbench_trace::{Event, EventKind, SystemCall};

use crate::parquet_file::{self, Column, Values};
use crate::{Outcome, usage};

/// Write a trace's events as CSV or Parquet
///
/// Example: fragbench trace export server.fbt -o server.parquet
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Trace
    file: PathBuf,
    /// File to write [default: standard output, CSV only]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Form of the table [default: by the ending of -o, else csv]
    #[arg(long, value_enum)]
    table: Option<Table>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    Csv,
    Parquet,
}

/// Columns; `object` numbers blocks in order of allocation, sizes are bytes, an empty cell is a missing value.
const COLUMNS: [&str; 9] =
    ["at_us", "thread", "kind", "object", "size", "alignment", "old_size", "old_thread", "resident_pages"];

impl Export {
    pub(super) fn go(&self) -> Result<Outcome> {
        let trace = super::trace::open(&self.file)?;
        let by_ending = self.output.as_ref().and_then(|path| match path.extension()?.to_str()? {
            "parquet" => Some(Table::Parquet),
            _ => Some(Table::Csv),
        });
        let rows = trace.events_in_order().map(|event| Row::from(&event));
        match (self.table.or(by_ending).unwrap_or(Table::Csv), &self.output) {
            (Table::Csv, Some(path)) => csv(rows, BufWriter::new(create(path)?))?,
            (Table::Csv, None) => csv(rows, BufWriter::new(std::io::stdout().lock()))?,
            (Table::Parquet, Some(path)) => parquet_file::write(create(path)?, &columns(), rows.map(Ok))?,
            (Table::Parquet, None) => return Err(usage("Parquet is not for a terminal: name a file with -o")),
        }
        Ok(Outcome::Success)
    }
}

fn create(path: &PathBuf) -> Result<File> {
    File::create(path).with_context(|| format!("{} cannot be written", path.display()))
}

struct Row {
    at_us: u64,
    thread: u32,
    kind: &'static str,
    object: Option<u64>,
    size: u64,
    alignment: Option<u64>,
    old_size: Option<u64>,
    old_thread: Option<u32>,
    resident_pages: Option<u32>,
}

impl From<&Event> for Row {
    fn from(event: &Event) -> Self {
        let kind = match event.kind {
            EventKind::Malloc => "malloc",
            EventKind::Calloc => "calloc",
            EventKind::Aligned(_) => "aligned",
            EventKind::Realloc { moved: true } => "realloc",
            EventKind::Realloc { moved: false } => "realloc_in_place",
            EventKind::Free => "free",
            EventKind::ThreadStart => "thread_start",
            EventKind::ThreadExit => "thread_exit",
            EventKind::System { call: SystemCall::Mmap, .. } => "mmap",
            EventKind::System { call: SystemCall::Munmap, .. } => "munmap",
            EventKind::System { call: SystemCall::Mremap, .. } => "mremap",
            EventKind::System { call: SystemCall::Madvise, .. } => "madvise",
            EventKind::System { call: SystemCall::Brk, .. } => "brk",
            EventKind::System { call: SystemCall::MallocTrim, .. } => "malloc_trim",
            EventKind::System { call: SystemCall::Mallopt, .. } => "mallopt",
        };
        Self {
            at_us: event.at_us,
            thread: event.thread,
            kind,
            object: event.object,
            size: event.size,
            alignment: match event.kind {
                EventKind::Aligned(alignment) => Some(alignment),
                _ => None,
            },
            old_size: event.before.map(|before| before.size),
            old_thread: event.before.map(|before| before.thread),
            resident_pages: event.resident_pages,
        }
    }
}

fn csv(rows: impl Iterator<Item = Row>, mut out: impl Write) -> Result<()> {
    writeln!(out, "{}", COLUMNS.join(","))?;
    let cell = |value: Option<u64>| value.map_or(String::new(), |v| v.to_string());
    for row in rows {
        writeln!(
            out,
            "{},{},{},{},{},{},{},{},{}",
            row.at_us,
            row.thread,
            row.kind,
            cell(row.object),
            row.size,
            cell(row.alignment),
            cell(row.old_size),
            cell(row.old_thread.map(u64::from)),
            cell(row.resident_pages.map(u64::from)),
        )?;
    }
    Ok(out.flush()?)
}

/// Columns of the Parquet file; those of the CSV have the same names.
fn columns() -> Vec<Column<'static, Row>> {
    let long =
        |value: fn(&Row) -> Option<u64>| Values::Long(Box::new(move |row: &Row| value(row).map(|value| value as i64)));
    let int =
        |value: fn(&Row) -> Option<u32>| Values::Int(Box::new(move |row: &Row| value(row).map(|value| value as i32)));
    vec![
        Column::required("at_us", long(|row| Some(row.at_us))),
        Column::required("thread", int(|row| Some(row.thread))),
        Column::required("kind", Values::Text(Box::new(|row| Some(row.kind)))),
        Column::optional("object", long(|row| row.object)),
        Column::required("size", long(|row| Some(row.size))),
        Column::optional("alignment", long(|row| row.alignment)),
        Column::optional("old_size", long(|row| row.old_size)),
        Column::optional("old_thread", int(|row| row.old_thread)),
        Column::optional("resident_pages", int(|row| row.resident_pages)),
    ]
}
