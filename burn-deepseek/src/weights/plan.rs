//! What to read for each parameter, decided from the headers alone: every problem of every tensor
//! is found before any is read.

use std::collections::{BTreeSet, HashSet};

use safetensors::Dtype;

use super::checkpoint::Checkpoint;
use super::decode::{BLOCK, decode, dequantize};
use super::{NamedSlice, TensorProblem, WeightsError, named_slices};
use crate::DeepSeekConfig;

/// What the name of a quantized weight's scales ends with.
const SCALE_SUFFIX: &str = "_scale_inv";
const MATRIX_DTYPES: &str = "F32, F16, BF16, or F8_E4M3 with 128 x 128 block scales beside it";
const VECTOR_DTYPES: &str = "F32, F16 or BF16";

/// A parameter and the tensors that fill it.
#[derive(Debug)]
pub(super) struct ParameterPlan {
    /// Path in the model.
    pub parameter: String,
    /// Its shape.
    pub shape: Vec<usize>,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    slice: NamedSlice,
    dtype: Dtype,
}

impl ParameterPlan {
    /// Reads the parameter, tensor by tensor.
    ///
    /// # Errors
    ///
    /// A read that fails.
    pub fn read(&self, checkpoint: &Checkpoint) -> Result<Vec<f32>, WeightsError> {
        let mut values = vec![0.0; self.shape.iter().product()];
        for Part { slice, dtype } in &self.parts {
            let bytes = checkpoint.read(&slice.name)?;
            let out = &mut values[slice.offset..][..slice.elements()];
            match (dtype, &slice.shape[..]) {
                (Dtype::F8_E4M3, &[rows, columns]) => {
                    let mut scales = vec![0.0; rows.div_ceil(BLOCK) * columns.div_ceil(BLOCK)];
                    decode(Dtype::F32, &checkpoint.read(&scale_name(&slice.name))?, &mut scales);
                    dequantize(&bytes, &scales, columns, out);
                }
                _ => decode(*dtype, &bytes, out),
            }
        }
        Ok(values)
    }
}

pub(super) fn scale_name(weight: &str) -> String {
    format!("{weight}{SCALE_SUFFIX}")
}

/// Plans the reading of a model of configuration `config`.
///
/// Tensors without a place are refused, except for these:
/// - `lm_head.weight` of the embedding's shape, where the head is tied;
/// - copies of the embedding and of the head in an MTP layer (`embed_tokens.weight`,
///   `shared_head.head.weight`), as released checkpoints have them, of the same shape;
/// - all of a layer `model.layers.{i}` with an `eh_proj`, past the model's own layers, where the
///   model has no MTP modules.
///
/// # Errors
///
/// All tensors that are missing, left over, or of a shape or type that does not fit.
pub(super) fn plan(
    config: &DeepSeekConfig,
    checkpoint: &Checkpoint,
) -> Result<Vec<ParameterPlan>, WeightsError> {
    let mut problems = checkpoint.problems.clone();
    let known: HashSet<String> =
        problems.iter().map(|problem| problem.name().to_string()).collect();
    let mut used = HashSet::new();
    let mut plans: Vec<ParameterPlan> = Vec::new();
    for slice in named_slices(config) {
        let checked = check(&slice, checkpoint);
        used.insert(slice.name.clone());
        if checkpoint.get(&slice.name).is_some_and(|tensor| tensor.dtype == Dtype::F8_E4M3) {
            used.insert(scale_name(&slice.name));
        }
        match checked {
            Ok(dtype) => {
                let new = plans.last().is_none_or(|plan| plan.parameter != slice.parameter);
                if new {
                    let (parameter, shape) =
                        (slice.parameter.clone(), slice.parameter_shape.clone());
                    plans.push(ParameterPlan { parameter, shape, parts: Vec::new() });
                }
                if let Some(plan) = plans.last_mut() {
                    plan.parts.push(Part { slice, dtype });
                }
            }
            Err(problem)
                if known.contains(&slice.name)
                    && matches!(problem, TensorProblem::Missing { .. }) => {}
            Err(problem) => problems.push(problem),
        }
    }
    let ignored = Ignored::new(config, checkpoint);
    for name in checkpoint.names().filter(|name| !used.contains(*name)) {
        problems.extend(ignored.problem(name, checkpoint));
    }
    if problems.is_empty() {
        Ok(plans)
    } else {
        Err(WeightsError::Tensors { path: checkpoint.path.clone(), problems })
    }
}

/// The type that a tensor is stored in, if it can be read.
fn check(slice: &NamedSlice, checkpoint: &Checkpoint) -> Result<Dtype, TensorProblem> {
    let dtype = expect(&slice.name, &slice.shape, checkpoint)?;
    let is_matrix = slice.shape.len() == 2;
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(dtype),
        Dtype::F8_E4M3 if is_matrix => {
            let scale = scale_name(&slice.name);
            let blocks: Vec<usize> = slice.shape.iter().map(|n| n.div_ceil(BLOCK)).collect();
            match expect(&scale, &blocks, checkpoint)? {
                Dtype::F32 => Ok(dtype),
                found => Err(dtype_problem(&scale, found, "F32", checkpoint)),
            }
        }
        found => Err(dtype_problem(
            &slice.name,
            found,
            if is_matrix { MATRIX_DTYPES } else { VECTOR_DTYPES },
            checkpoint,
        )),
    }
}

fn expect(name: &str, shape: &[usize], checkpoint: &Checkpoint) -> Result<Dtype, TensorProblem> {
    match checkpoint.get(name) {
        None => Err(TensorProblem::Missing { name: name.to_string(), shape: shape.to_vec() }),
        Some(tensor) if tensor.shape != shape => Err(TensorProblem::Shape {
            name: name.to_string(),
            file: checkpoint.file_of(name),
            expected: shape.to_vec(),
            found: tensor.shape.clone(),
        }),
        Some(tensor) => Ok(tensor.dtype),
    }
}

fn dtype_problem(
    name: &str,
    found: Dtype,
    expected: &'static str,
    checkpoint: &Checkpoint,
) -> TensorProblem {
    let (name, file) = (name.to_string(), checkpoint.file_of(name));
    TensorProblem::DType { name, file, found: found.to_string(), expected }
}

/// The rule for tensors that the model has no place for.
struct Ignored {
    embedding: Vec<usize>,
    tied: bool,
    copies: HashSet<String>,
    dropped: Vec<String>,
}

impl Ignored {
    fn new(config: &DeepSeekConfig, checkpoint: &Checkpoint) -> Self {
        let layers = config.num_hidden_layers;
        let mtp = layers..layers + config.num_nextn_predict_layers;
        let copies = mtp.flat_map(|layer| {
            ["embed_tokens", "shared_head.head"]
                .map(|copy| format!("model.layers.{layer}.{copy}.weight"))
        });
        let dropped: BTreeSet<usize> = if config.num_nextn_predict_layers > 0 {
            BTreeSet::new()
        } else {
            checkpoint.names().filter_map(mtp_layer).filter(|&layer| layer >= layers).collect()
        };
        Self {
            embedding: vec![config.vocab_size, config.hidden_size],
            tied: config.tie_word_embeddings,
            copies: copies.collect(),
            dropped: dropped.into_iter().map(|layer| format!("model.layers.{layer}.")).collect(),
        }
    }

    /// What is wrong with a tensor that nothing asked for; nothing where it is to be ignored.
    fn problem(&self, name: &str, checkpoint: &Checkpoint) -> Option<TensorProblem> {
        if (self.tied && name == "lm_head.weight") || self.copies.contains(name) {
            expect(name, &self.embedding, checkpoint).err()
        } else if self.dropped.iter().any(|prefix| name.starts_with(prefix)) {
            None
        } else {
            Some(TensorProblem::Extra { name: name.to_string(), file: checkpoint.file_of(name) })
        }
    }
}

/// The layer whose `eh_proj` a name is.
fn mtp_layer(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?.strip_suffix(".eh_proj.weight")?.parse().ok()
}
