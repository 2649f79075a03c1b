//! What the files of a run hold, in a few characters each: enough to tell whether they changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use burn_deepseek::weights::{SETTINGS_BYTES, open_regular, read_regular};
use serde::{Deserialize, Serialize};

use super::error::DataError;
use super::source::SourceFile;
use super::watch::{Stage, Watch};

/// A file that was changed this shortly before it was read may be changed again without another
/// time of change.
const SETTLED: Duration = Duration::from_secs(2);
/// Between two reports of progress.
const STEP_BYTES: usize = 1 << 20;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePrint {
    /// Where it was.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its content.
    pub blake3: String,
}

/// What the data of a run is made of. Empty for the built-in corpus.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFingerprint {
    /// The files of the source, in order.
    pub source: Vec<FilePrint>,
    /// The files of the validation source, in order.
    pub valid_source: Vec<FilePrint>,
    /// BLAKE3 of the `tokenizer.json` and the token that ends a document; "bytes" without one.
    pub tokenizer: String,
}

impl DataFingerprint {
    /// What is other in `now`, a phrase each. Where the files lie makes no difference.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = changes(&self.source, &now.source);
        changes.extend(self::changes(&self.valid_source, &now.valid_source));
        if self.tokenizer != now.tokenizer {
            changes.push("the tokenizer is another".to_string());
        }
        changes
    }
}

fn changes(before: &[FilePrint], now: &[FilePrint]) -> Vec<String> {
    let content = |prints: &[FilePrint]| -> Vec<String> {
        prints.iter().map(|print| print.blake3.clone()).collect()
    };
    if content(before) == content(now) {
        return Vec::new();
    }
    let mut changes = Vec::new();
    for print in before {
        let path = print.path.display();
        match now.iter().find(|other| other.path == print.path) {
            Some(other) if other.bytes != print.bytes => {
                changes.push(format!("{path} has {} bytes instead of {}", other.bytes, print.bytes))
            }
            Some(other) if other.blake3 != print.blake3 => {
                changes.push(format!("{path} has other content of the same size"));
            }
            Some(_) => {}
            None if now.iter().any(|other| other.blake3 == print.blake3) => {}
            None => changes.push(format!("{path} is not read any more")),
        }
    }
    let known = |other: &&FilePrint| {
        before.iter().any(|print| print.path == other.path || print.blake3 == other.blake3)
    };
    changes.extend(
        now.iter().filter(|other| !known(other)).map(|o| format!("{} is new", o.path.display())),
    );
    if changes.is_empty() {
        changes.push("the files come in another order".to_string());
    }
    changes
}

/// The contents of files that are known by their path, size and time of change, in a folder.
#[derive(Debug)]
pub(super) struct Prints<'a> {
    /// Nothing is remembered without one.
    folder: Option<&'a Path>,
    watch: &'a dyn Watch,
}

/// What is remembered of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    print: FilePrint,
    changed_ns: u128,
}

impl<'a> Prints<'a> {
    pub(super) fn new(folder: Option<&'a Path>, watch: &'a dyn Watch) -> Self {
        Self { folder, watch }
    }

    /// Takes the prints of files. One whose path, size and time of change are known is not read.
    ///
    /// # Errors
    /// [`DataError`] where a file cannot be read.
    pub(super) fn of(&self, files: &[SourceFile]) -> Result<Vec<FilePrint>, DataError> {
        let total = files.iter().map(|file| file.bytes).sum();
        let mut seen: BTreeMap<PathBuf, FilePrint> = BTreeMap::new();
        let mut done = 0;
        let mut prints = Vec::with_capacity(files.len());
        for SourceFile { path, bytes } in files {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let print = match seen.get(&path) {
                Some(print) => print.clone(),
                None => self.of_one(&path, done, total)?,
            };
            done += bytes;
            seen.insert(path, print.clone());
            prints.push(print);
        }
        Ok(prints)
    }

    fn of_one(&self, path: &Path, done: u64, total: u64) -> Result<FilePrint, DataError> {
        let failed = |e| DataError::read(path, e);
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let changed = metadata.modified().unwrap_or(UNIX_EPOCH);
        let changed_ns = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let memory = self.folder.map(|folder| {
            let name = blake3::hash(path.as_os_str().as_encoded_bytes());
            folder.join(format!("{name}.file"))
        });
        let known = memory.as_ref().and_then(|file| {
            let known: Remembered =
                serde_json::from_slice(&read_regular(file, SETTINGS_BYTES).ok()?).ok()?;
            let same = known.print.path == path
                && known.print.bytes == metadata.len()
                && known.changed_ns == changed_ns;
            same.then_some(known.print)
        });
        if let Some(print) = known {
            return Ok(print);
        }
        let settled = SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED);
        let (bytes, blake3) = self.read(path, done, total).map_err(failed)?;
        let print = FilePrint { path: path.to_path_buf(), bytes, blake3 };
        if let Some(file) = memory.filter(|_| settled && bytes == metadata.len()) {
            // It only saves time: where it cannot be written the file is read again.
            let _ = remember(&file, &Remembered { print: print.clone(), changed_ns });
        }
        Ok(print)
    }

    fn read(&self, path: &Path, done: u64, total: u64) -> std::io::Result<(u64, String)> {
        let mut file = open_regular(path)?;
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
        let mut buffer = vec![0; STEP_BYTES];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok((bytes, hasher.finalize().to_string()));
            }
            hasher.update(&buffer[..read]);
            bytes += read as u64;
            self.watch.progress(Stage::Comparing, done + bytes, total);
        }
    }
}

fn remember(path: &Path, remembered: &Remembered) -> std::io::Result<()> {
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    File::create(&partial)?.write_all(&serde_json::to_vec(remembered)?)?;
    std::fs::rename(partial, path)
}

impl std::fmt::Debug for dyn Watch + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::watch::Unwatched;
    use std::fs;

    fn print(path: &str, content: &str) -> FilePrint {
        FilePrint { path: path.into(), bytes: content.len() as u64, blake3: content.into() }
    }

    fn changes(before: &[(&str, &str)], now: &[(&str, &str)]) -> Vec<String> {
        let of = |files: &[(&str, &str)]| DataFingerprint {
            source: files.iter().map(|(path, content)| print(path, content)).collect(),
            ..DataFingerprint::default()
        };
        of(before).changes(&of(now))
    }

    #[test]
    fn changes_say_which_file_and_how() {
        let none: [String; 0] = [];
        assert_eq!(changes(&[("a", "1"), ("b", "2")], &[("a", "1"), ("b", "2")]), none);
        assert_eq!(changes(&[("a", "1")], &[("elsewhere", "1")]), none);
        assert_eq!(changes(&[("a", "1")], &[("a", "123")]), ["a has 3 bytes instead of 1"]);
        assert_eq!(changes(&[("a", "1")], &[("a", "2")]), ["a has other content of the same size"]);
        assert_eq!(changes(&[("a", "1")], &[("b", "2")]), ["a is not read any more", "b is new"]);
        assert_eq!(
            changes(&[("a", "1"), ("b", "2")], &[("b", "2"), ("a", "1")]),
            ["the files come in another order"]
        );
        let bytes = DataFingerprint { tokenizer: "bytes".into(), ..DataFingerprint::default() };
        assert_eq!(bytes.changes(&DataFingerprint::default()), ["the tokenizer is another"]);
    }

    #[test]
    fn a_known_file_is_not_read_again_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let cache = folder.path().join("cache");
        let take = || {
            let files = [SourceFile { path: path.clone(), bytes: 3 }];
            Prints::new(Some(&cache), &Unwatched).of(&files).unwrap().remove(0)
        };
        let set_age = |seconds| {
            let time = SystemTime::now() - Duration::from_secs(seconds);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        fs::write(&path, "one").unwrap();
        set_age(100);
        let first = take();
        assert_eq!(first.blake3, blake3::hash(b"one").to_string());
        // Same size and time: the memory answers.
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(take(), first);
        set_age(50);
        assert_eq!(take().blake3, blake3::hash(b"two").to_string());
        // Changed just now: it may change again within the same tick of the clock.
        fs::write(&path, "six").unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(take().blake3, blake3::hash(b"six").to_string());
        fs::write(&path, "ten").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(take().blake3, blake3::hash(b"ten").to_string());
    }
}
