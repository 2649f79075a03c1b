//! Reads a column of a Parquet file as a document a row: a column of strings, or of messages.

use std::path::Path;

use burn_deepseek::weights::open_regular;
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::json::hand_over;
use super::record::{MESSAGES, Text, text_of};
use super::{PassedOver, Reading, Sink};
use crate::data::contained::contained;
use crate::data::error::DataError;

/// What reads the files.
const LIBRARY: &str = "parquet";

/// Hands over the documents of a file.
pub(super) fn read(
    path: &Path,
    reading: &Reading,
    passed: &mut PassedOver,
    sink: &mut Sink<'_>,
) -> Result<(), DataError> {
    let failed = |error: ParquetError| DataError::Foreign {
        path: path.to_path_buf(),
        message: format!("is a Parquet file that cannot be read: {error}"),
    };
    let file = open_regular(path).map_err(|e| DataError::read(path, e))?;
    let broken = |message| DataError::Foreign { path: path.to_path_buf(), message };
    let file = contained(LIBRARY, || SerializedFileReader::new(file)).map_err(broken)?;
    let file = file.map_err(failed)?;
    let schema = file.metadata().file_metadata().schema();
    let column = column(schema, reading).map_err(broken)?;
    let projection = Type::group_type_builder(schema.name())
        .with_fields(vec![column.clone()])
        .build()
        .map_err(failed)?;
    let rows = contained(LIBRARY, || file.get_row_iter(Some(projection))).map_err(broken)?;
    let mut rows = rows.map_err(failed)?;
    for number in 1_usize.. {
        let Some(row) = contained(LIBRARY, || rows.next()).map_err(broken)? else { break };
        let row = row.map_err(failed)?;
        let document = match row.get_column_iter().next() {
            Some((_, Field::Str(text))) => Ok(text.clone().into()),
            Some((_, Field::Bytes(bytes))) => String::from_utf8(bytes.data().to_vec())
                .map(Text::from)
                .map_err(|error| format!("column \"{}\": {error}", column.name())),
            Some((name, field)) => text_of(
                Value::Object([(name.clone(), field.to_json_value())].into_iter().collect()),
                reading,
            ),
            None => Err("has no column".to_string()),
        };
        hand_over(document, path, || format!("row {number}"), reading, passed, sink)?;
    }
    Ok(())
}

/// The column that holds the documents.
fn column(schema: &Type, reading: &Reading) -> Result<TypePtr, String> {
    let columns = schema.get_fields();
    let named = |name: &str| columns.iter().find(|column| column.name() == name);
    let Some(column) = named(&reading.field).or_else(|| named(MESSAGES)) else {
        let names: Vec<String> = columns.iter().map(|c| format!("\"{}\"", c.name())).collect();
        return Err(format!(
            "has no column \"{}\"; its columns are {} (set data.jsonl_field)",
            reading.field,
            names.join(", ")
        ));
    };
    // Bytes may be text: each row is checked.
    if column.is_primitive() && column.get_physical_type() != PhysicalType::BYTE_ARRAY {
        return Err(format!(
            "column \"{}\" is of type {}; it must hold strings",
            column.name(),
            column.get_physical_type()
        ));
    }
    Ok(column.clone())
}

#[cfg(test)]
mod tests;
