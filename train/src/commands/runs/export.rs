//! `runs export --out`: lines of a record as a table, a column a key.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::cli::{RecordKind, RunsExportArgs};
use crate::exit::Outcome;
use crate::failure::{Context, Failure, Result, UsageError};
use crate::record::{AlertLine, EvaluationLine, Line, Record, SampleLine, StepLine, SystemLine};
use crate::runs::config_of;
use crate::stdout::write_stdout;

/// Lines that are written at once.
const GROUP: usize = 1000;

/// What a column holds. Rows of layers and experts are JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Whole,
    Number,
    Text,
}

/// Which lines go where.
struct Asked<'a> {
    run: &'a Path,
    kind: RecordKind,
    out: &'a Path,
}

/// Writes the lines of one kind to a file.
pub(super) fn run(args: &RunsExportArgs, out: &Path) -> Result<Outcome> {
    config_of(&args.run.run)?; // says what is wrong with the folder
    let asked = Asked { run: &args.run.run, kind: args.kind, out };
    let ending = out.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let columns = columns(args.kind);
    let written = match ending {
        "csv" => csv(&asked, &columns)?,
        "parquet" => parquet(&asked, &columns)?,
        _ => {
            let problem = format!("--out {}: its name must end in .csv or .parquet", out.display());
            return Err(UsageError(problem).into());
        }
    };
    if !args.run.json {
        write_stdout(&format!(
            "exported    {written} lines with {} columns to {}\n",
            columns.len(),
            out.display()
        ))?;
    }
    Ok(Outcome::done(json!({
        "command": "runs export",
        "run": args.run.run,
        "out": out,
        "lines": written,
        "columns": columns.iter().map(|(name, _)| name).collect::<Vec<_>>(),
    })))
}

/// The columns of a kind: the keys of its lines in their order.
fn columns(kind: RecordKind) -> Vec<(String, Holds)> {
    let line = match kind {
        RecordKind::Step => Line::Step(StepLine::default()),
        RecordKind::Evaluation => Line::Evaluation(EvaluationLine::default()),
        RecordKind::Sample => Line::Sample(SampleLine::default()),
        RecordKind::System => Line::System(SystemLine::default()),
        RecordKind::Alert => Line::Alert(AlertLine::default()),
    };
    let mut columns: Vec<(String, Holds)> = in_order(&line)
        .into_iter()
        .map(|(key, value)| {
            let holds = match value {
                Value::Number(number) if number.is_f64() => Holds::Number,
                Value::Number(_) => Holds::Whole,
                // What may be absent is absent in a line of nothing.
                Value::Null if key.ends_with("_bytes") => Holds::Whole,
                Value::Null => Holds::Number,
                _ => Holds::Text,
            };
            (key, holds)
        })
        .collect();
    columns.retain(|(key, _)| key != "kind");
    columns
}

/// The keys of a line and their values, in the order in which they are written; [`Map`] has them
/// sorted.
fn in_order(line: &Line) -> Vec<(String, Value)> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Vec<(String, Value)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut keys = Vec::new();
            while let Some(entry) = map.next_entry()? {
                keys.push(entry);
            }
            Ok(keys)
        }
    }
    let text = serde_json::to_string(line).unwrap_or_default();
    // A line is an object.
    serde_json::Deserializer::from_str(&text).deserialize_map(Keys).unwrap_or_default()
}

fn object(line: &Line) -> Map<String, Value> {
    match serde_json::to_value(line) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(), // a line is an object
    }
}

fn is_of(kind: RecordKind, line: &Line) -> bool {
    matches!(
        (kind, line),
        (RecordKind::Step, Line::Step(_))
            | (RecordKind::Evaluation, Line::Evaluation(_))
            | (RecordKind::Sample, Line::Sample(_))
            | (RecordKind::Alert, Line::Alert(_))
            | (RecordKind::System, Line::System(_))
    )
}

/// Gives the lines of the kind, some at a time; how many there were.
fn each_group(
    asked: &Asked,
    mut write: impl FnMut(&[Map<String, Value>]) -> Result<()>,
) -> Result<usize> {
    let (mut group, mut count, mut failed) = (Vec::with_capacity(GROUP), 0, Ok(()));
    Record::of_run(asked.run).added(|line| {
        if failed.is_ok() && is_of(asked.kind, &line) {
            group.push(object(&line));
            count += 1;
            if group.len() == GROUP {
                failed = write(&group);
                group.clear();
            }
        }
    })?;
    failed?;
    if !group.is_empty() {
        write(&group)?;
    }
    Ok(count)
}

fn created(out: &Path) -> Result<File> {
    File::create_new(out).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            UsageError(format!("--out {}: is there already", out.display())).into()
        }
        _ => Failure::from(error).context(format!("--out {}", out.display())),
    })
}

/// Text of a value as a cell.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

fn csv(asked: &Asked, columns: &[(String, Holds)]) -> Result<usize> {
    let told = || format!("--out {}", asked.out.display());
    let mut out = csv::Writer::from_writer(BufWriter::new(created(asked.out)?));
    out.write_record(columns.iter().map(|(name, _)| name)).with_context(told)?;
    let count = each_group(asked, |lines| {
        for line in lines {
            let cells = columns.iter().map(|(name, _)| cell(line.get(name)));
            out.write_record(cells).with_context(told)?;
        }
        Ok(())
    })?;
    out.flush().with_context(told)?;
    Ok(count)
}

fn parquet(asked: &Asked, columns: &[(String, Holds)]) -> Result<usize> {
    let told = || format!("--out {}", asked.out.display());
    let fields = columns.iter().map(|(name, holds)| {
        let (physical, logical) = match holds {
            Holds::Whole => (Physical::INT64, None),
            Holds::Number => (Physical::DOUBLE, None),
            Holds::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let field = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()?;
        Ok(Arc::new(field))
    });
    let fields = fields.collect::<Result<Vec<_>, ParquetError>>().with_context(told)?;
    let schema =
        Type::group_type_builder("record").with_fields(fields).build().with_context(told)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let file = BufWriter::new(created(asked.out)?);
    let mut out = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))
        .with_context(told)?;
    let count = each_group(asked, |lines| {
        let mut rows = out.next_row_group().with_context(told)?;
        let mut names = columns.iter().map(|(name, _)| name);
        while let Some(mut column) = rows.next_column().with_context(told)? {
            let name = names.next().map_or("", String::as_str);
            let values: Vec<Option<&Value>> =
                lines.iter().map(|line| line.get(name).filter(|value| !value.is_null())).collect();
            write_column(column.untyped(), &values).with_context(told)?;
            column.close().with_context(told)?;
        }
        rows.close().with_context(told)?;
        Ok(())
    })?;
    out.close().with_context(told)?;
    Ok(count)
}

/// Writes a column of optional values.
fn write_column(out: &mut ColumnWriter, values: &[Option<&Value>]) -> Result<(), ParquetError> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let there = values.iter().flatten();
    match out {
        ColumnWriter::Int64ColumnWriter(out) => {
            let whole: Vec<i64> = there
                .map(|value| value.as_u64().and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX))
                .collect();
            out.write_batch(&whole, Some(&levels), None)?;
        }
        ColumnWriter::DoubleColumnWriter(out) => {
            let numbers: Vec<f64> = there.map(|value| value.as_f64().unwrap_or(f64::NAN)).collect();
            out.write_batch(&numbers, Some(&levels), None)?;
        }
        ColumnWriter::ByteArrayColumnWriter(out) => {
            let text: Vec<ByteArray> =
                there.map(|value| cell(Some(value)).as_str().into()).collect();
            out.write_batch(&text, Some(&levels), None)?;
        }
        _ => return Err(ParquetError::General("a column of a type that no key has".into())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_the_keys_of_a_kind() {
        let columns = columns(RecordKind::Step);
        let holds = |name: &str| columns.iter().find(|(key, _)| key == name).unwrap().1;
        assert_eq!(
            columns[..4].iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
            ["version", "time", "elapsed_seconds", "step"]
        );
        assert_eq!(
            ["step", "loss", "mtp_loss", "exchange_fast_bytes", "expert_loads", "time"].map(holds),
            [Holds::Whole, Holds::Number, Holds::Number, Holds::Whole, Holds::Text, Holds::Text]
        );
    }
}
