//! What the terminal shows of a run that is not in its record.

use std::path::Path;

use crate::config::RunConfig;
use crate::digits::grouped;
use crate::terminal::Facts;
use crate::visible::visible;

/// What is known of a run of so many steps in all from its configuration.
pub(super) fn facts(folder: &Path, config: &RunConfig, steps: u64) -> Facts {
    let (model, every) = (&config.model, config.train.eval_every);
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    Facts {
        name: visible(&name).into_owned(),
        folder: folder.into(),
        model: format!(
            "{} parameters, {}",
            grouped(model.parameter_counts().total),
            config.precision.precision().name()
        ),
        steps,
        eval_every: if every == 0 { steps } else { every },
        has_experts: !model.moe_layer_indices().is_empty(),
        ..Facts::default()
    }
}
