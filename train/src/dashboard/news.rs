//! What is told to those who follow a run: the lines that were added, as they are.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use serde::de::IgnoredAny;

use super::head::Head;
use super::offset::Offset;
use super::run::Run;

/// Bytes that are told at once; whoever is further behind loads the run again.
pub(super) const MOST_BYTES: u64 = 4 << 20;

/// Something new of a run.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// Lines were added.
    Lines(Arc<Added>),
    /// What was read before has gone, in part, or it is too much to tell.
    Rewound,
    /// The row in the table has changed.
    Row(Arc<super::row::Row>),
}

/// Lines that were added to a record.
#[derive(Debug)]
pub(super) struct Added {
    /// Bytes before them.
    pub from: u64,
    /// The place after them.
    pub to: Offset,
    /// `{"offset": .., "lines": [..]}`
    pub json: String,
}

/// Lines between two places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub from: u64,
    pub to: Offset,
}

impl Run {
    /// The lines between two places of its record; none where they are too many.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn lines_in(&self, range: Range) -> io::Result<Option<Added>> {
        let bytes = range.to.bytes.saturating_sub(range.from);
        if bytes > MOST_BYTES {
            return Ok(None);
        }
        let mut text = Vec::with_capacity(bytes as usize);
        if let Some(mut file) = self.record()? {
            file.seek(SeekFrom::Start(range.from))?;
            file.take(bytes).read_to_end(&mut text)?;
        }
        let mut json = format!("{{\"offset\":\"{}\",\"lines\":[", range.to);
        let mut comma = "";
        for line in text.split(|&byte| byte == b'\n') {
            let is_line =
                Head::of(line).is_some() && serde_json::from_slice::<IgnoredAny>(line).is_ok();
            if let (true, Ok(line)) = (is_line, std::str::from_utf8(line)) {
                json += comma;
                // Between JSON's tokens it is a space, and an event's line would end at it.
                json += &line.replace('\r', " ");
                comma = ",";
            }
        }
        json += "]}";
        Ok(Some(Added { from: range.from, to: range.to, json }))
    }
}
