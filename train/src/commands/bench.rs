//! `deepseek bench`.

use super::Outcome;
use crate::cli::BenchArgs;

/// Times training and generation.
///
/// # Errors
/// Always, as yet: the command is not built.
pub fn run(_args: BenchArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("the command bench is not built yet")
}
