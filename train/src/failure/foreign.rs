//! Whose mistake the errors of other crates are.

use burn_deepseek::UnsupportedPrecision;
use burn_deepseek::config::ConfigProblems;
use burn_deepseek::generate::GenerateError;
use burn_deepseek::weights::WeightsError;

use super::{Blame, Blamed, blamed};

blamed!(User: ConfigProblems);
blamed!(Run: std::io::Error, std::num::TryFromIntError, std::sync::mpsc::RecvError);
blamed!(Run: serde_json::Error, ctrlc::Error, csv::Error, parquet::errors::ParquetError);
blamed!(Run: burn::tensor::ExecutionError, burn_train::EventProcessorError);
blamed!(Run: UnsupportedPrecision);

/// A folder that is not a checkpoint, or not one that a model can be made of, is a mistake of who
/// gave it, as a configuration is; a damaged file, a disk or a device is nobody's.
impl Blamed for WeightsError {
    fn blame(&self) -> Blame {
        match self {
            Self::NotFound { .. }
            | Self::Config { .. }
            | Self::Model(_)
            | Self::Index { .. }
            | Self::MissingShards { .. }
            | Self::Tensors { .. }
            | Self::NotFinite { .. }
            | Self::OutOfRange { .. } => Blame::User,
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Blame::User
            }
            Self::Read { .. }
            | Self::Corrupt { .. }
            | Self::Length { .. }
            | Self::Write { .. }
            | Self::Changed { .. }
            | Self::Publish { .. }
            | Self::Altered { .. }
            | Self::Shape { .. }
            | Self::Apply { .. }
            | Self::Device { .. } => Blame::Run,
        }
    }
}

/// A prompt or a length that does not fit is the user's mistake, and so are weights that are no
/// numbers; numbers that overflow are nobody's.
impl Blamed for GenerateError {
    fn blame(&self) -> Blame {
        match self {
            Self::NotFinite { place, .. } if place.weight.is_none() => Blame::Run,
            _ => Blame::User,
        }
    }
}
