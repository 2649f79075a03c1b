//! Columns of strings and of messages, in every compression, and what is refused.

use super::*;
use crate::data::chat::ChatTemplate;
use crate::data::source::BadLines;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::File;
use std::sync::Arc;

/// A file with the columns `id` and `text`, in two groups of rows.
fn written(path: &Path, compression: Compression, texts: &[Option<&str>]) {
    let schema = "message rows { required int64 id; optional binary text (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let file = File::create(path).unwrap();
    let mut file = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for texts in texts.chunks(texts.len().div_ceil(2)) {
        let mut rows = file.next_row_group().unwrap();
        while let Some(mut column) = rows.next_column().unwrap() {
            match column.untyped() {
                ColumnWriter::Int64ColumnWriter(writer) => {
                    let ids: Vec<i64> = (0..texts.len() as i64).collect();
                    writer.write_batch(&ids, None, None).unwrap();
                }
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let levels: Vec<i16> = texts.iter().map(|t| i16::from(t.is_some())).collect();
                    let values: Vec<ByteArray> =
                        texts.iter().flatten().map(|&text| text.into()).collect();
                    writer.write_batch(&values, Some(&levels), None).unwrap();
                }
                _ => unreachable!("of these two types alone"),
            }
            column.close().unwrap();
        }
        rows.close().unwrap();
    }
    file.close().unwrap();
}

fn rows(
    path: &Path,
    field: &str,
    bad_lines: BadLines,
) -> Result<(Vec<String>, PassedOver), String> {
    let reading = Reading { field: field.to_string(), bad_lines, chat: ChatTemplate::default() };
    let (mut documents, mut passed) = (Vec::new(), PassedOver::default());
    read(path, &reading, &mut passed, &mut |part| {
        assert!(part.ends);
        documents.push(part.text.to_string());
        Ok(())
    })
    .map_err(|error| error.to_string().split_once(": ").unwrap().1.to_string())?;
    Ok((documents, passed))
}

#[test]
fn a_column_is_read_in_every_compression() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
    ] {
        written(&path, compression, &[Some("a"), Some(""), Some("b\n"), Some("\u{e9}")]);
        let (documents, passed) = rows(&path, "text", BadLines::Error).unwrap();
        assert_eq!(documents, ["a", "b\n", "\u{e9}"], "{compression:?}");
        assert_eq!(passed, PassedOver { documents: 1, ..PassedOver::default() });
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    written(&path, Compression::SNAPPY, &[Some("a"), None, Some("b")]);
    let error = rows(&path, "text", BadLines::Error).unwrap_err();
    assert!(error.starts_with("row 2: field \"text\" is null; it must be a string"), "{error}");
    let (documents, passed) = rows(&path, "text", BadLines::Skip).unwrap();
    assert_eq!((documents.len(), passed.lines), (2, 1));
    assert_eq!(
        rows(&path, "body", BadLines::Error).unwrap_err(),
        "has no column \"body\"; its columns are \"id\", \"text\" (set data.jsonl_field)"
    );
    let error = rows(&path, "id", BadLines::Error).unwrap_err();
    assert_eq!(error, "column \"id\" is of type INT64; it must hold strings");
    let whole = std::fs::read(&path).unwrap();
    for cut in [8, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = rows(&path, "text", BadLines::Error).unwrap_err();
        assert!(error.starts_with("is a Parquet file that cannot be read: "), "{error}");
    }
}

/// What the Python library writes for a list of messages.
#[test]
fn messages_are_joined() {
    let schema = "message rows { optional group messages (LIST) { repeated group list { \
                  optional group element { optional binary role (UTF8); optional binary content \
                  (UTF8); } } } }";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = File::create(&path).unwrap();
    let mut file = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    for values in [["user", "assistant", "user"], ["Hi", "Ho", "Bye"]] {
        let mut column = group.next_column().unwrap().unwrap();
        if let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() {
            let values = values.map(ByteArray::from);
            // Two messages in the first row, one in the second.
            writer.write_batch(&values, Some(&[4, 4, 4]), Some(&[0, 1, 0])).unwrap();
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
    let (documents, _) = rows(&path, "text", BadLines::Error).unwrap();
    assert_eq!(documents, ["user: Hi\nassistant: Ho\n", "user: Bye\n"]);
}

/// Whatever byte of a file is another one: the library panics at some of them.
#[test]
fn a_damaged_file_is_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    written(&path, Compression::SNAPPY, &[Some("a"), Some("bb"), Some("ccc")]);
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for place in 0..whole.len() {
        for mask in [0x01, 0x40, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] ^= mask;
            std::fs::write(&path, &bytes).unwrap();
            refused += usize::from(rows(&path, "text", BadLines::Error).is_err());
        }
    }
    assert!(refused > 100, "{refused} of {}", 3 * whole.len());
}
