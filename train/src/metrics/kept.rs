//! Which lines of a log a run goes on with: those up to its checkpoint's step.

use std::fs::OpenOptions;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn_deepseek::weights::open_regular;

use crate::durable::replace_file;
use crate::failure::{Context, Result};
use crate::kill_point;
use crate::record::{Line, RawLine, RawLines, parse_line};

/// What the name of a log ends in that holds what could not be read of another.
const SET_ASIDE: &str = ".set-aside";
/// Broken lines that are told one by one.
const TOLD: usize = 4;

/// Lines that nobody can read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Broken {
    count: usize,
    /// Number, from 1, and problem of the first ones.
    first: Vec<(usize, String)>,
}

/// What a line is to a run that goes on after a step.
#[derive(Debug, PartialEq)]
enum Found {
    /// Of this step, or one before it.
    Before(Box<Line>),
    /// Of a step that will be made again.
    Later,
    /// The beginning of a last line: the program was killed while it wrote.
    CutOff,
    /// Not of this program.
    Broken(String),
}

impl Found {
    /// What a line is.
    fn of(line: &RawLine, step: u64) -> Self {
        match line.text().and_then(parse_line) {
            Ok(line) if line.stamp().step <= step => Self::Before(line.into()),
            Ok(_) => Self::Later,
            Err(_) if !line.is_ended => Self::CutOff,
            Err(problem) => Self::Broken(problem),
        }
    }
}

impl Broken {
    fn add(&mut self, number: usize, problem: String) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push((number, problem));
        }
    }

    /// What is to be told of them, on one line; nothing where there are none.
    pub fn told(&self, log: &Path) -> Option<String> {
        let lines: Vec<String> =
            self.first.iter().map(|(number, problem)| format!("line {number} {problem}")).collect();
        let more = match self.count - lines.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (self.count > 0).then(|| {
            format!(
                "{}: {}{more}: now in {}",
                log.display(),
                lines.join(", "),
                set_aside_of(log).display()
            )
        })
    }
}

fn set_aside_of(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(SET_ASIDE);
    name.into()
}

/// Leaves in the log at `path` what a run needs that goes on after `step`, and gives each line of
/// it. Broken lines are added to a file beside it first, so that nothing is lost whenever the
/// program is killed.
pub(super) fn keep(path: &Path, step: u64, mut each: impl FnMut(Line)) -> Result<Broken> {
    let told = || path.display().to_string();
    let mut broken = Broken::default();
    let (mut changed, mut number, mut offset) = (false, 0, 0);
    // Where broken lines begin, and how long they are.
    let mut places: Vec<(u64, u64)> = Vec::new();
    let found = each_line(path, |line| {
        number += 1;
        match Found::of(line, step) {
            Found::Before(kept) => {
                changed |= !line.is_ended;
                each(*kept);
            }
            Found::Later | Found::CutOff => changed = true,
            Found::Broken(problem) => {
                changed = true;
                broken.add(number, problem);
                places.push((offset, line.length));
            }
        }
        offset += line.length;
        Ok(())
    });
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(broken),
        result => result.with_context(told)?,
    }
    if !places.is_empty() {
        let aside = set_aside_of(path);
        let add = || -> io::Result<()> {
            let mut record = open_regular(path)?;
            let mut file = OpenOptions::new().create(true).append(true).open(&aside)?;
            for (place, length) in places {
                record.seek(SeekFrom::Start(place))?;
                io::copy(&mut (&mut record).take(length), &mut file)?;
            }
            file.sync_all()
        };
        add().with_context(|| format!("{}: cannot write", aside.display()))?;
        kill_point::here();
    }
    if changed {
        replace_file(path, |out| {
            each_line(path, |line| {
                if let Found::Before(_) = Found::of(line, step) {
                    out.write_all(line.bytes)?;
                    out.write_all(b"\n")?;
                }
                Ok(())
            })
        })?;
    }
    Ok(broken)
}

/// Calls for each line of a file.
fn each_line(path: &Path, mut take: impl FnMut(&RawLine) -> io::Result<()>) -> io::Result<()> {
    let mut lines = RawLines::new(BufReader::new(open_regular(path)?));
    while let Some(line) = lines.next_line()? {
        take(&line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EvaluationLine, Stamp, StepLine, VERSION};

    fn written(line: &Line) -> String {
        serde_json::to_string(line).unwrap() + "\n"
    }

    fn stamp(step: u64) -> Stamp {
        Stamp { version: VERSION, step, ..Stamp::default() }
    }

    fn step(number: u64) -> Line {
        Line::Step(StepLine { stamp: stamp(number), ..StepLine::default() })
    }

    /// Steps 1 to 3, with an evaluation after the second.
    fn lines() -> [Line; 4] {
        let evaluation = EvaluationLine { stamp: stamp(2), ..EvaluationLine::default() };
        [step(1), step(2), Line::Evaluation(evaluation), step(3)]
    }

    fn log() -> String {
        lines().iter().map(written).collect()
    }

    /// The file afterwards, the lines that were given, what was broken, what was set aside.
    fn kept(bytes: &[u8], step: u64) -> (Vec<u8>, Vec<Line>, Broken, Option<Vec<u8>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, bytes).unwrap();
        let mut given = Vec::new();
        let broken = keep(&path, step, |line| given.push(line)).unwrap();
        (std::fs::read(&path).unwrap(), given, broken, std::fs::read(set_aside_of(&path)).ok())
    }

    #[test]
    fn lines_up_to_the_checkpoint_are_kept() {
        for (step, count) in [(0, 0), (1, 1), (2, 3), (3, 4), (9, 4)] {
            let (text, given, broken, aside) = kept(log().as_bytes(), step);
            let expected: String = log().split_inclusive('\n').take(count).collect();
            assert_eq!(text, expected.as_bytes(), "{step}");
            assert_eq!((&given[..], broken, aside), (&lines()[..count], Broken::default(), None));
        }
    }

    /// Wherever a line was cut off while it was written, it is dropped, or whole but for its end.
    #[test]
    fn a_last_line_that_was_cut_off_is_no_damage() {
        let log = log();
        // A line's end is the last byte of it that comes.
        let ends: Vec<usize> = log.match_indices('\n').map(|(at, _)| at).collect();
        let near_an_end =
            |length: usize| length < 3 || ends.iter().any(|&end| length.abs_diff(end) < 3);
        for length in (0..log.len()).filter(|&length| length % 89 == 0 || near_an_end(length)) {
            let (text, given, broken, aside) = kept(&log.as_bytes()[..length], 9);
            let count = ends.iter().filter(|&&end| end <= length).count();
            let whole: String = log.split_inclusive('\n').take(count).collect();
            assert_eq!(text, whole.as_bytes(), "{length}");
            assert_eq!(given, lines()[..count], "{length}");
            assert_eq!((broken, aside), (Broken::default(), None));
        }
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_told() {
        let [first, second, _, third] = lines().map(|line| written(&line).into_bytes());
        let lines: [&[u8]; 9] = [
            &first,
            b"{\"version\":2,\"step\":2,\"loss\":\xff}\n",
            b"\n",
            &second,
            b"[1, 2]\n",
            b"{\"step\":2}\n",
            b"\0\0\0\n",
            b"\xc3\x28\n",
            &third,
        ];
        let (text, given, broken, aside) = kept(&lines.concat(), 2);
        assert_eq!(text, [lines[0], lines[3]].concat());
        assert_eq!(given.len(), 2);
        assert_eq!(
            aside.unwrap(),
            [lines[1], lines[2], lines[4], lines[5], lines[6], lines[7]].concat()
        );
        let told = broken.told(Path::new("run/metrics.jsonl")).unwrap();
        assert!(
            told.starts_with("run/metrics.jsonl: line 2 is not UTF-8, line 3 is no JSON object"),
            "{told}"
        );
        assert!(told.contains("line 6 has no version"), "{told}");
        assert!(told.ends_with(" and 2 more: now in run/metrics.jsonl.set-aside"), "{told}");
    }
}
