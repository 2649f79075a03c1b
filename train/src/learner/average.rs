//! The average of a run's weights, whoever keeps it.

use std::path::Path;

use burn_deepseek::weights::{SaveOptions, save_model};

use super::{Ema, EmaSettings, StepEngine};
use crate::failure::Result;

/// The average of the weights of a run.
#[derive(Debug)]
pub enum Average {
    /// Of all of them, in this process.
    Whole(Box<Ema>),
    /// Kept by ranks that are processes, each of what it owns.
    OfRanks {
        /// How they average.
        settings: EmaSettings,
        /// Steps averaged.
        steps: u64,
    },
}

impl Average {
    /// Steps averaged.
    pub fn steps(&self) -> u64 {
        match self {
            Self::Whole(ema) => ema.steps(),
            Self::OfRanks { steps, .. } => *steps,
        }
    }

    /// Waits until no step is being averaged any more: the weights can change then.
    ///
    /// # Errors
    ///
    /// The thread that averages has stopped.
    pub fn settle(&mut self) -> Result<()> {
        match self {
            Self::Whole(ema) => ema.settle(),
            Self::OfRanks { .. } => Ok(()), // each has averaged when it has answered
        }
    }

    /// Averages the weights that `engine` has after a step.
    ///
    /// # Errors
    ///
    /// The thread that averages has stopped, or a rank failed.
    pub fn step(&mut self, engine: &mut dyn StepEngine) -> Result<()> {
        match self {
            Self::Whole(ema) => ema.step(&engine.model()?.model),
            Self::OfRanks { settings, steps } => {
                *steps += 1;
                settings.rate(*steps).map_or(Ok(()), |rate| engine.average(rate))
            }
        }
    }

    /// Writes the average, as a model, to a folder that is there.
    ///
    /// # Errors
    ///
    /// A file that cannot be written, or a rank that failed.
    pub fn save(&mut self, engine: &mut dyn StepEngine, folder: &Path) -> Result<()> {
        match self {
            Self::Whole(ema) => save_average(ema, folder),
            Self::OfRanks { .. } => engine.save_average(folder),
        }
    }
}

/// Writes an average, as a model, to a folder.
///
/// # Errors
///
/// The thread that averages has stopped, a file cannot be written.
pub fn save_average(ema: &mut Ema, folder: &Path) -> Result<()> {
    Ok(save_model(ema.model()?, folder, &SaveOptions::default())?)
}
