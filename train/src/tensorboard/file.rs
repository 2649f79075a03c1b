//! An event file: written from a record, and added to as the record grows.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::Utc;
use prost::Message;

use super::events::{Events, RunFacts};
use super::framing::frame;
use crate::durable::{remove_if_there, sync, temporary_of};
use crate::failure::{Context, Result};
use crate::kill_point;
use crate::record::{Line, Record};

/// The folder of event files in a run's.
pub const EVENTS_FOLDER: &str = "tensorboard";
/// What an event file is called in a run's folder before it has its name, without `.tmp`.
/// TensorBoard reads every file with `tfevents` in its name.
pub const PARTIAL_EVENTS: &str = "tensorboard/events";
/// What the names of event files begin with; then come ten digits that grow from file to file.
const NAME: &str = "events.out.tfevents.";
/// What the names of those that this program has written end in.
const OURS: &str = ".deepseek";

/// An event file that can be added to.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
    events: Events,
}

impl EventFile {
    /// Writes the events of a run's record so far into a new file of `folder`, which takes the
    /// place of those that this program has written there before; they are emptied. It has its
    /// name when it is whole. Gives
    /// how many lines of the record could not be read, too.
    ///
    /// # Errors
    /// The record cannot be read; the file cannot be written.
    pub fn of_run(run: &Path, folder: &Path, facts: RunFacts) -> Result<(Self, usize)> {
        fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot create", folder.display()))?;
        let partial = temporary_of(&folder.join("events"));
        let written = || format!("{}: cannot write", partial.display());
        let mut out = BufWriter::new(File::create(&partial).with_context(written)?);
        let (mut events, mut failed) = (Events::new(facts), Ok(()));
        let unreadable = Record::readable(run, |line| {
            if failed.is_ok() {
                failed = framed(&mut events, &line)
                    .and_then(|bytes| out.write_all(&bytes).with_context(written));
            }
        })?;
        failed?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.with_context(written)?;
        file.sync_all().with_context(written)?;
        kill_point::here();
        let earlier = earlier(folder)?;
        let after = earlier.last().map_or(0, |(number, _)| number + 1);
        let number = after.max(u64::try_from(Utc::now().timestamp()).unwrap_or(0));
        let path = folder.join(format!("{NAME}{number:010}{OURS}"));
        fs::rename(&partial, &path)
            .with_context(|| format!("{}: cannot create", path.display()))?;
        kill_point::here();
        for (_, path) in earlier {
            supersede(&path)?;
            kill_point::here();
        }
        sync(folder)?;
        Ok((Self { file, path, events }, unreadable))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the events of a line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, line: &Line) -> Result<()> {
        let bytes = framed(&mut self.events, line)?;
        // In one piece, so that a reader seldom meets half an event.
        self.file
            .write_all(&bytes)
            .with_context(|| format!("{}: cannot write", self.path.display()))
    }

    /// Has all events on the disk.
    ///
    /// # Errors
    /// The disk does not take them.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().with_context(|| format!("{}: cannot write", self.path.display()))
    }
}

fn framed(events: &mut Events, line: &Line) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for event in events.of(line)? {
        frame(&event.encode_to_vec(), &mut bytes);
    }
    Ok(bytes)
}

/// Takes away what an earlier file says. It is left empty, and gone the next time: a TensorBoard
/// that is running goes on to the next file from one that has ended, not from one that is gone.
fn supersede(path: &Path) -> Result<()> {
    let told = || format!("{}: cannot empty", path.display());
    if path.metadata().with_context(told)?.len() == 0 {
        return Ok(remove_if_there(path)?);
    }
    let file = File::options().write(true).truncate(true).open(path).with_context(told)?;
    file.sync_all().with_context(told)
}

/// The files in a folder that this program has written, with the numbers in their names, sorted.
fn earlier(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let told = || folder.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(told)? {
        let entry = entry.with_context(told)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(NAME)?.strip_suffix(OURS));
        found.extend(number.and_then(|number| Some((number.parse().ok()?, entry.path()))));
    }
    found.sort_unstable();
    Ok(found)
}
