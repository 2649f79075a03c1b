//! `deepseek train`.

use super::Outcome;
use crate::cli::TrainArgs;

/// Trains a model.
///
/// # Errors
/// Always, as yet: the command is not built.
pub fn run(_args: TrainArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("the command train is not built yet")
}
