//! `state.json`: where the run stood and what the checkpoint is made of, with a checksum of itself.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use burn_deepseek::weights::{CONFIG_FILE, SETTINGS_BYTES, open_regular, read_regular};
use serde::{Deserialize, Serialize};

use super::{CheckpointError, DATA_FILE, EMA_PREFIX, RUN_FILE, STATE_FILE, TrainState};
use crate::data::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use crate::learner::OPTIMIZER_FILE;

/// The format of checkpoints that this program writes and reads. 1, which did not say so: moments
/// in F32, schedules in steps, no average. 2: no tokenizer. 3: `state.json` without a checksum.
pub(super) const FORMAT: u32 = 4;

/// What a model's weights can lie in: one file, or shards, which a list of them names.
const WEIGHTS_FILES: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];

/// Between what the checksum is of and the checksum.
const SEAL: &str = ",\n  \"crc32\": ";

/// The format of a checkpoint, whatever else it says.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Format {
    /// The number; the first format had none.
    #[serde(default = "first_format")]
    format: u32,
}

fn first_format() -> u32 {
    1
}

/// Size and checksum of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSum {
    /// Bytes.
    pub bytes: u64,
    /// CRC-32 (IEEE).
    pub crc32: u32,
}

impl FileSum {
    /// Size and checksum of the file at `path`.
    pub fn of(path: &Path) -> Result<Self, CheckpointError> {
        let mut file = open_regular(path).map_err(CheckpointError::io(path, "read"))?;
        let (mut hasher, mut bytes, mut buffer) = (crc32fast::Hasher::new(), 0, vec![0; 1 << 16]);
        loop {
            let read = file.read(&mut buffer).map_err(CheckpointError::io(path, "read"))?;
            if read == 0 {
                return Ok(FileSum { bytes, crc32: hasher.finalize() });
            }
            hasher.update(&buffer[..read]);
            bytes += read as u64;
        }
    }

    /// Checks the file at `path` against it.
    pub fn check(self, path: &Path) -> Result<(), CheckpointError> {
        if !path.is_file() {
            return Err(CheckpointError::damaged(path, "it is missing"));
        }
        let bytes = path.metadata().map_err(CheckpointError::io(path, "read"))?.len();
        if bytes != self.bytes {
            let problem = format!("it has {bytes} bytes instead of {}", self.bytes);
            return Err(CheckpointError::damaged(path, problem));
        }
        if Self::of(path)? != self {
            return Err(CheckpointError::damaged(path, "its checksum differs"));
        }
        Ok(())
    }
}

/// What `state.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// What the checkpoint is made of, by number; see [`FORMAT`].
    pub format: u32,
    /// Where the run stands.
    pub position: TrainState,
    /// Every other file, named from the checkpoint's folder.
    pub files: BTreeMap<String, FileSum>,
}

impl Manifest {
    /// The text of `state.json`: an object whose last key is the CRC-32 of all that comes before
    /// the comma in front of it.
    pub fn to_text(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(sealed(text.strip_suffix("\n}").unwrap_or(&text)))
    }

    /// Reads `state.json` in a checkpoint's folder. Where that has the name of a checkpoint, it is
    /// this one's.
    ///
    /// # Errors
    ///
    /// It is damaged, of another format or of another step, or lists other files than a checkpoint
    /// has.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(STATE_FILE);
        let bytes =
            read_regular(&path, SETTINGS_BYTES).map_err(CheckpointError::io(&path, "read"))?;
        let damaged = |problem: String| CheckpointError::damaged(&path, problem);
        let text = std::str::from_utf8(&bytes).map_err(|e| damaged(e.to_string()))?;
        let body = match text.rfind(SEAL) {
            Some(end) if sealed(&text[..end]) == text => &text[..end],
            Some(_) => return Err(damaged("its checksum of itself differs".into())),
            None => "",
        };
        let Format { format } = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        if format != FORMAT {
            return Err(CheckpointError::Format { path, found: format });
        }
        if body.is_empty() {
            return Err(damaged("its checksum of itself is missing".into()));
        }
        let manifest: Self =
            serde_json::from_str(&format!("{body}\n}}")).map_err(|e| damaged(e.to_string()))?;
        manifest.lists_a_checkpoint().map_err(damaged)?;
        let name = folder.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let step = manifest.position.step;
        if super::step_of_any(&name).is_some_and(|named| named != step) {
            return Err(damaged(format!("it is of step {step}, and its folder is {name}")));
        }
        Ok(manifest)
    }

    /// Whether the list is that of a checkpoint's files; an error says what is wrong.
    fn lists_a_checkpoint(&self) -> Result<(), String> {
        if let Some(name) = self.files.keys().find(|name| !is_plain(name)) {
            return Err(format!("it lists {name:?}, which is no file of a checkpoint"));
        }
        let model = |prefix: &str| -> Result<(), String> {
            let lists = |name: &str| self.files.contains_key(&format!("{prefix}{name}"));
            let missing = |name: &str| format!("its list of files lacks {prefix}{name}");
            for name in [CONFIG_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE] {
                lists(name).then_some(()).ok_or_else(|| missing(name))?;
            }
            let weights = WEIGHTS_FILES.into_iter().any(lists);
            weights.then_some(()).ok_or_else(|| missing(WEIGHTS_FILES[0]))
        };
        model("")?;
        if self.position.ema_steps > 0 {
            model(EMA_PREFIX)?;
        }
        for name in [OPTIMIZER_FILE, RUN_FILE, DATA_FILE] {
            if !self.files.contains_key(name) {
                return Err(format!("its list of files lacks {name}"));
            }
        }
        Ok(())
    }
}

/// A body with its checksum.
fn sealed(body: &str) -> String {
    format!("{body}{SEAL}{}\n}}", crc32fast::hash(body.as_bytes()))
}

/// Whether a name is that of a file in the checkpoint's folder or in that of the average, as this
/// program names files. (Nothing that leads out of them is.)
fn is_plain(name: &str) -> bool {
    let file = name.strip_prefix(EMA_PREFIX).unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&c);
    !file.is_empty() && !file.starts_with('.') && file.chars().all(plain) && name != STATE_FILE
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn manifest() -> Manifest {
        let names = [
            "config.json",
            "data.json",
            "model.safetensors",
            "optimizer.safetensors",
            "run.toml",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        let sum = FileSum { bytes: 3, crc32: 77 };
        let files = names.map(|name| (name.to_string(), sum)).into();
        let position = TrainState {
            step: 40,
            samples: 160,
            tokens: 2560,
            train_seconds: 1.0 / 3.0,
            ema_steps: 0,
        };
        Manifest { format: FORMAT, position, files }
    }

    fn read(text: impl AsRef<[u8]>, folder: &str) -> Result<Manifest, String> {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join(folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(STATE_FILE), text).unwrap();
        Manifest::read(&folder).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        let text = manifest().to_text().unwrap();
        let last = text.lines().nth_back(1).unwrap();
        let body = &text[..text.rfind(",\n  \"crc32\"").unwrap()];
        assert_eq!(last, format!("  \"crc32\": {}", crc32fast::hash(body.as_bytes())));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["position"]["step"], 40);
        for folder in ["step-00000040", "step-00000040.set-aside", "copied", "step-41"] {
            assert_eq!(read(&text, folder).unwrap(), manifest(), "{folder}");
        }
    }

    /// All of them, and each byte cut off.
    #[test]
    fn every_bit_that_flips_is_noticed() {
        let text = manifest().to_text().unwrap().into_bytes();
        for bit in 0..8 * text.len() {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = read(&flipped, "step-00000040").unwrap_err();
            assert!(error.contains("state.json: "), "bit {bit}: {error}");
        }
        for length in 0..text.len() {
            assert!(read(&text[..length], "step-00000040").is_err(), "{length}");
        }
    }

    #[test]
    fn a_list_that_is_no_checkpoints_is_refused() {
        let problem = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            read(manifest.to_text().unwrap(), "step-00000040").unwrap_err()
        };
        let sum = FileSum { bytes: 3, crc32: 77 };
        for name in ["../../x", "/etc/passwd", "a/b", "ema/../x", ".hidden", "", "ema/", "a\\b"] {
            let error = problem(&|manifest| _ = manifest.files.insert(name.into(), sum));
            assert!(error.contains(&format!("it lists {name:?}, which is no file")), "{error}");
        }
        let error = problem(&|manifest| manifest.files.clear());
        assert!(error.contains("its list of files lacks config.json"), "{error}");
        for name in manifest().files.keys() {
            let error = problem(&|manifest| _ = manifest.files.remove(name));
            assert!(error.contains(&format!("its list of files lacks {name}")), "{error}");
        }
        let error = problem(&|manifest| manifest.position.ema_steps = 1);
        assert!(error.contains("lacks ema/config.json"), "{error}");
        let error = problem(&|manifest| manifest.position.step = 41);
        assert!(error.contains("it is of step 41, and its folder is step-00000040"), "{error}");
    }

    /// Other formats are told apart from damage, with a checksum or, as the first ones, without.
    #[test]
    fn other_formats_are_named() {
        let other = Manifest { format: 5, ..manifest() };
        let error = read(other.to_text().unwrap(), "step-00000040").unwrap_err();
        assert!(error.contains("a checkpoint of format 5; this version reads format 4"), "{error}");
        for (text, found) in [("{}", "format 1"), ("{\"format\": 3, \"files\": {}}", "format 3")] {
            assert!(read(text, "copied").unwrap_err().contains(found));
        }
        let unsealed = serde_json::to_string_pretty(&manifest()).unwrap();
        let error = read(unsealed, "copied").unwrap_err();
        assert!(error.contains("damaged: its checksum of itself is missing"), "{error}");
    }
}
