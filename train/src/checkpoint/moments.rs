//! The optimizer of a checkpoint: AdamW's moments, put together from the tensors that they are
//! stored as.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use burn_deepseek::weights::{
    HeldParameter, NamedSlice, SafetensorsFile, SlicesByParameter, named_slices, parameter_ids,
};
use burn_deepseek::{DeepSeek, DeepSeekConfig};
use safetensors::{Dtype, SafeTensors};

use super::{Checkpoint, CheckpointError};
use crate::learner::{AdamW, AdamWSettings, FIRST_MOMENT, Moments, OPTIMIZER_FILE, SECOND_MOMENT};

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

impl Checkpoint {
    /// The optimizer of a part of the model of `config`, as it was: the moments of what is `owned`,
    /// of which alone anything is read; `read` is told of each.
    ///
    /// # Errors
    ///
    /// As [`optimizer`](Self::optimizer).
    pub fn part_of_optimizer(
        &self,
        config: &DeepSeekConfig,
        owned: &[HeldParameter],
        settings: AdamWSettings,
        device: &Device,
        read: &mut dyn FnMut(),
    ) -> Result<AdamW, CheckpointError> {
        let path = self.path.join(OPTIMIZER_FILE);
        let (file, tensors) = SafetensorsFile::open(&path)?;
        let slices = SlicesByParameter::new(config);
        let dtype = settings.moments.dtype();
        let mut moments = HashMap::new();
        for HeldParameter { id, path: parameter, elements } in owned {
            let own = || slices.within(parameter, elements);
            let has =
                |slice: &NamedSlice| tensors.contains_key(&format!("{}{FIRST_MOMENT}", slice.name));
            if !own().any(has) {
                continue;
            }
            let [first, second] = [FIRST_MOMENT, SECOND_MOMENT].map(|suffix| {
                let mut values = vec![0.0; elements.len()];
                for slice in own() {
                    let out = &mut values[slice.offset - elements.start..][..slice.elements()];
                    let name = format!("{}{suffix}", slice.name);
                    let tensor = tensors.get(&name).ok_or_else(|| {
                        CheckpointError::damaged(&path, format!("{name} is missing"))
                    })?;
                    check(&name, tensor.dtype, &tensor.shape, &slice.shape, &path)?;
                    let mut bytes = vec![0; tensor.len_bytes];
                    file.read_into(tensor, 0, &mut bytes)?;
                    widen(tensor.dtype, &bytes, out);
                }
                let data = TensorData::new(values, [elements.len()]).convert_dtype(dtype);
                Ok::<_, CheckpointError>(Tensor::<1>::from_data(data, (device, dtype)))
            });
            moments.insert(*id, Moments { first: first?, second: second? });
            read();
        }
        Ok(AdamW::resumed(settings, self.position.step, moments))
    }
}

/// Refuses a tensor that is not a moment of this shape.
fn check(
    name: &str,
    dtype: Dtype,
    found: &[usize],
    shape: &[usize],
    path: &Path,
) -> Result<(), CheckpointError> {
    if matches!(dtype, Dtype::F32 | Dtype::BF16) && found == shape {
        return Ok(());
    }
    let problem = format!("{name} is {dtype:?} {found:?} instead of F32 or BF16 {shape:?}");
    Err(CheckpointError::damaged(path, problem))
}

/// Values of F32 or BF16 as F32.
fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    if dtype == Dtype::F32 {
        out.iter_mut()
            .zip(bytes.as_chunks().0)
            .for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
    } else {
        let upper_half =
            |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        out.iter_mut()
            .zip(bytes.as_chunks().0)
            .for_each(|(value, bytes)| *value = upper_half(bytes));
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
        check(&name, view.dtype(), view.shape(), &slice.shape, path)?;
        let count = slice.parameter_shape.iter().product();
        let values = parameters.entry(slice.parameter.clone()).or_insert_with(|| vec![0.0; count]);
        widen(view.dtype(), view.data(), &mut values[slice.offset..]);
    }
    Ok(parameters)
}
