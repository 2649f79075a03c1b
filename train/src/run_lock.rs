//! The lock of a run's folder: one training at a time writes to it. The system takes it from a
//! process that ends, however it ends; whoever only reads does not ask for it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn_deepseek::weights::open_regular;
use chrono::{DateTime, Utc};

use crate::failure::{Context, Result, blamed};
use crate::kill_point;

/// File that is locked; it says who has it.
const LOCK_FILE: &str = "lock";
/// How often a lock is tried that somebody has, 10 ms apart.
const PATIENCE: usize = 20;
/// More than that nobody has to say.
const LONGEST: u64 = 400;

/// Somebody else trains there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{run}: {who} is training in this folder; wait for its end or stop it",
    run = .run_dir.display()
)]
pub struct RunLocked {
    /// The run's folder.
    run_dir: PathBuf,
    /// Process and host, and since when, where that can be read.
    who: String,
}

blamed!(User: RunLocked);

/// A run's folder that this process alone trains in, as long as this lives.
#[derive(Debug)]
pub struct RunLock {
    /// The file that is locked; none where the file system has no locks.
    file: Option<File>,
}

impl RunLock {
    /// Takes the lock of a run's folder, and says where there is none to take.
    ///
    /// # Errors
    ///
    /// Another process has it ([`RunLocked`]); its file cannot be made.
    pub fn take(run_dir: &Path, say: impl FnOnce(String) -> Result<()>) -> Result<Self> {
        let path = run_dir.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("{}: cannot create", path.display()))?;
        let locked = patiently(|| file.try_lock());
        let lock = Self::of(run_dir, &mut file, locked, say)?;
        kill_point::here();
        Ok(lock.map_or(Self { file: None }, |()| Self { file: Some(file) }))
    }

    /// What came of an attempt to lock: whether there is a lock now.
    fn of(
        run_dir: &Path,
        file: &mut File,
        locked: std::result::Result<(), TryLockError>,
        say: impl FnOnce(String) -> Result<()>,
    ) -> Result<Option<()>> {
        match locked {
            Ok(()) => {
                // Who does not learn it is refused all the same.
                let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", this_process()));
                Ok(Some(()))
            }
            Err(TryLockError::WouldBlock) => {
                let who = holder(file).unwrap_or_else(|| "another process".into());
                Err(RunLocked { run_dir: run_dir.to_owned(), who }.into())
            }
            Err(TryLockError::Error(error)) => {
                say(format!(
                    "no lock     {}: {error}; nothing would keep a second training out of this \
                     folder\n",
                    run_dir.join(LOCK_FILE).display()
                ))?;
                Ok(None)
            }
        }
    }

    /// Whether nobody else can train there.
    pub fn is_held(&self) -> bool {
        self.file.is_some()
    }

    /// Whether somebody trains in a folder now.
    pub fn is_taken(run_dir: &Path) -> bool {
        // (Opening a FIFO would wait.)
        let Ok(file) = open_regular(&run_dir.join(LOCK_FILE)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Whether a folder has been trained in by a process that locks.
    pub fn is_known(run_dir: &Path) -> bool {
        run_dir.join(LOCK_FILE).is_file()
    }
}

/// Tries again for a moment while somebody has the lock: whoever asks whether a folder is trained in
/// ([`RunLock::is_taken`]) has it for an instant.
fn patiently(
    mut lock: impl FnMut() -> std::result::Result<(), TryLockError>,
) -> std::result::Result<(), TryLockError> {
    for _ in 0..PATIENCE {
        match lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            locked => return locked,
        }
    }
    lock()
}

/// What the holder of a lock has written, as far as it can be shown.
fn holder(file: &mut File) -> Option<String> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.take(LONGEST).read_to_end(&mut bytes)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let shown: String = text.lines().next()?.chars().filter(|c| !c.is_control()).collect();
    (!shown.is_empty()).then_some(shown)
}

/// `process 4711 on host, since 2026-11-29 12:18:10 UTC,`
fn this_process() -> String {
    let host = sysinfo::System::host_name().unwrap_or_else(|| "an unnamed host".into());
    format!("process {} on {host}, since {},", std::process::id(), utc(Utc::now()))
}

fn utc(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_words(text: String) -> Result<()> {
        panic!("{text}")
    }

    #[test]
    fn a_second_one_is_told_who_has_it_until_that_lets_go() {
        let run = tempfile::tempdir().unwrap();
        let first = RunLock::take(run.path(), no_words).unwrap();
        assert!(first.is_held() && RunLock::is_known(run.path()));
        let refused = RunLock::take(run.path(), no_words).unwrap_err();
        let told = refused.to_string();
        let expected = format!("{}: process {} on ", run.path().display(), std::process::id());
        assert!(told.starts_with(&expected) && told.contains(" UTC, is training in"), "{told}");
        assert!(refused.is::<RunLocked>());
        drop(first);
        RunLock::take(run.path(), no_words).unwrap();
    }

    /// What somebody else wrote there does not reach the terminal as it is.
    #[test]
    fn the_words_of_a_holder_are_shown_without_what_moves_a_terminal() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join(LOCK_FILE);
        std::fs::write(&path, b"pro\x1b[2Jcess 1\xff\r\nmore").unwrap();
        let file = File::open(&path).unwrap();
        file.lock().unwrap();
        let told = RunLock::take(run.path(), no_words).unwrap_err().to_string();
        assert!(told.contains(": pro[2Jcess 1\u{fffd} is training"), "{told:?}");
        std::fs::write(&path, "").unwrap();
        let told = RunLock::take(run.path(), no_words).unwrap_err().to_string();
        assert!(told.contains(": another process is training"), "{told:?}");
    }

    /// Some file systems of networks have no locks.
    #[test]
    fn without_locks_it_is_said_and_the_training_goes_on() {
        let run = tempfile::tempdir().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let unsupported = std::io::Error::from(std::io::ErrorKind::Unsupported);
        let mut said = String::new();
        let locked =
            RunLock::of(run.path(), &mut file, Err(TryLockError::Error(unsupported)), |text| {
                said = text;
                Ok(())
            });
        assert!(locked.unwrap().is_none());
        assert!(said.starts_with("no lock     ") && said.contains("second training"), "{said}");
    }

    #[test]
    fn times_are_dates() {
        let utc = |seconds| utc(DateTime::from_timestamp(seconds, 0).unwrap());
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_735_689_599), "2024-12-31 23:59:59 UTC");
        assert_eq!(utc(1_795_954_690), "2026-11-29 12:18:10 UTC");
    }
}
