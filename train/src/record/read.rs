//! Reading a record: whole, or what was added since.

use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn_deepseek::weights::open_regular;
use serde::Deserialize;

use super::lines::{LONGEST_LINE, RawLines};
use super::{Line, METRICS_FILE, VERSION};
use crate::failure::{Blame, Blamed, of_reading};

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The record.
        path: PathBuf,
        /// What was wrong.
        source: io::Error,
    },
    /// A line is none of a record's.
    #[error("{path}: line {line}: {problem}", path = path.display())]
    Line {
        /// The record.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// A record of another program was given; a disk that fails is nobody's.
impl Blamed for RecordError {
    fn blame(&self) -> Blame {
        match self {
            Self::Read { source, .. } => of_reading(source),
            Self::Line { .. } => Blame::User,
        }
    }
}

/// A line from its text.
///
/// # Errors
/// What is wrong: no JSON object, of another version, or without a key that its kind has.
pub fn parse_line(text: &str) -> Result<Line, String> {
    #[derive(Deserialize)]
    struct Head {
        version: Option<u32>,
    }
    let wrong = |error: serde_json::Error| {
        // A place in a line says little without the line.
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
        format!("is no line of a record ({text})")
    };
    if !text.starts_with('{') {
        return Err("is no JSON object".into()); // an array would do for a struct, too
    }
    let Head { version } = serde_json::from_str(text).map_err(wrong)?;
    match version {
        Some(VERSION) => serde_json::from_str(text).map_err(wrong),
        Some(version) => {
            Err(format!("is of version {version}, and this program reads version {VERSION}"))
        }
        None => Err(format!(
            "has no version: the run was recorded by a program that did not write one; this one \
             reads version {VERSION}"
        )),
    }
}

/// A record that is read as it grows.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    /// Bytes read so far, whole lines.
    offset: u64,
    /// Lines read so far.
    lines: usize,
    /// Bytes of a line at most.
    longest: u64,
}

impl Record {
    /// The record in a run's folder, of which nothing has been read. It need not be there yet.
    pub fn of_run(folder: &Path) -> Self {
        Self { path: folder.join(METRICS_FILE), offset: 0, lines: 0, longest: LONGEST_LINE }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the file is shorter than what was read of it: a run was resumed from before its end,
    /// and what was read is to be forgotten.
    pub fn was_cut(&self) -> bool {
        std::fs::metadata(&self.path).map_or(0, |found| found.len()) < self.offset
    }

    /// The lines that were added since the last call. A last line without its end is being written:
    /// it is left for the next call.
    ///
    /// # Errors
    /// A file that cannot be read; none at all is an empty one. A line that is none of a record's:
    /// the next call begins after it.
    pub fn added(&mut self, mut each: impl FnMut(Line)) -> Result<(), RecordError> {
        let read = |source| RecordError::Read { path: self.path.clone(), source };
        let mut file = match open_regular(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(read)?,
        };
        file.seek(SeekFrom::Start(self.offset)).map_err(read)?;
        let mut lines = RawLines::up_to(self.longest, BufReader::new(file));
        while let Some(line) = lines.next_line().map_err(read)? {
            if !line.is_ended && !line.is_too_long {
                break;
            }
            let parsed = line.text().and_then(parse_line).map_err(|problem| RecordError::Line {
                path: self.path.clone(),
                line: self.lines + 1,
                problem,
            });
            self.offset += line.length;
            self.lines += 1;
            each(parsed?);
        }
        Ok(())
    }

    /// The lines of a run's record that can be read; how many cannot.
    ///
    /// # Errors
    /// [`RecordError::Read`].
    pub fn readable(folder: &Path, mut each: impl FnMut(Line)) -> Result<usize, RecordError> {
        let (mut record, mut unreadable) = (Self::of_run(folder), 0);
        loop {
            match record.added(&mut each) {
                Err(RecordError::Line { .. }) => unreadable += 1,
                read => return read.map(|()| unreadable),
            }
        }
    }

    /// All lines of a run's record.
    ///
    /// # Errors
    /// As [`added`](Self::added).
    pub fn read(folder: &Path) -> Result<Vec<Line>, RecordError> {
        let mut lines = Vec::new();
        Self::of_run(folder).added(|line| lines.push(line))?;
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::super::{Stamp, StepLine};
    use super::*;

    fn step(number: u64, loss: f64) -> Line {
        let stamp = Stamp { version: VERSION, step: number, ..Stamp::default() };
        Line::Step(StepLine { stamp, loss, ..StepLine::default() })
    }

    #[test]
    fn a_growing_file_is_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::of_run(folder.path());
        let mut found = Vec::new();
        record.added(|line| found.push(line)).unwrap();
        assert_eq!(found, []);
        let mut file = File::create(folder.path().join(METRICS_FILE)).unwrap();
        let text = serde_json::to_string(&step(1, 2.5)).unwrap();
        write!(file, "{text}\n{}", &text[..20]).unwrap();
        record.added(|line| found.push(line)).unwrap();
        assert_eq!(found, [step(1, 2.5)]);
        writeln!(file, "{}", &text[20..]).unwrap();
        record.added(|line| found.push(line)).unwrap();
        assert_eq!(found, [step(1, 2.5), step(1, 2.5)]);
        assert!(!record.was_cut());
        File::create(folder.path().join(METRICS_FILE)).unwrap();
        assert!(record.was_cut());
    }

    #[test]
    fn numbers_that_are_not_finite_are_null_and_nan() {
        let text = serde_json::to_string(&step(1, f64::INFINITY)).unwrap();
        assert!(text.starts_with(r#"{"kind":"step","version":2,"#), "{text}");
        assert!(text.contains(r#""loss":null"#), "{text}");
        let Line::Step(step) = parse_line(&text).unwrap() else { panic!("{text}") };
        assert!(step.loss.is_nan());
    }

    #[test]
    fn what_is_no_line_is_refused_by_what_it_is() {
        for (text, problem) in [
            ("{\"step\": 1}", "has no version"),
            ("{\"version\": 1, \"kind\": \"step\"}", "version 1, and this program reads version 2"),
            ("{\"version\": 2, \"kind\": \"dream\"}", "unknown variant `dream`"),
            ("{\"version\": 2, \"kind\": \"step\"}", "missing field"),
            ("[1]", "no JSON object"),
            ("", "no JSON object"),
            ("{\"version\": ", "no line of a record (EOF while parsing a value)"),
        ] {
            let refused = parse_line(text).unwrap_err();
            assert!(refused.contains(problem), "{text}: {refused}");
        }
        let folder = tempfile::tempdir().unwrap();
        let good = serde_json::to_string(&step(7, 1.0)).unwrap();
        std::fs::write(folder.path().join(METRICS_FILE), format!("{good}\n\u{7f}\n{good}\n"))
            .unwrap();
        let mut record = Record::of_run(folder.path());
        let mut found = Vec::new();
        let error = record.added(|line| found.push(line)).unwrap_err();
        assert!(error.to_string().contains("metrics.jsonl: line 2: "), "{error}");
        record.added(|line| found.push(line)).unwrap();
        assert_eq!(found.len(), 2, "the next call begins after it");
        let mut readable = 0;
        assert_eq!(Record::readable(folder.path(), |_| readable += 1).unwrap(), 1);
        assert_eq!(readable, 2);
    }

    /// A line without end is one at fault, and is passed once.
    #[test]
    fn a_line_that_is_too_long_is_passed() {
        let folder = tempfile::tempdir().unwrap();
        let good = serde_json::to_string(&step(7, 1.0)).unwrap();
        let path = folder.path().join(METRICS_FILE);
        std::fs::write(&path, format!("{good}\n{}\n{good}\n", "x".repeat(5000))).unwrap();
        let mut record = Record { longest: 2000, ..Record::of_run(folder.path()) };
        let mut found = Vec::new();
        let error = record.added(|line| found.push(line)).unwrap_err();
        assert!(error.to_string().contains("line 2: is longer than any"), "{error}");
        record.added(|line| found.push(line)).unwrap();
        assert_eq!((found.len(), record.lines), (2, 3));
        assert_eq!(record.offset(), std::fs::metadata(&path).unwrap().len());
    }
}
