//! `timeline.json` in a run's folder: what the ranks of a run over several did in a step, and what
//! was to be expected of the same schedule.

use std::io;
use std::path::Path;

use burn_deepseek::weights::{SETTINGS_BYTES, read_regular};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name of the file in a run's folder.
pub const TIMELINE_FILE: &str = "timeline.json";

/// The version of the file that this program writes, and the only one that it reads.
pub const TIMELINE_VERSION: u32 = 1;

/// A measured step, and the same schedule simulated with what its actions cost in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timelines {
    /// Version of the file.
    pub version: u32,
    /// The step, from 1.
    pub step: u64,
    /// What was measured.
    pub measured: Timeline,
    /// What was to be expected.
    pub simulated: Timeline,
}

/// Ranks side by side; times count from the start of the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// What it is.
    pub title: String,
    /// When the last rank was done, microseconds.
    pub total_us: f64,
    /// The ranks, in order.
    pub ranks: Vec<Lane>,
}

/// What a rank did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// The rank's number and device.
    pub name: String,
    /// Microseconds in which it computed.
    pub busy_us: f64,
    /// Microseconds in which it did not, until the last rank was done.
    pub idle_us: f64,
    /// What it did, in order.
    pub slices: Vec<Slice>,
}

/// Something that a rank did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// As a drawing has it.
    pub name: String,
    /// `wait`, `forward`, `backward`, `backward_input`, `weights` or `overlapped`.
    pub kind: String,
    /// When it began, microseconds.
    pub start_us: f64,
    /// When it ended, microseconds.
    pub end_us: f64,
    /// Micro-batch, stage, direction.
    pub details: Value,
}

impl Timelines {
    /// Reads a file; none where there is none.
    ///
    /// # Errors
    /// It cannot be read, is of something else, or of another version.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let bytes = match read_regular(path, SETTINGS_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let wrong = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
        let Head { version } =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if version != TIMELINE_VERSION {
            return Err(wrong(format!(
                "is of version {version}, and this program reads version {TIMELINE_VERSION}"
            )));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_or_refused_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TIMELINE_FILE);
        assert_eq!(Timelines::read(&path).unwrap(), None);
        let timeline = Timeline { title: "t".into(), total_us: 1.5, ranks: Vec::new() };
        let written = Timelines {
            version: TIMELINE_VERSION,
            step: 3,
            measured: timeline.clone(),
            simulated: timeline,
        };
        std::fs::write(&path, serde_json::to_string(&written).unwrap()).unwrap();
        assert_eq!(Timelines::read(&path).unwrap(), Some(written));
        for (text, problem) in
            [("{\"version\": 9}", "version 9"), ("{\"version\": 1}", "missing field"), ("[", "EOF")]
        {
            std::fs::write(&path, text).unwrap();
            let refused = Timelines::read(&path).unwrap_err().to_string();
            assert!(refused.contains(problem), "{text}: {refused}");
        }
    }
}
