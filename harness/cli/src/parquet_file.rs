//! Tables as Parquet files: a column is described once, and both the file's schema and its values come of that. One page a
//! column and row group, values plain, compressed by Zstandard; a missing value is a null. Refuses nesting, dictionaries,
//! statistics and reading.
//!
//! Source: the Apache Parquet format (github.com/apache/parquet-format: README.md, Encodings.md, parquet.thrift) and
//! Thrift's compact protocol (github.com/apache/thrift, doc/specs/thrift-compact-protocol.md).

use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context, Result, ensure};

use crate::thrift::{self, Struct};

/// Rows that are buffered before a row group is written.
const ROW_GROUP: usize = 1 << 17;
const MAGIC: &[u8; 4] = b"PAR1";

// `Encoding`, `CompressionCodec` and `FieldRepetitionType` of parquet.thrift.
const PLAIN: i32 = 0;
const RLE: i32 = 3;
const ZSTD: i32 = 6;
const REQUIRED: i32 = 0;
const OPTIONAL: i32 = 1;

type Value<'a, R, V> = Box<dyn Fn(&R) -> Option<V> + 'a>;
type Text<'a, R> = Box<dyn Fn(&R) -> Option<&str> + 'a>;

/// How a column's values are had of a row.
pub(crate) enum Values<'a, R> {
    Flag(Value<'a, R, bool>),
    Int(Value<'a, R, i32>),
    Long(Value<'a, R, i64>),
    Double(Value<'a, R, f64>),
    Text(Text<'a, R>),
}

impl<R> Values<'_, R> {
    /// `Type` of parquet.thrift.
    fn physical(&self) -> i32 {
        match self {
            Values::Flag(_) => 0,
            Values::Int(_) => 1,
            Values::Long(_) => 2,
            Values::Double(_) => 5,
            Values::Text(_) => 6,
        }
    }
}

/// A column.
pub(crate) struct Column<'a, R> {
    name: String,
    required: bool,
    values: Values<'a, R>,
}

impl<'a, R> Column<'a, R> {
    /// One that every row has a value for.
    pub(crate) fn required(name: &str, values: Values<'a, R>) -> Self {
        Self { name: name.to_owned(), required: true, values }
    }

    /// One whose values may be missing.
    pub(crate) fn optional(name: &str, values: Values<'a, R>) -> Self {
        Self { name: name.to_owned(), required: false, values }
    }

    /// `SchemaElement`.
    fn schema(&self) -> Struct {
        let mut element = Struct::default();
        element.i32(1, self.values.physical());
        element.i32(3, if self.required { REQUIRED } else { OPTIONAL });
        element.binary(4, self.name.as_bytes());
        if let Values::Text(_) = self.values {
            element.i32(6, 0); // converted type UTF8, for older readers
            let mut logical = Struct::default();
            logical.nested(1, Struct::default()); // STRING
            element.nested(10, logical);
        }
        element
    }

    /// A page's contents, uncompressed: definition levels of an optional column, then the values that are present.
    fn page(&self, rows: &[R]) -> Result<Vec<u8>> {
        let mut page = Page::default();
        match &self.values {
            Values::Flag(value) => page.flags(rows.iter().map(value)),
            Values::Int(value) => page.put(rows.iter().map(value), |out, v| out.extend(v.to_le_bytes())),
            Values::Long(value) => page.put(rows.iter().map(value), |out, v| out.extend(v.to_le_bytes())),
            Values::Double(value) => page.put(rows.iter().map(value), |out, v| out.extend(v.to_le_bytes())),
            Values::Text(value) => page.put(rows.iter().map(value), |out, text: &str| {
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
            }),
        }
        ensure!(!self.required || page.present.iter().all(|present| *present), "a row has no {}", self.name);
        if self.required {
            return Ok(page.values);
        }
        let levels = runs(&page.present);
        let mut bytes = u32::try_from(levels.len())?.to_le_bytes().to_vec();
        bytes.extend(levels);
        bytes.extend(page.values);
        Ok(bytes)
    }

    /// Writes the column of a row group at `offset`; gives its `ColumnChunk`, and its bytes in the file and uncompressed.
    fn write(&self, rows: &[R], offset: u64, out: &mut impl Write) -> Result<(Struct, u64, u64)> {
        let page = self.page(rows)?;
        let packed = zstd::bulk::compress(&page, 3)?;
        let too_long = || format!("{} values of {} are too long for one page", rows.len(), self.name);
        let mut data = Struct::default();
        data.i32(1, i32::try_from(rows.len())?);
        data.i32(2, PLAIN);
        data.i32(3, RLE); // definition levels
        data.i32(4, RLE); // repetition levels, of which there are none
        let mut header = Struct::default();
        header.i32(1, 0); // a data page
        header.i32(2, i32::try_from(page.len()).with_context(too_long)?);
        header.i32(3, i32::try_from(packed.len()).with_context(too_long)?);
        header.nested(5, data);
        let header = header.end();
        out.write_all(&header)?;
        out.write_all(&packed)?;
        let (written, plain) = ((header.len() + packed.len()) as u64, (header.len() + page.len()) as u64);

        let mut meta = Struct::default();
        meta.i32(1, self.values.physical());
        meta.list(2, thrift::I32, &[thrift::i32(PLAIN), thrift::i32(RLE)]);
        meta.list(3, thrift::BINARY, &[thrift::binary(self.name.as_bytes())]);
        meta.i32(4, ZSTD);
        meta.i64(5, rows.len() as i64);
        meta.i64(6, plain as i64);
        meta.i64(7, written as i64);
        meta.i64(9, offset as i64);
        let mut chunk = Struct::default();
        chunk.i64(2, 0); // deprecated: where the metadata is repeated in the file; nowhere
        chunk.nested(3, meta);
        Ok((chunk, written, plain))
    }
}

/// Values of one page.
#[derive(Default)]
struct Page {
    present: Vec<bool>,
    values: Vec<u8>,
}

impl Page {
    fn put<V>(&mut self, values: impl Iterator<Item = Option<V>>, write: impl Fn(&mut Vec<u8>, V)) {
        for value in values {
            self.present.push(value.is_some());
            if let Some(value) = value {
                write(&mut self.values, value);
            }
        }
    }

    /// A bit each, the lowest of a byte first.
    fn flags(&mut self, values: impl Iterator<Item = Option<bool>>) {
        let mut bits = 0;
        for value in values {
            self.present.push(value.is_some());
            let Some(value) = value else { continue };
            if bits % 8 == 0 {
                self.values.push(0);
            }
            if let Some(last) = self.values.last_mut() {
                *last |= u8::from(value) << (bits % 8);
            }
            bits += 1;
        }
    }
}

/// Definition levels (1 present, 0 missing) by the RLE and bit-packing hybrid, as runs alone: twice the length, the level.
fn runs(levels: &[bool]) -> Vec<u8> {
    let mut out = Vec::new();
    for run in levels.chunk_by(|a, b| a == b) {
        thrift::varint(&mut out, (run.len() as u64) << 1);
        out.push(u8::from(run[0]));
    }
    out
}

/// Writes a table.
///
/// # Errors
/// When the file cannot be written, or a row cannot be had.
pub(crate) fn write<R>(file: File, columns: &[Column<R>], mut rows: impl Iterator<Item = Result<R>>) -> Result<()> {
    let mut out = BufWriter::new(file);
    out.write_all(MAGIC)?;
    let (mut offset, mut count, mut groups) = (MAGIC.len() as u64, 0, Vec::new());
    loop {
        let group: Vec<R> = rows.by_ref().take(ROW_GROUP).collect::<Result<_>>()?;
        if group.is_empty() {
            break;
        }
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        for column in columns {
            let (chunk, written, plain) = column.write(&group, offset, &mut out)?;
            chunks.push(chunk.end());
            offset += written;
            bytes += plain;
        }
        let mut row_group = Struct::default();
        row_group.list(1, thrift::STRUCT, &chunks);
        row_group.i64(2, bytes as i64);
        row_group.i64(3, group.len() as i64);
        groups.push(row_group.end());
        count += group.len() as i64;
    }

    let mut root = Struct::default();
    root.binary(4, b"row");
    root.i32(5, i32::try_from(columns.len())?);
    let mut schema = vec![root.end()];
    schema.extend(columns.iter().map(|column| column.schema().end()));
    let mut footer = Struct::default();
    footer.i32(1, 1); // version of the format
    footer.list(2, thrift::STRUCT, &schema);
    footer.i64(3, count);
    footer.list(4, thrift::STRUCT, &groups);
    footer.binary(6, concat!("fragbench ", env!("CARGO_PKG_VERSION")).as_bytes());
    let footer = footer.end();
    out.write_all(&footer)?;
    out.write_all(&u32::try_from(footer.len())?.to_le_bytes())?;
    out.write_all(MAGIC)?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_runs() {
        assert_eq!(runs(&[true, true, true, false, true]), [6, 1, 2, 0, 2, 1]);
        assert_eq!(runs(&[false; 200]), [0x90, 3, 0]);
    }

    #[test]
    fn flags_are_bits_from_the_lowest_on() {
        let column: Column<bool> = Column::required("flag", Values::Flag(Box::new(|row: &bool| Some(*row))));
        let rows: Vec<bool> = (0..10).map(|i| i % 3 == 0).collect();
        assert_eq!(column.page(&rows).unwrap(), [0b0100_1001, 0b10]);
    }

    #[test]
    fn a_row_without_a_required_value_is_an_error() {
        let column: Column<i32> = Column::required("n", Values::Int(Box::new(|row: &i32| (*row > 0).then_some(*row))));
        assert_eq!(column.page(&[1, 0]).unwrap_err().to_string(), "a row has no n");
        assert_eq!(column.page(&[1]).unwrap(), [1, 0, 0, 0]);
    }
}
