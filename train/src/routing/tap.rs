//! What stands between a loop over micro-batches and the files: each micro-batch is given the
//! choices that were saved of it, and what its routers chose is saved.

use std::sync::Arc;

use burn_deepseek::routing::{RoutingControl, RoutingLog};

use super::{Place, RoutingFileError, RoutingWriter, SavedRouting};
use crate::data::{TokenBatch, Window};

/// Replays one file, writes another, or both, or neither.
#[derive(Debug, Default)]
pub struct RoutingTap {
    replayed: Option<SavedRouting>,
    saved: Option<RoutingWriter>,
}

/// What was asked of the routers that see a micro-batch, to be saved when they have.
#[derive(Debug)]
pub struct Asked {
    place: Place,
    windows: Arc<[Window]>,
    seq_len: usize,
    log: RoutingLog,
}

impl RoutingTap {
    /// Takes choices from the one, and writes those that are made to the other.
    pub fn new(replayed: Option<SavedRouting>, saved: Option<RoutingWriter>) -> Self {
        Self { replayed, saved }
    }

    /// Asks the routers that will see a micro-batch, in this place, with the MTP modules or
    /// without.
    /// Without files nothing is asked.
    ///
    /// # Errors
    ///
    /// A window whose routing is not in the file, or is another's there.
    pub fn ask(
        &mut self,
        batch: &mut TokenBatch,
        place: Place,
        mtp: bool,
    ) -> Result<Option<Asked>, RoutingFileError> {
        if self.replayed.is_none() && self.saved.is_none() {
            return Ok(None);
        }
        let windows = batch.windows.clone();
        let seq_len = batch.inputs.dims()[1];
        let given = match &mut self.replayed {
            Some(saved) => Some(Arc::new(saved.choices(place, &windows, seq_len, mtp)?)),
            None => None,
        };
        let log = self.saved.is_some().then(RoutingLog::of_choices);
        batch.routing =
            Some(RoutingControl { given, log: log.clone(), ..RoutingControl::default() });
        Ok(log.map(|log| Asked { place, windows, seq_len, log }))
    }

    /// Saves what the routers have told of a micro-batch.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn told(&mut self, asked: Asked) -> Result<(), RoutingFileError> {
        let Some(saved) = &mut self.saved else { return Ok(()) };
        let Asked { place, windows, seq_len, log } = asked;
        saved.write(place, &windows, seq_len, &log.take())
    }

    /// Puts on the disk what was saved so far.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn sync(&mut self) -> Result<(), RoutingFileError> {
        self.saved.as_mut().map_or(Ok(()), RoutingWriter::sync)
    }

    /// Ends the file that is written; its bytes, where one is.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn finish(self) -> Result<Option<u64>, RoutingFileError> {
        self.saved.map(RoutingWriter::finish).transpose()
    }
}
