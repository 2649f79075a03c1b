//! Files of text: JSON lines, arrays, Parquet, and what is compressed.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use deepseek_train::data::{BadLines, DataConfig, SourceConfig};
use deepseek_train::failure::line_of;
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::prepared::tiny;
use super::{Kind, words};
use crate::mutation::Form;

const LINES: [&str; 2] = [
    "{\"text\": \"Once upon a time there was a stone in the river.\", \"id\": 1}\n\
     {\"text\": \"It lay there for a thousand years, and nobody knew.\\n\", \"meta\": {\"a\": [1, null]}}\n\
     \n{\"text\": \"\\u00e9\\ud83d\\ude00 and so on, until the words end.\"}\n",
    "{\"messages\": [{\"role\": \"user\", \"content\": \"What lies in the river there?\"}, {\"role\": \
     \"assistant\", \"content\": \"A stone, as far as anybody knows.\"}]}\n{\"text\": \"and another, longer one\"}\n",
];
const ARRAYS: [&str; 2] = [
    "[{\"text\": \"Once upon a time there was a stone.\"},\n {\"text\": \"It lay there for a thousand years.\"}]",
    "[\"Once upon a time there was a stone in the river.\", \"It lay there for a thousand years.\"]",
];

/// The kinds.
pub fn kinds() -> Vec<Kind> {
    /// A kind whose file has a name.
    macro_rules! kind {
        ($name:literal, $share:literal, $form:expr, $file:literal, $seeds:expr) => {
            Kind {
                name: $name,
                share: $share,
                form: $form,
                seeds: $seeds,
                file: Some($file),
                furnish: tiny,
                arguments: |place, _| {
                    words(
                        place,
                        concat!(
                            "train --config @tiny.toml --steps 1 --run-dir @run --data @",
                            $file
                        ),
                    )
                },
                call: Some(|place| opened(&place.join($file))),
            }
        };
    }
    vec![
        kind!("lines", 100, Form::Text, "input.jsonl", |_| texts(&LINES)),
        kind!("array", 40, Form::Text, "input.json", |_| texts(&ARRAYS)),
        kind!("parquet", 60, Form::Bytes, "input.parquet", |_| parquet_files()),
        kind!("gzip", 30, Form::Gzip, "input.jsonl.gz", |_| {
            LINES
                .iter()
                .map(|lines| {
                    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                    encoder.write_all(lines.as_bytes())?;
                    Ok(encoder.finish()?)
                })
                .collect()
        }),
        kind!("zstandard", 30, Form::Zstandard, "input.jsonl.zst", |_| {
            LINES.iter().map(|lines| Ok(zstd::encode_all(lines.as_bytes(), 3)?)).collect()
        }),
    ]
}

fn texts(texts: &[&str]) -> Result<Vec<Vec<u8>>> {
    Ok(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

/// Opens a file as a run does; bad lines are passed over in every other.
fn opened(path: &Path) -> Option<String> {
    let skips = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() % 2 == 0);
    let config = DataConfig {
        source: SourceConfig::Paths(vec![path.to_owned().into()]),
        bad_lines: if skips { BadLines::Skip } else { BadLines::Error },
        ..DataConfig::default()
    };
    config.open(16, 260).err().map(|error| line_of(&error.into()))
}

/// A column of strings and one of numbers, in every compression.
fn parquet_files() -> Result<Vec<Vec<u8>>> {
    let codecs = [
        Codec::UNCOMPRESSED,
        Codec::SNAPPY,
        Codec::GZIP(GzipLevel::default()),
        Codec::ZSTD(ZstdLevel::default()),
        Codec::LZ4_RAW,
    ];
    codecs.into_iter().map(parquet_file).collect()
}

fn parquet_file(codec: Codec) -> Result<Vec<u8>> {
    let schema = "message rows { required int64 id; optional binary text (UTF8); }";
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(
        &mut bytes,
        Arc::new(parse_message_type(schema)?),
        Arc::new(properties),
    )?;
    for group in 0..2 {
        let mut rows = file.next_row_group()?;
        let mut columns = 0;
        while let Some(mut column) = rows.next_column()? {
            columns += 1;
            match column.untyped() {
                ColumnWriter::Int64ColumnWriter(writer) => {
                    writer.write_batch(&[group, 2], None, None)?;
                }
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let texts = ["Once upon a time there was a stone.", "It lay in the river."];
                    writer.write_batch(&texts.map(ByteArray::from), Some(&[1, 1]), None)?;
                }
                _ => {}
            }
            column.close()?;
        }
        (columns == 2).then_some(()).context("two columns")?;
        rows.close()?;
    }
    file.close()?;
    Ok(bytes)
}
