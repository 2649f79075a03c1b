//! Which files of a folder are its weights.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::index::ShardIndex;
use super::{INDEX_FILE, WEIGHTS_FILE, WeightsError};

/// What the name of a safetensors file ends with.
const SUFFIX: &str = ".safetensors";
/// Missing shards that an error names.
const NAMED: usize = 10;

/// The files of a checkpoint.
#[derive(Debug)]
pub(super) struct WeightFiles {
    /// Each file, in order.
    pub files: Vec<PathBuf>,
    /// What says which tensor is where, if anything does.
    pub index: Option<ShardIndex>,
}

impl WeightFiles {
    /// The files of what `path` is: a safetensors file, an index of shards, or a folder with a
    /// single file, an index, or safetensors files alone; the first of these counts.
    ///
    /// # Errors
    ///
    /// Nothing of the kind there, an index that makes no sense, or shards that are missing.
    pub fn find(path: &Path) -> Result<Self, WeightsError> {
        if !path.is_dir() {
            return match path.extension() {
                _ if !path.exists() => Err(WeightsError::NotFound { path: path.to_path_buf() }),
                Some(extension) if extension == "json" => Self::indexed(path),
                _ => Ok(Self { files: vec![path.to_path_buf()], index: None }),
            };
        }
        let (weights, index) = (path.join(WEIGHTS_FILE), path.join(INDEX_FILE));
        if weights.exists() {
            Ok(Self { files: vec![weights], index: None })
        } else if index.exists() {
            Self::indexed(&index)
        } else {
            Self::unindexed(path)
        }
    }

    fn indexed(path: &Path) -> Result<Self, WeightsError> {
        let index = ShardIndex::read(path)?;
        let beside = |shard: &str| path.with_file_name(shard);
        let files = index.shards().into_iter().map(beside).collect();
        let absent: Vec<&str> =
            index.shards().into_iter().filter(|shard| !beside(shard).exists()).collect();
        if absent.is_empty() {
            return Ok(Self { files, index: Some(index) });
        }
        Err(missing(path, absent.iter().map(ToString::to_string), absent.len() as u64))
    }

    /// All safetensors files of a folder. Names like `model-00002-of-00004.safetensors` say how
    /// many there must be.
    fn unindexed(path: &Path) -> Result<Self, WeightsError> {
        let read_error = |source| WeightsError::Read { path: path.to_path_buf(), source };
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(path).map_err(read_error)? {
            let name = entry.map_err(read_error)?.file_name().to_string_lossy().into_owned();
            if name.ends_with(SUFFIX) && path.join(&name).is_file() {
                names.insert(name);
            }
        }
        if names.is_empty() {
            return Err(WeightsError::NotFound { path: path.to_path_buf() });
        }
        let mut sets: BTreeMap<(&str, &str), BTreeSet<u64>> = BTreeMap::new();
        for Numbered { stem, number, count } in names.iter().filter_map(|name| numbered(name)) {
            sets.entry((stem, count)).or_default().insert(number);
        }
        for ((stem, count), numbers) in sets {
            let first = u64::from(!numbers.contains(&0));
            let end = first + count.parse::<u64>().unwrap_or(0);
            let there = numbers.range(first..end.max(first)).count() as u64;
            let absent = (first..end).filter(|number| !numbers.contains(number));
            if there < end - first {
                let width = count.len();
                let absent =
                    absent.map(|number| format!("{stem}-{number:0width$}-of-{count}{SUFFIX}"));
                return Err(missing(path, absent, end - first - there));
            }
        }
        Ok(Self { files: names.iter().map(|name| path.join(name)).collect(), index: None })
    }
}

/// The shards that are not there, the first of them named: a file's name may claim any number.
fn missing(path: &Path, shards: impl Iterator<Item = String>, count: u64) -> WeightsError {
    let shards: Vec<String> = shards.take(NAMED).collect();
    let more = count - shards.len() as u64;
    WeightsError::MissingShards { path: path.to_path_buf(), shards, more }
}

/// A shard's place among the others, as its name has it.
struct Numbered<'a> {
    stem: &'a str,
    number: u64,
    count: &'a str,
}

/// Reads `{stem}-{number}-of-{count}.safetensors`.
fn numbered(name: &str) -> Option<Numbered<'_>> {
    let (rest, count) = name.strip_suffix(SUFFIX)?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    count.parse::<u32>().ok()?;
    Some(Numbered { stem, number: number.parse::<u32>().ok()?.into(), count })
}
