//! The log of a rank that is not rank 0, in the run's folder: a line with the time and the rank for
//! whatever there is to say.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{SecondsFormat, Utc};

use crate::failure::{Context, Result};
use crate::visible::visible;

/// Folder of the logs, in the run's.
const FOLDER: &str = "ranks";

/// The log of one rank; clones write to the same file.
#[derive(Clone, Debug)]
pub(super) struct RankLog {
    rank: usize,
    file: Arc<Mutex<File>>,
}

impl RankLog {
    /// Opens it in a run's folder, behind what earlier sessions have said.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open(run_dir: &Path, rank: usize) -> Result<Self> {
        let folder = run_dir.join(FOLDER);
        let path: PathBuf = folder.join(format!("rank-{rank}.log"));
        let cannot = || format!("{}: cannot open", path.display());
        std::fs::create_dir_all(&folder).with_context(cannot)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).with_context(cannot)?;
        Ok(Self { rank, file: Arc::new(Mutex::new(file)) })
    }

    /// Writes a line. That it cannot be written is no reason to stop: rank 0 is told what matters.
    pub fn say(&self, text: &str) {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let text = text.replace('\n', " ");
        let line = format!("{now} rank {} {}\n", self.rank, visible(&text));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = file.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_time_and_rank_and_stay_lines() {
        let run = tempfile::tempdir().unwrap();
        RankLog::open(run.path(), 3).unwrap().say("begins");
        let log = RankLog::open(run.path(), 3).unwrap();
        log.say("failed: one\ntwo \x1b[2J");
        let text = std::fs::read_to_string(run.path().join("ranks/rank-3.log")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for (line, said) in lines.iter().zip(["begins", "failed: one two "]) {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{line}");
            assert!(rest.starts_with(&format!("rank 3 {said}")), "{line}");
        }
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}
