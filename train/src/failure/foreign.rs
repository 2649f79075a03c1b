//! Whose mistake the errors of other crates are.

use burn_deepseek::UnsupportedPrecision;
use burn_deepseek::config::ConfigProblems;
use burn_deepseek::generate::GenerateError;
use burn_deepseek::weights::WeightsError;

use super::{Blame, Blamed, blamed};

/// A file that is not there, is no file, may not be read or is not text is the mistake of who gave
/// it; a disk that fails is nobody's.
pub(crate) fn of_reading(error: &std::io::Error) -> Blame {
    use std::io::ErrorKind::{
        FileTooLarge, InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound,
        PermissionDenied,
    };
    match error.kind() {
        FileTooLarge | InvalidData | InvalidInput | IsADirectory | NotADirectory | NotFound
        | PermissionDenied => Blame::User,
        _ => Blame::Run,
    }
}

blamed!(User: ConfigProblems);
blamed!(Run: std::io::Error, std::num::TryFromIntError, std::sync::mpsc::RecvError);
blamed!(Run: serde_json::Error, ctrlc::Error, csv::Error, parquet::errors::ParquetError);
blamed!(Run: burn::tensor::ExecutionError, burn_train::EventProcessorError);
blamed!(Run: UnsupportedPrecision);

/// A folder or file that is not a checkpoint, or is damaged, or cannot be opened, is at fault as it
/// was given, as a configuration is; a disk or a device that fails under way is nobody's fault.
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
            | Self::OutOfRange { .. }
            | Self::Corrupt { .. }
            | Self::Length { .. } => Blame::User,
            Self::Read { source, .. } => of_reading(source),
            Self::Write { .. }
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
