//! A folder that is filled under a hidden name beside its own, and takes its own when it is whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::commands::new_folder::check_new;
use crate::failure::{Context, Result, UsageError};

/// The folder in the making; dropped, it is deleted.
pub(super) struct Scratch {
    partial: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Scratch {
    /// Makes the hidden folder, and whatever it lies in. What an export that was killed left of it
    /// is deleted.
    ///
    /// # Errors
    ///
    /// As [`check_new`]; nothing can be written there.
    pub fn beside(target: &Path) -> Result<Self> {
        check_new("--out", target)?;
        let full = std::path::absolute(target).with_context(|| named(target))?;
        let (Some(name), Some(parent)) = (full.file_name(), full.parent()) else {
            let problem = format!("--out {}: no folder can be made there", target.display());
            return Err(UsageError(problem).into());
        };
        let partial = parent.join(format!(".{}.partial", name.to_string_lossy()));
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| named(&partial))?;
        }
        fs::create_dir_all(&partial).with_context(|| named(&partial))?;
        Ok(Self { partial, target: full, published: false })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Writes a file of the folder.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_synced(&self.partial.join(name), bytes)
    }

    /// Gives the folder its name and returns those of its files.
    ///
    /// # Errors
    ///
    /// The name cannot be taken.
    pub fn publish(mut self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.partial).with_context(|| named(&self.partial))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| named(&self.partial))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        sync(&self.partial)?;
        if self.target.is_dir() {
            // An empty one: a name that is taken cannot be given on every system.
            fs::remove_dir(&self.target).with_context(|| named(&self.target))?;
        }
        fs::rename(&self.partial, &self.target).with_context(|| named(&self.target))?;
        self.published = true;
        self.target.parent().map_or(Ok(()), sync)?;
        Ok(names)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.published {
            // The error that led here is the one to report.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Writes a file to the disk.
///
/// # Errors
///
/// It cannot be written.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).with_context(|| named(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| named(path))
}

/// Makes a folder's entries durable.
fn sync(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).with_context(|| named(folder))?;
    }
    Ok(())
}

fn named(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new/model");
        let scratch = Scratch::beside(&target).unwrap();
        scratch.write("a", b"1").unwrap();
        assert!(!target.exists());
        drop(scratch);
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 0);

        // What was left of one that was killed is not part of the next.
        fs::create_dir(folder.path().join("new/.model.partial")).unwrap();
        fs::write(folder.path().join("new/.model.partial/old"), "").unwrap();
        fs::create_dir(&target).unwrap();
        let scratch = Scratch::beside(&target).unwrap();
        scratch.write("b", b"2").unwrap();
        scratch.write("a", b"1").unwrap();
        assert_eq!(scratch.publish().unwrap(), ["a", "b"]);
        assert_eq!(fs::read(target.join("b")).unwrap(), b"2");
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn names_that_are_taken_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for (target, problem) in
            [(folder.path().to_path_buf(), "not empty"), (folder.path().join("file"), "a file")]
        {
            let error = Scratch::beside(&target).err().unwrap().to_string();
            assert!(error.contains("--out") && error.contains(problem), "{error}");
        }
    }
}
