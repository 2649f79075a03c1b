//! Writing a file of saved routings, a chunk a micro-batch, as they come.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use burn_deepseek::routing::LayerRecord;
use burn_deepseek::weights::open_regular;

use super::chunk::{Chunk, Head, Phase, Place};
use super::error::RoutingFileError;
use super::read::Scan;
use super::shape::{Header, MadeBy, RoutingShape};
use super::{MAGIC, VERSION};
use crate::data::Window;
use crate::durable::{put_in_place, temporary_of};

/// Where a run begins to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteAt {
    /// Steps that were made before.
    pub step: u64,
    /// Samples that were seen in them.
    pub samples: u64,
}

/// A file that is being written.
#[derive(Debug)]
pub struct RoutingWriter {
    path: PathBuf,
    /// Another name that it has until it is whole.
    temporary: Option<PathBuf>,
    out: BufWriter<File>,
    shape: RoutingShape,
    /// The last windows that are there.
    last: Option<(Place, u64)>,
}

impl RoutingWriter {
    /// Begins a file that appears when it is [finished](Self::finish), in the place of one that is
    /// there.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn create(
        path: &Path,
        shape: &RoutingShape,
        made_by: MadeBy,
    ) -> Result<Self, RoutingFileError> {
        let temporary = temporary_of(path);
        let mut writer = Self::begin(&temporary, shape, made_by)?;
        writer.path = path.into();
        writer.temporary = Some(temporary);
        Ok(writer)
    }

    /// Begins the file of a new run, or goes on with that of a run that is resumed: what it has of
    /// later steps is dropped.
    ///
    /// # Errors
    ///
    /// It cannot be written; a resumed run's is of something else, damaged, or ends before the run
    /// goes on.
    pub fn of_run(
        path: &Path,
        shape: &RoutingShape,
        at: WriteAt,
    ) -> Result<Self, RoutingFileError> {
        if at.step == 0 || !path.exists() {
            return Self::begin(path, shape, MadeBy::Train);
        }
        let scan = Scan::of(path, &open_regular(path).map_err(RoutingFileError::reading(path))?)?;
        scan.header.check(path, shape, MadeBy::Train)?;
        let path = path.to_path_buf();
        let later = |head: &Head| match head.place.phase {
            Phase::Training => head.first >= at.samples,
            Phase::Evaluation => head.place.step > at.step,
        };
        let kept: Vec<Head> =
            scan.chunks.iter().map(|(_, head)| *head).take_while(|head| !later(head)).collect();
        let end = scan.chunks.get(kept.len()).map_or(scan.end, |(begin, _)| *begin);
        let next = |head: &Head| head.first + u64::from(head.windows);
        let trained = kept.iter().rev().find(|head| head.place.phase == Phase::Training).map(next);
        if trained != Some(at.samples) {
            let last = trained.map_or("none".into(), |next| (next - 1).to_string());
            return Err(RoutingFileError::Gap { path, last, next: at.samples });
        }
        let writing = RoutingFileError::writing(&path);
        let mut file = OpenOptions::new().write(true).open(&path).map_err(&writing)?;
        file.set_len(end).and_then(|()| file.seek(SeekFrom::End(0))).map_err(&writing)?;
        drop(writing);
        let last = kept.last().map(|head| (head.place, next(head) - 1));
        Ok(Self { path, temporary: None, out: BufWriter::new(file), shape: shape.clone(), last })
    }

    fn begin(path: &Path, shape: &RoutingShape, made_by: MadeBy) -> Result<Self, RoutingFileError> {
        let writing = RoutingFileError::writing(path);
        let mut out = BufWriter::new(File::create(path).map_err(&writing)?);
        let header = Header { made_by, shape: shape.clone() };
        let text = serde_json::to_vec(&header).expect("invariant: a header is JSON");
        let mut start = MAGIC.to_vec();
        for number in [VERSION, text.len() as u32, crc32fast::hash(&text)] {
            start.extend(number.to_le_bytes());
        }
        out.write_all(&start).and_then(|()| out.write_all(&text)).map_err(&writing)?;
        let (path, shape) = (path.to_path_buf(), shape.clone());
        Ok(Self { path, temporary: None, out, shape, last: None })
    }

    /// Adds what the routers chose for windows that follow one another, of `seq_len` tokens each
    /// that a model sees. Windows that are there already (an evaluation that is made again when a
    /// run goes on) are passed over: they are the same.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(
        &mut self,
        place: Place,
        windows: &[Window],
        seq_len: usize,
        records: &[LayerRecord],
    ) -> Result<(), RoutingFileError> {
        let Some(first) = windows.first() else { return Ok(()) };
        if self.last.is_some_and(|last| (place, first.sample) <= last) {
            return Ok(());
        }
        let writing = RoutingFileError::writing(&self.path);
        let packed =
            Chunk::pack(&self.shape, place, windows, seq_len, records).map_err(&writing)?;
        let Some((head, payload)) = packed else { return Ok(()) };
        self.out
            .write_all(&head.to_bytes())
            .and_then(|()| self.out.write_all(&payload))
            .map_err(&writing)?;
        self.last = Some((place, first.sample + windows.len() as u64 - 1));
        Ok(())
    }

    /// Puts on the disk what was written so far.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn sync(&mut self) -> Result<(), RoutingFileError> {
        let synced = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        synced.map_err(RoutingFileError::writing(&self.path))
    }

    /// Ends the file, which then has its name. Gives its bytes.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn finish(mut self) -> Result<u64, RoutingFileError> {
        self.sync()?;
        let path = self.path.clone();
        let writing = RoutingFileError::writing(&path);
        if let Some(temporary) = self.temporary.take() {
            put_in_place(&temporary, &path).map_err(|error| writing(error.source))?;
        }
        Ok(self.out.get_ref().metadata().map_err(&writing)?.len())
    }
}

impl Drop for RoutingWriter {
    /// A file that did not become whole leaves nothing.
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // What cannot be deleted stays under a name that says what it is.
            let _ = std::fs::remove_file(temporary);
        }
    }
}
