//! The lock of a run's folder: one training at a time writes to it. The system takes it from a
//! process that ends, however it ends; whoever only reads does not ask for it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::{Context, Result, blamed};
use crate::kill_point;

/// File that is locked; it says who has it.
const LOCK_FILE: &str = "lock";
/// More than that nobody has to say.
const LONGEST: u64 = 400;

/// Somebody else trains there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{run}: {who} is training in this folder; wait for its end or stop it",
    run = .run_dir.display()
)]
pub(super) struct RunLocked {
    /// The run's folder.
    run_dir: PathBuf,
    /// Process and host, and since when, where that can be read.
    who: String,
}

blamed!(User: RunLocked);

/// A run's folder that this process alone trains in, as long as this lives.
#[derive(Debug)]
pub(in crate::commands) struct RunLock {
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
        let locked = file.try_lock();
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

    /// Whether a folder has been trained in by a process that locks.
    pub fn is_known(run_dir: &Path) -> bool {
        run_dir.join(LOCK_FILE).is_file()
    }
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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("process {} on {}, since {},", std::process::id(), host(), utc(now))
}

/// The name of this machine, as far as it says it.
fn host() -> String {
    let said = |name: String| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let variables = ["HOSTNAME", "COMPUTERNAME"];
    files
        .iter()
        .find_map(|file| std::fs::read_to_string(file).ok().and_then(said))
        .or_else(|| variables.iter().find_map(|name| std::env::var(name).ok().and_then(said)))
        .unwrap_or_else(|| "an unnamed host".into())
}

/// Seconds since 1970 as a date and a time.
fn utc(seconds: u64) -> String {
    let (mut day, time) = (seconds / 86_400, seconds % 86_400);
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year}-{:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", month + 1, day + 1)
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
    fn seconds_are_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_735_689_599), "2024-12-31 23:59:59 UTC");
        assert_eq!(utc(1_795_954_690), "2026-11-29 12:18:10 UTC");
    }
}
