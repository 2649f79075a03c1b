//! Whose mistake the errors of other crates are.

use burn_deepseek::UnsupportedPrecision;
use burn_deepseek::config::{ConfigProblems, HuggingFaceError};
use burn_deepseek::generate::GenerateError;
use burn_deepseek::weights::WeightsError;

use super::{Blame, Blamed, blamed};

blamed!(User: ConfigProblems);
blamed!(Run: std::io::Error, std::num::TryFromIntError, std::sync::mpsc::RecvError);
blamed!(Run: serde_json::Error, ctrlc::Error);
blamed!(Run: burn::tensor::ExecutionError, burn_train::EventProcessorError);
blamed!(Run: UnsupportedPrecision);

/// Weights that do not describe a model are a mistake as a configuration that does not; anything
/// else is a file that is damaged or not there.
impl Blamed for WeightsError {
    fn blame(&self) -> Blame {
        match self {
            Self::Model(_) | Self::Config { source: HuggingFaceError::Invalid(_), .. } => {
                Blame::User
            }
            _ => Blame::Run,
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
