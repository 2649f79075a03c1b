//! Whether the files of `--routing` and `--save-routing` can be what they are given for.

use std::path::Path;

use burn_deepseek::DeepSeekConfig;

use crate::failure::UsageError;

/// Refuses files of routings for a model that routes nothing, and one file for both.
///
/// # Errors
///
/// A model without routed experts, or a file that would be read and written at once.
pub(super) fn no_routers(
    model: &DeepSeekConfig,
    replayed: Option<&Path>,
    saved: Option<&Path>,
) -> Result<(), UsageError> {
    let flag = match (replayed, saved) {
        (None, None) => return Ok(()),
        (Some(_), _) => "--routing",
        (None, Some(_)) => "--save-routing",
    };
    if model.moe_layer_indices().is_empty() {
        return Err(UsageError(format!("{flag}: this model has no routed experts")));
    }
    let place = |path: &Path| path.canonicalize().ok();
    if let (Some(replayed), Some(saved)) = (replayed, saved)
        && (replayed == saved || place(replayed).is_some_and(|file| place(saved) == Some(file)))
    {
        let problem =
            format!("--save-routing {}: the same file as --routing; give another", saved.display());
        return Err(UsageError(problem));
    }
    Ok(())
}
