//! Changes of files and folders that are there whole or not at all, whenever the program is killed
//! or the machine goes down.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::failure::blamed;
use crate::kill_point;

/// What the name of a file ends in that takes another's place once it is whole.
const TEMPORARY: &str = ".tmp";
/// What the hidden name of a folder ends in that is being deleted.
pub const DELETED: &str = ".deleted";

/// A file or folder that cannot be changed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot {action}", path = .path.display())]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// `read`, `write`, `create`, ...
    pub action: &'static str,
    /// Why.
    pub source: io::Error,
}

blamed!(Run: FileError);

impl FileError {
    fn of(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { path, action, source }
    }
}

/// `RUN/metrics.jsonl.tmp` of `RUN/metrics.jsonl`.
pub fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    name.into()
}

/// Gives a file another content, which `fill` writes: the old one or the new one is there, and
/// never a part of it.
///
/// # Errors
///
/// It cannot be written.
pub fn replace_file(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let temporary = temporary_of(path);
    let file = File::create(&temporary).map_err(FileError::of(&temporary, "create"))?;
    kill_point::here();
    let mut out = BufWriter::new(file);
    fill(&mut out)
        .and_then(|()| out.flush())
        .and_then(|()| out.get_ref().sync_all())
        .map_err(FileError::of(&temporary, "write"))?;
    kill_point::here();
    put_in_place(&temporary, path)?;
    kill_point::here();
    Ok(())
}

/// Gives a file, which is on the disk, another's name, for good.
///
/// # Errors
///
/// It cannot be renamed.
pub fn put_in_place(temporary: &Path, path: &Path) -> Result<(), FileError> {
    fs::rename(temporary, path).map_err(FileError::of(path, "replace"))?;
    sync(path.parent().unwrap_or(Path::new("")))
}

/// Writes a new file, for good.
///
/// # Errors
///
/// It cannot be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = File::create(path).map_err(FileError::of(path, "create"))?;
    if kill_point::reached() {
        let _ = file.write_all(&bytes[..bytes.len() / 2]);
        std::process::abort();
    }
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(FileError::of(path, "write"))?;
    kill_point::here();
    Ok(())
}

/// Makes a folder's entries durable.
///
/// # Errors
///
/// The system says that it cannot.
pub fn sync(folder: &Path) -> Result<(), FileError> {
    if cfg!(unix) {
        // A path without a folder names something in the current one.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)
            .and_then(|file| file.sync_all())
            .map_err(FileError::of(folder, "sync"))?;
    }
    Ok(())
}

/// Deletes a folder. It loses its name first: at no time is a half deleted one under it.
///
/// # Errors
///
/// It cannot be renamed, or something in it not deleted.
pub fn discard(folder: &Path) -> Result<(), FileError> {
    let Some(name) = folder.file_name() else { return Ok(()) };
    let hidden = folder.with_file_name(format!(".{}{DELETED}", name.to_string_lossy()));
    remove_if_there(&hidden)?;
    match fs::rename(folder, &hidden) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result.map_err(FileError::of(folder, "delete"))?,
    }
    kill_point::here();
    remove_if_there(&hidden)
}

/// Deletes what is at a path, a file or a folder.
///
/// # Errors
///
/// It is there and cannot be deleted.
pub fn remove_if_there(path: &Path) -> Result<(), FileError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(FileError::of(path, "delete")(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_old_content_or_its_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        replace_file(&path, |out| out.write_all(b"one")).unwrap();
        let failed = replace_file(&path, |out| {
            out.write_all(b"tw")?;
            Err(io::Error::other("no space"))
        });
        assert_eq!(
            failed.unwrap_err().to_string(),
            format!("{}: cannot write", temporary_of(&path).display())
        );
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace_file(&path, |out| out.write_all(b"two")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(!temporary_of(&path).exists());
    }

    #[test]
    fn what_is_discarded_is_gone_with_what_an_earlier_time_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step-00000002");
        for folder in [&path, &path.with_file_name(".step-00000002.deleted")] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), "").unwrap();
        }
        discard(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        discard(&path).unwrap();
    }
}
