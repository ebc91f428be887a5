//! Tables as Parquet files: a column is described once, and both the file's schema and its values come of that.
//! Compressed by Snappy; a missing value is a null.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

/// Rows that are buffered before a row group is written.
const ROW_GROUP: usize = 1 << 17;

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

    fn schema(&self) -> Result<TypePtr> {
        let (physical, logical) = match self.values {
            Values::Flag(_) => (Physical::BOOLEAN, None),
            Values::Int(_) => (Physical::INT32, None),
            Values::Long(_) => (Physical::INT64, None),
            Values::Double(_) => (Physical::DOUBLE, None),
            Values::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let repetition = if self.required { Repetition::REQUIRED } else { Repetition::OPTIONAL };
        let column = Type::primitive_type_builder(&self.name, physical);
        Ok(Arc::new(column.with_repetition(repetition).with_logical_type(logical).build()?))
    }

    fn write(&self, rows: &[R], out: SerializedColumnWriter) -> Result<()> {
        match &self.values {
            Values::Flag(value) => self.put::<BoolType>(rows.iter().map(value), out),
            Values::Int(value) => self.put::<Int32Type>(rows.iter().map(value), out),
            Values::Long(value) => self.put::<Int64Type>(rows.iter().map(value), out),
            Values::Double(value) => self.put::<DoubleType>(rows.iter().map(value), out),
            Values::Text(value) => {
                self.put::<ByteArrayType>(rows.iter().map(|row| value(row).map(ByteArray::from)), out)
            }
        }
    }

    /// Missing values are told by Parquet's definition levels; a required column has none.
    fn put<T: DataType>(
        &self,
        values: impl Iterator<Item = Option<T::T>>,
        mut out: SerializedColumnWriter,
    ) -> Result<()> {
        let values: Vec<Option<T::T>> = values.collect();
        let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
        let present: Vec<T::T> = values.into_iter().flatten().collect();
        ensure!(!self.required || present.len() == levels.len(), "a row has no {}", self.name);
        out.typed::<T>().write_batch(&present, (!self.required).then_some(&levels), None)?;
        Ok(out.close()?)
    }
}

/// Writes a table.
///
/// # Errors
/// When the file cannot be written, or a row cannot be had.
pub(crate) fn write<R>(file: File, columns: &[Column<R>], mut rows: impl Iterator<Item = Result<R>>) -> Result<()> {
    let fields = columns.iter().map(Column::schema).collect::<Result<_>>()?;
    let schema = Arc::new(Type::group_type_builder("row").with_fields(fields).build()?);
    let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
    let mut writer = SerializedFileWriter::new(file, schema, properties)?;
    loop {
        let group: Vec<R> = rows.by_ref().take(ROW_GROUP).collect::<Result<_>>()?;
        if group.is_empty() {
            break;
        }
        let mut out = writer.next_row_group()?;
        for column in columns {
            column.write(&group, out.next_column()?.context("more columns than the schema has")?)?;
        }
        out.close()?;
    }
    writer.close()?;
    Ok(())
}
