//! `deepseek generate`.

use super::Outcome;
use crate::cli::GenerateArgs;

/// Continues a prompt.
///
/// # Errors
/// Always, as yet: the command is not built.
pub fn run(_args: GenerateArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("the command generate is not built yet")
}
