//! `fragbench trace export`: a trace's events as a table, one row an event in recorded order, for other programs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use fragbench_trace::{Event, EventKind, SystemCall};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

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

const SCHEMA: &str = "message event {
    required int64 at_us; required int32 thread; required binary kind (utf8); optional int64 object;
    required int64 size; optional int64 alignment; optional int64 old_size; optional int32 old_thread;
    optional int32 resident_pages; }";

/// Rows that are buffered before a row group is written.
const ROW_GROUP: usize = 1 << 17;

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
            (Table::Parquet, Some(path)) => parquet(rows, create(path)?)?,
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

fn parquet(mut rows: impl Iterator<Item = Row>, file: File) -> Result<()> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
    let mut writer = SerializedFileWriter::new(file, schema, properties)?;
    loop {
        let group: Vec<Row> = rows.by_ref().take(ROW_GROUP).collect();
        if group.is_empty() {
            break;
        }
        let mut out = writer.next_row_group()?;
        long(&mut out, &group, |row| Some(row.at_us), false)?;
        int(&mut out, &group, |row| Some(row.thread), false)?;
        let kinds: Vec<ByteArray> = group.iter().map(|row| ByteArray::from(row.kind)).collect();
        let mut column = next_column(&mut out)?;
        column.typed::<ByteArrayType>().write_batch(&kinds, None, None)?;
        column.close()?;
        long(&mut out, &group, |row| row.object, true)?;
        long(&mut out, &group, |row| Some(row.size), false)?;
        long(&mut out, &group, |row| row.alignment, true)?;
        long(&mut out, &group, |row| row.old_size, true)?;
        int(&mut out, &group, |row| row.old_thread, true)?;
        int(&mut out, &group, |row| row.resident_pages, true)?;
        out.close()?;
    }
    writer.close()?;
    Ok(())
}

type Group<'a> = SerializedRowGroupWriter<'a, File>;

fn next_column<'a>(group: &'a mut Group) -> Result<parquet::file::writer::SerializedColumnWriter<'a>> {
    group.next_column()?.context("more values than columns")
}

/// Which rows have a value, as Parquet's definition levels.
fn levels<T>(values: &[Option<T>], optional: bool) -> Option<Vec<i16>> {
    optional.then(|| values.iter().map(|value| i16::from(value.is_some())).collect())
}

fn long(out: &mut Group, rows: &[Row], value: impl Fn(&Row) -> Option<u64>, optional: bool) -> Result<()> {
    let values: Vec<Option<u64>> = rows.iter().map(value).collect();
    let present: Vec<i64> = values.iter().flatten().map(|&v| v as i64).collect();
    let mut column = next_column(out)?;
    column.typed::<Int64Type>().write_batch(&present, levels(&values, optional).as_deref(), None)?;
    column.close()?;
    Ok(())
}

fn int(out: &mut Group, rows: &[Row], value: impl Fn(&Row) -> Option<u32>, optional: bool) -> Result<()> {
    let values: Vec<Option<u32>> = rows.iter().map(value).collect();
    let present: Vec<i32> = values.iter().flatten().map(|&v| v as i32).collect();
    let mut column = next_column(out)?;
    column.typed::<Int32Type>().write_batch(&present, levels(&values, optional).as_deref(), None)?;
    column.close()?;
    Ok(())
}
