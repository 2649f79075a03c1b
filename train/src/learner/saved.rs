//! What a checkpoint has of a model and its optimizer: the names of their tensors, and both written
//! from one device.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use burn_deepseek::DeepSeek;
use burn_deepseek::weights::{SaveOptions, named_tensors, parameter_ids, save_model};
use safetensors::tensor::{Dtype, TensorView};

use super::{AdamW, Moments};
use crate::durable::write_file;
use crate::failure::{Context, Result};
use crate::kill_point;

/// File of the optimizer's moments.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// What the name of a first moment ends with, after its tensor's.
pub const FIRST_MOMENT: &str = ".exp_avg";
/// What that of a second moment ends with.
pub const SECOND_MOMENT: &str = ".exp_avg_sq";

/// Writes a model as a Hugging Face folder, and the optimizer's moments beside it.
///
/// # Errors
///
/// A file that cannot be written.
pub fn save_whole(model: &DeepSeek, optimizer: &AdamW, folder: &Path) -> Result<()> {
    save_model(model, folder, &SaveOptions::default())?;
    kill_point::here();
    save_moments(&folder.join(OPTIMIZER_FILE), model, optimizer)
}

fn save_moments(path: &Path, model: &DeepSeek, optimizer: &AdamW) -> Result<()> {
    let shapes: HashMap<_, _> = parameter_ids(model).into_values().collect();
    let mut tensors: BTreeMap<String, TensorData> = BTreeMap::new();
    for (suffix, pick) in
        [(FIRST_MOMENT, first as fn(&Moments) -> &Tensor<1>), (SECOND_MOMENT, second)]
    {
        let named = named_tensors(model, |id| {
            let moments = optimizer.moments().get(&id)?;
            let data = pick(moments).to_data();
            let dtype = data.dtype();
            Some(TensorData::from_bytes_vec(
                data.as_bytes().to_vec(),
                shapes.get(&id)?.clone(),
                dtype,
            ))
        })?;
        tensors.extend(named.into_iter().map(|(name, data)| (name + suffix, data)));
    }
    let views = tensors.iter().map(|(name, data)| {
        let dtype = if data.dtype() == DType::BF16 { Dtype::BF16 } else { Dtype::F32 };
        let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes());
        let impossible = || format!("{}: {name} cannot be written", path.display());
        view.map(|view| (name.clone(), view))
            .map_err(std::io::Error::other)
            .with_context(impossible)
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    // One entry: of several the library writes a different order each time, and equal states should
    // be equal files.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(std::io::Error::other)
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok(write_file(path, &bytes)?)
}

fn first(moments: &Moments) -> &Tensor<1> {
    &moments.first
}

fn second(moments: &Moments) -> &Tensor<1> {
    &moments.second
}
