//! `deepseek eval`.

use super::Outcome;
use crate::cli::EvalArgs;

/// Evaluates a checkpoint.
///
/// # Errors
/// Always, as yet: the command is not built.
pub fn run(_args: EvalArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("the command eval is not built yet")
}
