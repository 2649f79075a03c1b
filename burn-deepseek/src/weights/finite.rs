//! Weights of a model that are NaN or infinite, by name.

use burn_store::{ModuleSnapshot, bridge};

use super::named_slices;
use crate::DeepSeek;

/// The first tensor, by its name in a checkpoint, of the parameters whose path begins with `prefix`
/// that holds NaN or an infinity; a parameter that cannot be read is passed over.
pub(crate) fn first_not_finite(model: &DeepSeek, prefix: &str) -> Option<String> {
    let parameters = model.collect(None, None, true);
    let slices = named_slices(model.config());
    parameters.iter().filter(|parameter| parameter.name.starts_with(prefix)).find_map(|parameter| {
        let values: Vec<f32> = bridge::to_data(parameter).ok()?.try_into_vec_as().ok()?;
        let wrong = values.iter().position(|value| !value.is_finite())?;
        let slice = slices.iter().find(|slice| {
            slice.parameter == parameter.name
                && (slice.offset..slice.offset + slice.elements()).contains(&wrong)
        });
        Some(slice.map_or_else(|| parameter.name.clone(), |slice| slice.name.clone()))
    })
}
