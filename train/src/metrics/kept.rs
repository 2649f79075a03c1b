//! Which lines of a log a run goes on with: those up to its checkpoint's step.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use burn_deepseek::weights::open_regular;
use serde::Deserialize;
use serde_json::Value;

use crate::durable::replace_file;
use crate::failure::{Context, Result};
use crate::kill_point;

/// What the name of a log ends in that holds what could not be read of another.
const SET_ASIDE: &str = ".set-aside";
/// Broken lines that are told one by one.
const TOLD: usize = 4;

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The last step with an evaluation.
    pub evaluated: Option<u64>,
    /// What was not.
    pub broken: Broken,
}

/// Lines that nobody can read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Broken {
    count: usize,
    /// Number, from 1, and problem of the first ones.
    first: Vec<(usize, &'static str)>,
}

/// What a line is to a run that goes on after a step.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// Of this step, or one before it; of an evaluation or not.
    Before { step: u64, evaluation: bool },
    /// Of a step that will be made again.
    Later,
    /// The beginning of a last line: the program was killed while it wrote.
    CutOff,
    /// Not of this program.
    Broken(&'static str),
}

impl Line {
    /// What the bytes of a line are, `whole` with its end.
    fn of(bytes: &[u8], step: u64) -> Self {
        /// All that decides.
        #[derive(Deserialize)]
        struct Head {
            step: u64,
            #[serde(default)]
            valid: Option<serde::de::IgnoredAny>,
        }
        let (text, whole) = match bytes.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (bytes, false),
        };
        let head = match std::str::from_utf8(text) {
            Err(_) => Err("is not UTF-8"),
            // An array would do for a struct, too.
            Ok(text) if text.starts_with('{') => serde_json::from_str::<Head>(text).map_err(|_| {
                match serde_json::from_str::<Value>(text) {
                    Ok(_) => "has no step",
                    Err(_) => "is not JSON",
                }
            }),
            Ok(_) => Err("is no JSON object"),
        };
        match head {
            Ok(head) if head.step <= step => {
                Self::Before { step: head.step, evaluation: head.valid.is_some() }
            }
            Ok(_) => Self::Later,
            Err(_) if !whole => Self::CutOff,
            Err(problem) => Self::Broken(problem),
        }
    }
}

impl Broken {
    fn add(&mut self, number: usize, problem: &'static str) {
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

/// Leaves in the log at `path` what a run needs that goes on after `step`. Broken lines are added
/// to a file beside it first, so that nothing is lost whenever the program is killed.
pub(super) fn keep(path: &Path, step: u64) -> Result<Kept> {
    let told = || path.display().to_string();
    let mut kept = Kept::default();
    let (mut changed, mut broken_bytes) = (false, Vec::new());
    let found = each_line(path, |number, bytes| {
        match Line::of(bytes, step) {
            Line::Before { step, evaluation } => {
                changed |= !bytes.ends_with(b"\n");
                if evaluation {
                    kept.evaluated = Some(step);
                }
            }
            Line::Later | Line::CutOff => changed = true,
            Line::Broken(problem) => {
                changed = true;
                kept.broken.add(number, problem);
                broken_bytes.extend_from_slice(bytes);
            }
        }
        Ok(())
    });
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(kept),
        result => result.with_context(told)?,
    }
    if !broken_bytes.is_empty() {
        let aside = set_aside_of(path);
        let add = || -> io::Result<()> {
            let mut file = OpenOptions::new().create(true).append(true).open(&aside)?;
            file.write_all(&broken_bytes)?;
            file.sync_all()
        };
        add().with_context(|| format!("{}: cannot write", aside.display()))?;
        kill_point::here();
    }
    if changed {
        replace_file(path, |out| {
            each_line(path, |_, bytes| {
                if let Line::Before { .. } = Line::of(bytes, step) {
                    out.write_all(bytes.strip_suffix(b"\n").unwrap_or(bytes))?;
                    out.write_all(b"\n")?;
                }
                Ok(())
            })
        })?;
    }
    Ok(kept)
}

/// Calls for each line of a file, with its number from 1 and its end where it has one.
fn each_line(path: &Path, mut take: impl FnMut(usize, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut reader = BufReader::new(open_regular(path)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        take(number, &line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "{\"loss\":1.5,\"step\":1}\n{\"step\":2}\n{\"perplexity\":3.0,\"step\":2,\
                       \"valid\":{\"loss\":1.25}}\n{\"step\":3}\n";

    fn kept(bytes: &[u8], step: u64) -> (Vec<u8>, Kept, Option<Vec<u8>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, bytes).unwrap();
        let kept = keep(&path, step).unwrap();
        (std::fs::read(&path).unwrap(), kept, std::fs::read(set_aside_of(&path)).ok())
    }

    #[test]
    fn lines_up_to_the_checkpoint_are_kept() {
        for (step, lines, evaluated) in
            [(0, 0, None), (1, 1, None), (2, 3, Some(2)), (3, 4, Some(2)), (9, 4, Some(2))]
        {
            let (text, kept, aside) = kept(LOG.as_bytes(), step);
            let expected: String = LOG.split_inclusive('\n').take(lines).collect();
            assert_eq!(text, expected.as_bytes(), "{step}");
            assert_eq!((kept.evaluated, kept.broken, aside), (evaluated, Broken::default(), None));
        }
    }

    /// Wherever a line was cut off while it was written, it is dropped, or whole but for its end.
    #[test]
    fn a_last_line_that_was_cut_off_is_no_damage() {
        for length in 0..LOG.len() {
            let (text, kept, aside) = kept(&LOG.as_bytes()[..length], 9);
            // A line's end is the last byte of it that comes.
            let ends: Vec<usize> = LOG.match_indices('\n').map(|(at, _)| at).collect();
            let lines = ends.iter().filter(|&&end| end <= length).count();
            let whole: String = LOG.split_inclusive('\n').take(lines).collect();
            assert_eq!(text, whole.as_bytes(), "{length}");
            assert_eq!(kept.evaluated, (lines >= 3).then_some(2), "{length}");
            assert_eq!((kept.broken, aside), (Broken::default(), None));
        }
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_told() {
        let lines: [&[u8]; 9] = [
            b"{\"step\":1}\n",
            b"{\"step\":2,\"loss\":\xff}\n",
            b"\n",
            b"{\"step\":2}\n",
            b"[1, 2]\n",
            b"{\"valid\":{}}\n",
            b"\0\0\0\n",
            b"\xc3\x28\n",
            b"{\"step\":3}\n",
        ];
        let (text, kept, aside) = kept(&lines.concat(), 2);
        assert_eq!(text, [lines[0], lines[3]].concat());
        assert_eq!(
            aside.unwrap(),
            [lines[1], lines[2], lines[4], lines[5], lines[6], lines[7]].concat()
        );
        assert_eq!(
            kept.broken.told(Path::new("run/metrics.jsonl")).unwrap(),
            "run/metrics.jsonl: line 2 is not UTF-8, line 3 is no JSON object, line 5 is no JSON \
             object, line 6 has no step and 2 more: now in run/metrics.jsonl.set-aside"
        );
    }
}
