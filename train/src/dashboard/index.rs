//! Where in a run's record which line is: read once, then only what was added.
//!
//! Of each line a few numbers are kept, and its place. So a run of a hundred thousand steps takes
//! some megabytes, and what a page asks for is read from the lines that it is in.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use serde::Deserialize;

use super::head::{Head, Kind};
use super::offset::{Offset, tail_before};
use crate::record::{AlertLevel, RawLines};

/// The longest line that is read: 256 experts in each of 61 layers take some 100 KB.
const LONGEST_LINE: u64 = 16 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 18;

/// A line's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Bytes before it.
    pub at: u64,
    /// Its own, without the end.
    pub length: u32,
    /// The step that it was written after.
    pub step: u64,
}

/// A step's line.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepSpot {
    pub spot: Spot,
    pub loss: f32,
}

/// An evaluation's line.
#[derive(Clone, Copy, Debug)]
pub(super) struct EvaluationSpot {
    pub spot: Spot,
    pub valid_loss: f64,
}

/// An alert's line.
#[derive(Clone, Copy, Debug)]
pub(super) struct AlertSpot {
    pub spot: Spot,
    pub level: AlertLevel,
    pub diverged: bool,
}

/// The lines of a record.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Which file it was.
    file: Option<FileId>,
    /// Bytes read, whole lines.
    bytes: u64,
    /// The last of them.
    tail: Vec<u8>,
    pub steps: Vec<StepSpot>,
    pub evaluations: Vec<EvaluationSpot>,
    pub samples: Vec<Spot>,
    pub alerts: Vec<AlertSpot>,
    pub systems: Vec<Spot>,
    /// Lines that cannot be read.
    pub unreadable: usize,
    /// When the first line was written.
    pub begun: String,
    /// When the last line was written.
    pub updated: String,
}

/// What came of looking at a record again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Whether something of what was read before has gone: the run was resumed from an earlier
    /// step.
    pub rewound: bool,
    /// Bytes from and to which lines were added.
    pub added: (u64, u64),
}

impl Looked {
    /// Whether anything is otherwise than it was.
    pub fn is_news(&self) -> bool {
        self.rewound || self.added.1 > self.added.0
    }
}

/// Which file it is, as far as the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(metadata.dev(), metadata.ino())
    }

    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        let created = metadata.created().ok();
        let since = created.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        Self(since.map_or(0, |since| since.as_nanos() as u64), 0)
    }
}

impl Index {
    /// The place up to which it was read.
    pub fn offset(&self) -> Offset {
        Offset::after(self.bytes, &self.tail)
    }

    /// Reads what was added to the record since; all of it where it is another one than it was.
    /// Without a file there is nothing in it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn look(&mut self, file: Option<File>) -> io::Result<Looked> {
        let had_some = self.bytes > 0;
        let Some(mut file) = file else {
            *self = Self::default();
            return Ok(Looked { rewound: had_some, added: (0, 0) });
        };
        let metadata = file.metadata()?;
        let id = FileId::of(&metadata);
        let same = self.file.is_none_or(|known| known == id) && self.offset().is_in(&mut file)?;
        if !same {
            *self = Self::default();
        }
        self.file = Some(id);
        let mut looked = Looked { rewound: had_some && !same, added: (self.bytes, self.bytes) };
        if metadata.len() > self.bytes {
            file.seek(SeekFrom::Start(self.bytes))?;
            looked.rewound |= self.read(BufReader::with_capacity(READ_BYTES, &mut file))?;
            self.tail = tail_before(&mut file, self.bytes)?;
        }
        looked.added.1 = self.bytes;
        Ok(looked)
    }

    /// Reads whole lines; whether one of them is of a step that had been made before.
    fn read(&mut self, file: BufReader<&mut File>) -> io::Result<bool> {
        let (mut lines, mut went_back) = (RawLines::up_to(LONGEST_LINE, file), false);
        while let Some(line) = lines.next_line()? {
            if !line.is_ended {
                break; // it is being written
            }
            if line.is_too_long {
                self.unreadable += 1;
            } else {
                went_back |= self.take(line.bytes);
            }
            self.bytes += line.length;
        }
        Ok(went_back)
    }

    /// Takes a line into the index; whether steps had to make way for it.
    fn take(&mut self, line: &[u8]) -> bool {
        let Some(head) = Head::of(line) else {
            self.unreadable += 1;
            return false;
        };
        let length = line.len() as u32; // less than LONGEST_LINE
        let spot = Spot { at: self.bytes, length, step: head.step };
        let mut went_back = false;
        match head.kind {
            Kind::Step => {
                went_back = self.steps.last().is_some_and(|last| head.step <= last.spot.step);
                if went_back {
                    self.forget_from(head.step);
                }
                self.steps.push(StepSpot { spot, loss: head.loss as f32 });
            }
            Kind::Evaluation => match serde_json::from_slice::<Evaluated>(line) {
                Ok(Evaluated { valid_loss }) => {
                    let valid_loss = valid_loss.unwrap_or(f64::NAN);
                    self.evaluations.push(EvaluationSpot { spot, valid_loss });
                }
                Err(_) => self.unreadable += 1,
            },
            Kind::Alert => match serde_json::from_slice::<Alerted>(line) {
                Ok(Alerted { level, rule }) => {
                    self.alerts.push(AlertSpot { spot, level, diverged: rule == "diverged" });
                }
                Err(_) => self.unreadable += 1,
            },
            Kind::Sample => self.samples.push(spot),
            Kind::System => self.systems.push(spot),
        }
        if self.begun.is_empty() {
            head.time.clone_into(&mut self.begun);
        }
        head.time.clone_into(&mut self.updated);
        went_back
    }

    /// Forgets lines of a step and of later ones.
    fn forget_from(&mut self, step: u64) {
        self.steps.retain(|line| line.spot.step < step);
        self.evaluations.retain(|line| line.spot.step < step);
        self.samples.retain(|spot| spot.step < step);
        self.alerts.retain(|line| line.spot.step < step);
        self.systems.retain(|spot| spot.step < step);
    }
}

#[derive(Deserialize)]
struct Evaluated {
    valid_loss: Option<f64>,
}

#[derive(Deserialize)]
struct Alerted<'a> {
    level: AlertLevel,
    #[serde(borrow)]
    rule: std::borrow::Cow<'a, str>,
}

/// Reads lines from a record by their places.
pub(super) struct Lines {
    file: File,
    at: u64,
    line: Vec<u8>,
}

impl Lines {
    pub fn new(file: File) -> Self {
        Self { file, at: u64::MAX, line: Vec::new() }
    }

    /// The line at a place.
    ///
    /// # Errors
    /// The file cannot be read, or has become shorter.
    pub fn line(&mut self, spot: Spot) -> io::Result<&[u8]> {
        if self.at != spot.at {
            self.file.seek(SeekFrom::Start(spot.at))?;
        }
        self.at = u64::MAX; // where it fails
        self.line.resize(spot.length as usize + 1, 0);
        self.file.read_exact(&mut self.line)?;
        self.at = spot.at + self.line.len() as u64;
        Ok(&self.line[..spot.length as usize])
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;
    use crate::record::{
        AlertLine, EvaluationLine, Line, METRICS_FILE, SampleLine, Stamp, StepLine, VERSION,
    };

    fn stamp(step: u64) -> Stamp {
        Stamp { version: VERSION, step, time: format!("t{step}"), ..Stamp::default() }
    }

    fn step(number: u64, loss: f64) -> String {
        let line = StepLine { stamp: stamp(number), loss, ..StepLine::default() };
        serde_json::to_string(&Line::Step(line)).unwrap() + "\n"
    }

    fn evaluation(number: u64, valid_loss: f64) -> String {
        let line = EvaluationLine { stamp: stamp(number), valid_loss, ..EvaluationLine::default() };
        serde_json::to_string(&Line::Evaluation(line)).unwrap() + "\n"
    }

    struct Record(tempfile::TempDir, Index);

    impl Record {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap(), Index::default())
        }

        fn path(&self) -> std::path::PathBuf {
            self.0.path().join(METRICS_FILE)
        }

        fn looked(&mut self, text: &str) -> Looked {
            std::fs::write(self.path(), text).unwrap();
            self.look()
        }

        fn look(&mut self) -> Looked {
            self.1.look(File::open(self.path()).ok()).unwrap()
        }

        fn steps(&self) -> Vec<u64> {
            self.1.steps.iter().map(|line| line.spot.step).collect()
        }
    }

    #[test]
    fn what_is_added_is_read_once_and_found_again() {
        let mut record = Record::new();
        assert_eq!(record.look(), Looked::default());
        let first = step(1, 3.0) + &step(2, 2.5) + &evaluation(2, 2.75);
        let next = step(3, 2.25);
        let looked = record.looked(&(first.clone() + &next[..30]));
        assert_eq!(looked, Looked { rewound: false, added: (0, first.len() as u64) });
        let looked = record.looked(&(first.clone() + &next));
        let all = (first.len() + next.len()) as u64;
        assert_eq!(looked, Looked { rewound: false, added: (first.len() as u64, all) });
        assert_eq!(record.look(), Looked { rewound: false, added: (all, all) });
        assert_eq!(record.steps(), [1, 2, 3]);
        let index = &record.1;
        assert_eq!(index.evaluations[0].valid_loss, 2.75);
        assert_eq!((&*index.begun, &*index.updated, index.unreadable), ("t1", "t3", 0));
        let mut lines = Lines::new(File::open(record.path()).unwrap());
        for index in [2, 0, 1, 2] {
            let spot = record.1.steps[index].spot;
            let head = lines.line(spot).map(|line| Head::of(line).unwrap().step).unwrap();
            assert_eq!(head, spot.step);
        }
    }

    /// A run that goes on from an earlier checkpoint gets another file, a shorter one, or one that
    /// has grown again before anybody looked.
    #[test]
    fn a_record_that_was_cut_is_read_anew() {
        let mut record = Record::new();
        let whole: String = (1..=9).map(|number| step(number, 1.0)).collect();
        let half: String = (1..=4).map(|number| step(number, 1.0)).collect();
        let other: String = (5..=20).map(|number| step(number, 7.0)).collect();
        record.looked(&whole);
        assert!(record.looked(&half).rewound);
        assert_eq!(record.steps(), [1, 2, 3, 4]);
        record.looked(&whole);
        assert!(record.looked(&(half + &other)).rewound);
        assert_eq!(record.1.steps[4].loss, 7.0);
        std::fs::remove_file(record.path()).unwrap();
        assert!(record.look().rewound && record.steps().is_empty());
        assert!(!record.look().rewound);
    }

    #[test]
    fn a_step_that_goes_back_takes_the_place_of_what_was() {
        let mut record = Record::new();
        let text = step(1, 1.0) + &step(2, 1.0) + &evaluation(2, 1.0) + &step(3, 1.0);
        record.looked(&text);
        assert!(record.looked(&(text + &step(2, 5.0))).rewound);
        assert_eq!(record.steps(), [1, 2]);
        assert_eq!((record.1.steps[1].loss, record.1.evaluations.len()), (5.0, 0));
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_passed() {
        let mut record = Record::new();
        let long = "x".repeat(LONGEST_LINE as usize + 100);
        let text = format!("{}junk\n\n{long}\n{}", step(1, 1.0), step(2, 1.0));
        record.looked(&text);
        assert_eq!((record.steps(), record.1.unreadable), (vec![1, 2], 3));
        let looked = record.looked(&(text.clone() + &step(3, 1.0)));
        assert_eq!((looked.rewound, looked.added.0), (false, text.len() as u64));
        // One that has no end yet is waited for, and the place after it known again.
        let looked = record.looked(&(text.clone() + &step(3, 1.0) + &long));
        assert_eq!((looked.added.0 == looked.added.1, record.1.unreadable), (true, 3));
        record.looked(&(text.clone() + &step(3, 1.0) + &long + "\n"));
        assert!(!record.look().rewound);
        assert_eq!((record.steps(), record.1.unreadable), (vec![1, 2, 3], 4));
    }

    #[test]
    fn alerts_and_samples_are_found_by_kind() {
        let alert = AlertLine {
            stamp: stamp(1),
            level: AlertLevel::Error,
            rule: "diverged".into(),
            ..AlertLine::default()
        };
        let sample =
            SampleLine { stamp: stamp(1), text: "\"\u{1f}".into(), ..SampleLine::default() };
        let mut text = String::new();
        for line in [Line::Alert(alert), Line::Sample(sample)] {
            writeln!(text, "{}", serde_json::to_string(&line).unwrap()).unwrap();
        }
        let mut record = Record::new();
        record.looked(&text);
        let index = &record.1;
        assert!(index.alerts[0].diverged && index.alerts[0].level == AlertLevel::Error);
        assert_eq!((index.samples.len(), index.unreadable), (1, 0));
    }

    /// Opening a long run is bound by its heads, not by its rows of experts.
    #[test]
    fn a_hundred_thousand_steps_are_indexed_in_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(METRICS_FILE);
        write_long(&path, 100_000);
        let begun = std::time::Instant::now();
        let mut index = Index::default();
        index.look(File::open(&path).ok()).unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        println!("{} MB indexed in {:?}", bytes >> 20, begun.elapsed());
        assert_eq!((index.steps.len(), index.unreadable), (100_000, 0));
        assert!(size_of::<StepSpot>() <= 32);
    }

    fn write_long(path: &Path, steps: u64) {
        let mut line: serde_json::Value = serde_json::from_str(&step(1, 1.0)).unwrap();
        line["expert_loads"] = serde_json::json!(vec![vec![1234; 32]; 4]);
        let text = serde_json::to_string(&line).unwrap();
        let (before, after) = text.split_once("\"step\":1,").unwrap_or_else(|| panic!("{text}"));
        let mut out = io::BufWriter::new(File::create(path).unwrap());
        for number in 1..=steps {
            io::Write::write_fmt(&mut out, format_args!("{before}\"step\":{number},{after}\n"))
                .unwrap();
        }
    }
}
