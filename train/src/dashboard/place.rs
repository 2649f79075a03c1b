//! The folders whose runs are shown: nothing outside them is read.

use std::io;
use std::path::{Path, PathBuf};

use crate::runs::{RunsError, find_runs};

/// A folder that was named on the command line.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// As it was named.
    pub shown: PathBuf,
    /// Where it is, without links.
    root: PathBuf,
}

impl Place {
    /// A folder with runs in it or below it, or that of a run.
    ///
    /// # Errors
    /// [`RunsError::NotFound`].
    pub fn new(shown: &Path) -> Result<Self, RunsError> {
        let not_found = || RunsError::NotFound { path: shown.into() };
        let root = shown.canonicalize().map_err(|_| not_found())?;
        if !root.is_dir() {
            return Err(not_found());
        }
        Ok(Self { shown: shown.into(), root })
    }

    /// The folders of its runs. One that has gone has none.
    pub fn runs(&self) -> Vec<PathBuf> {
        find_runs(std::slice::from_ref(&self.root)).unwrap_or_default()
    }

    /// A run's name, its folder seen from here.
    pub fn name_of(&self, run: &Path) -> String {
        let below = run.strip_prefix(&self.root).unwrap_or(run);
        let name = if below.as_os_str().is_empty() {
            run.file_name().unwrap_or(run.as_os_str()).to_string_lossy()
        } else {
            below.to_string_lossy()
        };
        name.into_owned()
    }

    /// A run's folder as whoever named this one would write it.
    pub fn shown_of(&self, run: &Path) -> PathBuf {
        match run.strip_prefix(&self.root) {
            Ok(below) if below.as_os_str().is_empty() => self.shown.clone(),
            Ok(below) => self.shown.join(below),
            Err(_) => run.into(),
        }
    }

    /// Where a file or folder of a run really is.
    ///
    /// # Errors
    /// It is not there, or a link leads out of this folder.
    pub fn inside(&self, path: &Path) -> io::Result<PathBuf> {
        let real = path.canonicalize()?;
        if !real.starts_with(&self.root) {
            let problem = format!("{}: a link that leads out of the folders shown", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        Ok(real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_seen_from_the_folder_that_was_named() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let run = root.join("swept/seed-0");
        std::fs::create_dir_all(&run).unwrap();
        let of = Place { shown: "runs".into(), root: root.clone() };
        assert_eq!(of.name_of(&run), "swept/seed-0");
        assert_eq!(of.shown_of(&run), Path::new("runs/swept/seed-0"));
        assert_eq!(of.name_of(&root), root.file_name().unwrap().to_string_lossy());
        assert_eq!(of.shown_of(&root), Path::new("runs"));
        assert!(Place::new(&root.join("gone")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_out_are_refused() {
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::fs::write(place.path().join("own"), "o").unwrap();
        let link = |to: &Path, name: &str| {
            let from = place.path().join(name);
            std::os::unix::fs::symlink(to, &from).unwrap();
            from
        };
        let of = Place::new(place.path()).unwrap();
        let out = link(&outside.path().join("secret"), "out");
        assert_eq!(of.inside(&out).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let within = link(&place.path().join("own"), "within");
        assert_eq!(of.inside(&within).unwrap(), place.path().canonicalize().unwrap().join("own"));
        assert_eq!(
            of.inside(&place.path().join("no")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
