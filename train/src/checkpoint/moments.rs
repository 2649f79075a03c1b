//! The optimizer of a checkpoint: AdamW's moments, put together from the tensors that they are
//! stored as.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use burn_deepseek::DeepSeek;
use burn_deepseek::weights::{named_slices, parameter_ids};
use safetensors::{Dtype, SafeTensors};

use super::{Checkpoint, CheckpointError, FIRST_MOMENT, OPTIMIZER_FILE, SECOND_MOMENT};
use crate::learner::{AdamW, AdamWSettings, Moments};

impl Checkpoint {
    /// The optimizer of `model`, as it was; moments of another format than `settings` has are
    /// converted.
    ///
    /// # Errors
    ///
    /// Moments that cannot be read, or that are not the model's.
    pub fn optimizer(
        &self,
        model: &DeepSeek,
        settings: AdamWSettings,
    ) -> Result<AdamW, CheckpointError> {
        let path = self.path.join(OPTIMIZER_FILE);
        let bytes = fs::read(&path).map_err(CheckpointError::io(&path, "read"))?;
        let file =
            SafeTensors::deserialize(&bytes).map_err(|e| CheckpointError::damaged(&path, e))?;
        let first = assembled(model, &file, FIRST_MOMENT, &path)?;
        let mut second = assembled(model, &file, SECOND_MOMENT, &path)?;
        let device = model.device().inner();
        let dtype = settings.moments.dtype();
        let tensor = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(
                TensorData::new(values, [count]).convert_dtype(dtype),
                (&device, dtype),
            )
        };
        let ids = parameter_ids(model);
        let mut moments = HashMap::new();
        for (parameter, first) in first {
            let (id, _) = ids.get(&parameter).ok_or_else(|| {
                CheckpointError::damaged(&path, format!("the model has no parameter {parameter}"))
            })?;
            let second = second.remove(&parameter).ok_or_else(|| {
                CheckpointError::damaged(&path, format!("{parameter} lacks its second moment"))
            })?;
            moments.insert(*id, Moments { first: tensor(first), second: tensor(second) });
        }
        Ok(AdamW::resumed(settings, self.position.step, moments))
    }
}

/// The moments of each parameter as F32 (which holds BF16 exactly), put together from the tensors
/// they are stored as; a parameter without any is left out.
fn assembled(
    model: &DeepSeek,
    file: &SafeTensors,
    suffix: &str,
    path: &Path,
) -> Result<HashMap<String, Vec<f32>>, CheckpointError> {
    let mut parameters: HashMap<String, Vec<f32>> = HashMap::new();
    for slice in named_slices(model.config()) {
        let name = format!("{}{suffix}", slice.name);
        let Ok(view) = file.tensor(&name) else { continue };
        if !matches!(view.dtype(), Dtype::F32 | Dtype::BF16) || view.shape() != slice.shape {
            let problem = format!(
                "{name} is {:?} {:?} instead of F32 or BF16 {:?}",
                view.dtype(),
                view.shape(),
                slice.shape
            );
            return Err(CheckpointError::damaged(path, problem));
        }
        let count = slice.parameter_shape.iter().product();
        let values = parameters.entry(slice.parameter.clone()).or_insert_with(|| vec![0.0; count]);
        let values = values[slice.offset..].iter_mut();
        if view.dtype() == Dtype::F32 {
            values
                .zip(view.data().as_chunks().0)
                .for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
        } else {
            let upper_half =
                |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            values
                .zip(view.data().as_chunks().0)
                .for_each(|(value, bytes)| *value = upper_half(bytes));
        }
    }
    Ok(parameters)
}
