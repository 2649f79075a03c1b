//! A model from a checkpoint.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use burn_store::burn_pack::{Error as PackError, Tensor as PackTensor};
use burn_store::{ModuleSnapshot, bridge};

use super::WeightsError;
use super::checkpoint::{Checkpoint, read_config};
use super::keep::{WeightForm, keep};
use super::named::parameters_by_path;
use super::plan::{ParameterPlan, plan};
use crate::{DeepSeek, DeepSeekConfig, WeightInit, with_value};

/// What to take from a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// What becomes of its MTP modules.
    pub mtp: MtpWeights,
    /// In what form its weights are loaded.
    pub weights: WeightForm,
}

/// Whether a model is loaded with the MTP modules of its checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MtpWeights {
    /// With as many as its config says, for training and for speculative decoding; without, where
    /// the checkpoint has nothing of them, and then the model's config says that it has none.
    #[default]
    Load,
    /// Without; their tensors are ignored, and the model's config says that it has none.
    Drop,
}

/// Loads a model: `config.json` and its weights, from a directory or from a file with the config
/// beside it.
///
/// Weights are read tensor by tensor into F32 parameters, from F32, F16, BF16, or E4M3 with a scale
/// for each 128 x 128 block (`weight_scale_inv`, as DeepSeek publishes them, in F32, BF16 or E8M0).
/// Experts have tensors of their own, or one for all of a layer as transformers 5 has them. A
/// directory holds `model.safetensors`, or shards and their `model.safetensors.index.json`, or any
/// safetensors files; of these the first that is there counts. A tensor may be in two files if it
/// is the same.
///
/// Tensors that the model has no place for are refused, except a tied head, the copies of embedding
/// and head in MTP layers, whole MTP layers where the model has none, and rope's buffers.
///
/// # Errors
///
/// No checkpoint, a damaged file, an impossible config, or the list of all tensors that are
/// missing, left over, or of a wrong shape or type; a weight that is no finite number.
pub fn load_model(
    path: impl AsRef<Path>,
    device: &Device,
    options: &LoadOptions,
) -> Result<DeepSeek, WeightsError> {
    let path = path.as_ref();
    let checkpoint = Checkpoint::open(path)?;
    let mut config = read_config(path)?;
    if options.mtp == MtpWeights::Drop {
        config.num_nextn_predict_layers = 0;
    }
    // The plan comes first: a wrong checkpoint is refused before a model is allocated.
    let planned = plan(&config, &checkpoint)?;
    config.num_nextn_predict_layers -= planned.absent_mtp;
    let mut model = DeepSeek::new(&config, WeightInit::zeros(device))?;
    let parameters = match options.weights {
        WeightForm::F32 => planned.parameters,
        WeightForm::AsStored => keep(&mut model, &checkpoint, planned.parameters)?,
    };
    fill(model, checkpoint, parameters)
}

/// A model that took weights.
#[derive(Debug)]
pub struct LoadedWeights {
    /// The model.
    pub model: DeepSeek,
    /// MTP modules that the checkpoint has nothing of: all of the model's, or none. They are as
    /// they were.
    pub absent_mtp: usize,
}

/// Replaces a model's weights by those of a checkpoint, whose `config.json`, if any, is not read.
///
/// The parameters keep their identity and their device, so optimizer state stays with them. A model
/// without MTP modules ignores those of the checkpoint; a model with some keeps its own where the
/// checkpoint has none.
///
/// # Errors
///
/// As [`load_model`]; the model is gone then. Also a model whose parameters are not those of its
/// own config.
pub fn load_weights(
    model: DeepSeek,
    path: impl AsRef<Path>,
) -> Result<LoadedWeights, WeightsError> {
    let checkpoint = Checkpoint::open(path.as_ref())?;
    let planned = plan(model.config(), &checkpoint)?;
    parameters_by_path(&model)?;
    let model = fill(model, checkpoint, planned.parameters)?;
    Ok(LoadedWeights { model, absent_mtp: planned.absent_mtp })
}

/// What of a parameter a module has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldParameter {
    /// The parameter.
    pub id: ParamId,
    /// Its path in the whole model, as [`NamedSlice::parameter`](super::NamedSlice) has it.
    pub path: String,
    /// Its elements, of all that the whole model's has.
    pub elements: Range<usize>,
}

/// Compares a checkpoint with the model of `config`, by its headers alone: the MTP modules that it
/// has nothing of, all of the model's or none.
///
/// # Errors
///
/// As [`load_model`], but for what is found when weights are read.
pub fn check_weights(
    config: &DeepSeekConfig,
    path: impl AsRef<Path>,
) -> Result<usize, WeightsError> {
    Ok(plan(config, &Checkpoint::open(path.as_ref())?)?.absent_mtp)
}

/// Replaces the weights of a part of the model of `config` by those of a checkpoint, of which
/// nothing else is read; at most one parameter is in memory besides the part. Parameters that are
/// not `held` stay as they are, as do those of MTP modules where the checkpoint has none. `read` is
/// told of each that was read.
///
/// # Errors
///
/// As [`load_weights`].
pub fn load_part<M: Module>(
    part: M,
    held: &[HeldParameter],
    config: &DeepSeekConfig,
    path: impl AsRef<Path>,
    read: &mut dyn FnMut(),
) -> Result<M, WeightsError> {
    let checkpoint = Checkpoint::open(path.as_ref())?;
    let plans = plan(config, &checkpoint)?.parameters;
    let mut plans: HashMap<String, ParameterPlan> =
        plans.into_iter().map(|plan| (plan.parameter.clone(), plan)).collect();
    let wanted = held
        .iter()
        .filter_map(|held| Some((held.id, (plans.remove(&held.path)?, held.elements.clone()))));
    let mut filling = Filling { wanted: wanted.collect(), checkpoint, failure: None, read };
    let part = part.map(&mut filling);
    filling.failure.map_or(Ok(part), Err)
}

/// Reads the parameters of a part as it is walked.
struct Filling<'a> {
    wanted: HashMap<ParamId, (ParameterPlan, Range<usize>)>,
    checkpoint: Checkpoint,
    failure: Option<WeightsError>,
    read: &'a mut dyn FnMut(),
}

impl ModuleMapper for Filling<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((plan, range)) = self.wanted.remove(&param.id) else { return param };
        if self.failure.is_some() {
            return param;
        }
        match plan.read_range(&self.checkpoint, range) {
            Ok(values) => {
                (self.read)();
                let (count, device) = (values.len(), param.lazy_device());
                with_value(param, Tensor::from_data(TensorData::new(values, [count]), &device))
            }
            Err(error) => {
                self.failure = Some(error);
                param
            }
        }
    }
}

/// Reads every parameter as the model is walked, so that at most one is in memory besides the
/// model.
fn fill(
    mut model: DeepSeek,
    checkpoint: Checkpoint,
    plans: Vec<ParameterPlan>,
) -> Result<DeepSeek, WeightsError> {
    let source = Arc::new(Source { checkpoint, failure: Mutex::new(None) });
    let tensors = plans.into_iter().map(|plan| deferred(plan, source.clone())).collect();
    let result = model.apply(tensors, None, None, true);
    if let Some(failure) = source.take_failure() {
        return Err(failure);
    }
    match result.errors.first() {
        Some(error) => Err(WeightsError::Apply { reason: error.to_string() }),
        None => Ok(model),
    }
}

/// What the deferred parameters are read from. The store carries errors as text, so the first one
/// waits here with its type.
struct Source {
    checkpoint: Checkpoint,
    failure: Mutex<Option<WeightsError>>,
}

impl Source {
    fn take_failure(&self) -> Option<WeightsError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn read(&self, plan: &ParameterPlan) -> Result<TensorData, PackError> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_some() {
            return Err(PackError::ValidationError(
                "an earlier parameter could not be read".into(),
            ));
        }
        match plan.read(&self.checkpoint) {
            Ok(values) => Ok(TensorData::new(values, plan.shape.clone())),
            Err(error) => {
                let text = error.to_string();
                *failure = Some(error);
                Err(PackError::IoError(text))
            }
        }
    }
}

fn deferred(plan: ParameterPlan, source: Arc<Source>) -> PackTensor {
    let shape = Shape::from(plan.shape.clone());
    bridge::deferred(plan.parameter.clone(), DType::F32, shape, None, move || source.read(&plan))
}
