//! What to read for each parameter, decided from the headers alone: every problem of every tensor
//! is found before any is read.

use std::collections::{BTreeMap, HashSet};
use std::ops::{ControlFlow, Range};

use safetensors::Dtype;

use super::checkpoint::Checkpoint;
use super::decode::BLOCK;
use super::ignored::{IgnoredTensor, Unplaced};
use super::names::{Fused, ParameterTensors, for_each_parameter};
use super::stored::{StoredForm, StoredPart, scale_name};
use super::{NamedSlice, TensorProblem, WeightsError};
use crate::DeepSeekConfig;

const MATRIX_DTYPES: &str = "F32, F16, BF16, or F8_E4M3 with 128 x 128 block scales beside it";
const VECTOR_DTYPES: &str = "F32, F16 or BF16";
const SCALE_DTYPES: &str = "F32, BF16 or F8_E8M0";

/// So many problems end the search: a configuration may claim any number of tensors.
const MOST_PROBLEMS: usize = 1 << 16;

/// A parameter and the tensors that fill it.
#[derive(Debug)]
pub(super) struct ParameterPlan {
    /// Path in the model.
    pub parameter: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The tensors, in the order of their places in it.
    pub parts: Vec<StoredPart>,
}

impl ParameterPlan {
    /// Reads the parameter, tensor by tensor.
    ///
    /// # Errors
    ///
    /// A read that fails, a value that is not finite.
    pub fn read(&self, checkpoint: &Checkpoint) -> Result<Vec<f32>, WeightsError> {
        self.read_range(checkpoint, 0..self.shape.iter().product())
    }

    /// Reads some of the parameter's elements; tensors that have none of them are left alone.
    ///
    /// # Errors
    ///
    /// A read that fails, a value that is not finite.
    pub fn read_range(
        &self,
        checkpoint: &Checkpoint,
        range: Range<usize>,
    ) -> Result<Vec<f32>, WeightsError> {
        let mut values = vec![0.0; range.len()];
        for part in &self.parts {
            let (start, end) = (part.offset, part.offset + part.elements());
            let (first, last) = (start.max(range.start), end.min(range.end));
            if first < last {
                let out = &mut values[first - range.start..last - range.start];
                part.read_range_f32(checkpoint, first - start, out)?;
            }
        }
        Ok(values)
    }
}

/// What a checkpoint has of a model, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// How to fill each parameter, as far as that is possible.
    pub parameters: Vec<ParameterPlan>,
    /// What is wrong.
    pub problems: Vec<TensorProblem>,
    /// Whether so much is wrong that the search ended.
    pub cut: bool,
    /// Tensors that are there, are not read, and do no harm.
    pub ignored: BTreeMap<String, IgnoredTensor>,
    /// MTP modules of the configuration that the checkpoint has nothing of.
    pub absent_mtp: usize,
}

/// Compares a checkpoint with the model of configuration `config`.
///
/// Where it has no tensor of any MTP module, `absent_mtp` says how many there should be and nothing
/// is planned for them: tools that do not know MTP save models without. [`Unplaced`] says which
/// tensors without a place are no problem.
pub(super) fn survey(config: &DeepSeekConfig, checkpoint: &Checkpoint) -> Survey {
    let unplaced = Unplaced::new(config, checkpoint);
    let mut survey = Survey { problems: checkpoint.problems.clone(), ..Survey::default() };
    let mut known = config.clone();
    if !unplaced.has_mtp() {
        survey.absent_mtp = config.num_nextn_predict_layers;
        known.num_nextn_predict_layers = 0;
    }
    let mut used = HashSet::new();
    let not_in_shard: HashSet<String> =
        survey.problems.iter().map(|problem| problem.name().to_string()).collect();
    let walk = for_each_parameter(&known, &mut |tensors| {
        let (parameter, shape) = (tensors.path.to_string(), tensors.shape.to_vec());
        let mut parts = Vec::new();
        let walk = stored_parts(tensors, checkpoint, &mut |names, checked| {
            used.extend(names.into_iter().filter(|name| checkpoint.get(name).is_some()));
            match checked {
                Ok(part) => parts.push(part),
                // What an index misplaces is not missing as well.
                Err(TensorProblem::Missing { name, .. }) if not_in_shard.contains(&name) => {}
                Err(problem) => survey.problems.push(problem),
            }
            match survey.problems.len() {
                MOST_PROBLEMS.. => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        survey.parameters.push(ParameterPlan { parameter, shape, parts });
        walk
    });
    survey.cut = walk.is_break();
    if !survey.cut {
        for name in checkpoint.names().filter(|name| !used.contains(*name)) {
            match unplaced.judge(name, checkpoint) {
                Ok(ignored) => _ = survey.ignored.insert(name.to_string(), ignored),
                Err(problem) => survey.problems.push(problem),
            }
        }
    }
    survey
}

/// Plans the reading of a model of configuration `config`.
///
/// # Errors
///
/// All tensors that are missing, left over, or of a shape or type that does not fit.
pub(super) fn plan(
    config: &DeepSeekConfig,
    checkpoint: &Checkpoint,
) -> Result<Survey, WeightsError> {
    let survey = survey(config, checkpoint);
    if survey.problems.is_empty() {
        return Ok(survey);
    }
    let Survey { problems, cut, .. } = survey;
    Err(WeightsError::Tensors { path: checkpoint.path.clone(), problems, cut })
}

/// Hands over each tensor that fills a parameter, as the checkpoint has it: the names that it takes
/// and the part, or what is wrong with it.
fn stored_parts(
    tensors: ParameterTensors<'_>,
    checkpoint: &Checkpoint,
    each: &mut dyn FnMut(Vec<String>, Result<StoredPart, TensorProblem>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let (fused, shape) = (tensors.fused.clone(), tensors.shape.to_vec());
    let mut slices = tensors.slices().peekable();
    if let (Some(Fused { name, per_expert }), Some(first)) = (fused, slices.peek())
        && checkpoint.get(&name).is_some()
        && checkpoint.get(&first.name).is_none()
    {
        let [rows, columns] = matrix(&first.shape);
        let experts = shape.first().copied().unwrap_or(0);
        let part = |form| StoredPart {
            name: name.clone(),
            shape: shape.clone(),
            offset: 0,
            matrices: experts * per_expert,
            rows,
            columns,
            form,
        };
        let blocks = [experts, per_expert * rows.div_ceil(BLOCK), columns.div_ceil(BLOCK)];
        let checked = stored_form(&name, &shape, Some(&blocks), checkpoint).map(part);
        return each(names_of(&name, checkpoint), checked);
    }
    for NamedSlice { name, shape, offset, .. } in slices {
        let [rows, columns] = matrix(&shape);
        let blocks = [rows.div_ceil(BLOCK), columns.div_ceil(BLOCK)];
        let blocks = (shape.len() == 2).then_some(&blocks[..]);
        let form = stored_form(&name, &shape, blocks, checkpoint);
        let names = names_of(&name, checkpoint);
        let part =
            form.map(|form| StoredPart { name, shape, offset, matrices: 1, rows, columns, form });
        each(names, part)?;
    }
    ControlFlow::Continue(())
}

/// The names that a tensor takes in a checkpoint: its own, and that of its scales where it has some.
fn names_of(name: &str, checkpoint: &Checkpoint) -> Vec<String> {
    let quantized = checkpoint.get(name).is_some_and(|tensor| tensor.dtype == Dtype::F8_E4M3);
    let scales = quantized.then(|| scale_name(name));
    scales.into_iter().chain([name.to_string()]).collect()
}

/// Rows and columns of a matrix; a vector is one row.
fn matrix(shape: &[usize]) -> [usize; 2] {
    match *shape {
        [rows, columns] => [rows, columns],
        _ => [1, shape.iter().product()],
    }
}

/// How a tensor is stored, if it can be read; `blocks` is the shape of the scales that it may have.
fn stored_form(
    name: &str,
    shape: &[usize],
    blocks: Option<&[usize]>,
    checkpoint: &Checkpoint,
) -> Result<StoredForm, TensorProblem> {
    match (expect(name, shape, checkpoint)?, blocks) {
        (Dtype::F32, _) => Ok(StoredForm::F32),
        (Dtype::F16, _) => Ok(StoredForm::F16),
        (Dtype::BF16, _) => Ok(StoredForm::Bf16),
        (Dtype::F8_E4M3, Some(blocks)) => {
            let scale = scale_name(name);
            match expect(&scale, blocks, checkpoint)? {
                scales @ (Dtype::F32 | Dtype::BF16 | Dtype::F8_E8M0) => {
                    Ok(StoredForm::Fp8 { scales })
                }
                found => Err(dtype_problem(&scale, found, SCALE_DTYPES, checkpoint)),
            }
        }
        (found, Some(_)) => Err(dtype_problem(name, found, MATRIX_DTYPES, checkpoint)),
        (found, None) => Err(dtype_problem(name, found, VECTOR_DTYPES, checkpoint)),
    }
}

/// The type of a tensor of this name and shape.
pub(super) fn expect(
    name: &str,
    shape: &[usize],
    checkpoint: &Checkpoint,
) -> Result<Dtype, TensorProblem> {
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
