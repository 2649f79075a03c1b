//! Whether the files of `--routing` and `--save-routing` can be what they are given for.

use std::path::Path;

use burn_deepseek::DeepSeekConfig;

use crate::failure::UsageError;

/// Refuses an option for a model that routes nothing.
///
/// # Errors
///
/// A model without routed experts.
pub(super) fn needs_routers(option: &str, model: &DeepSeekConfig) -> Result<(), UsageError> {
    if model.moe_layer_indices().is_empty() {
        return Err(UsageError(format!("{option}: this model has no routed experts")));
    }
    Ok(())
}

/// Refuses files of routings for a model that routes nothing, and one file for both; the file that
/// is to be saved comes with the option that names it.
///
/// # Errors
///
/// A model without routed experts, or a file that would be read and written at once.
pub(super) fn check_routing_files(
    model: &DeepSeekConfig,
    replayed: Option<&Path>,
    saved: Option<(&str, &Path)>,
) -> Result<(), UsageError> {
    match (replayed, saved) {
        (None, None) => return Ok(()),
        (Some(_), _) => needs_routers("--routing", model)?,
        (None, Some((option, _))) => needs_routers(option, model)?,
    }
    let place = |path: &Path| path.canonicalize().ok();
    if let (Some(replayed), Some((option, saved))) = (replayed, saved)
        && (replayed == saved || place(replayed).is_some_and(|file| place(saved) == Some(file)))
    {
        let problem =
            format!("{option} {}: the same file as --routing; give another", saved.display());
        return Err(UsageError(problem));
    }
    Ok(())
}
