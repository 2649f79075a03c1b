//! Weights that stay as a checkpoint stores them, BF16 or FP8 in blocks.

use std::collections::HashMap;

use burn::tensor::{Bytes, DType, Device, Int, Tensor, TensorData};

use super::WeightsError;
use super::checkpoint::Checkpoint;
use super::plan::ParameterPlan;
use super::slots::{Slot, slots};
use super::stored::{StoredForm, StoredPart};
use crate::DeepSeek;
use crate::definition::{StoredPiece, StoredWeight};

/// In what form a model's weights are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightForm {
    /// As F32 parameters, whatever they are stored as: for training, and for products in other
    /// precisions than FP32.
    #[default]
    F32,
    /// Those that are stored in BF16, or in FP8 with block scales, as they are; others as F32
    /// parameters. For decoding and evaluation in FP32: results have the bits of those with F32
    /// parameters where the model is in the memory of this process, and the model has no gradients.
    ///
    /// There the weights are the checkpoint's files, mapped into memory: they must not be changed
    /// while the model is in use. On another device weights stay as they are if it holds their
    /// type, BF16 or bytes.
    AsStored,
}

/// Puts weights of a checkpoint into a model as they are stored; gives back the plans of what is to
/// be read as F32.
///
/// # Errors
///
/// A read that fails, a value that is not finite.
pub(super) fn keep(
    model: &mut DeepSeek,
    checkpoint: &Checkpoint,
    plans: Vec<ParameterPlan>,
) -> Result<Vec<ParameterPlan>, WeightsError> {
    let device = model.device();
    let mut slots: HashMap<String, Slot<'_>> = slots(model).into_iter().collect();
    let mut others = Vec::new();
    for plan in plans {
        match slots.remove(&plan.parameter).filter(|_| stays(&plan, &device)) {
            Some(slot) => slot.fill(stored(&plan, checkpoint, &device)?),
            None => others.push(plan),
        }
    }
    Ok(others)
}

/// Whether all of a weight is stored in a form that the device holds.
fn stays(plan: &ParameterPlan, device: &Device) -> bool {
    let held = |part: &StoredPart| match part.form {
        StoredForm::Bf16 => device.supports_dtype(DType::BF16),
        StoredForm::Fp8 { .. } => device.supports_dtype(DType::U8),
        StoredForm::F32 | StoredForm::F16 => false,
    };
    // Files are little-endian, and there are no gradients.
    cfg!(target_endian = "little")
        && !device.is_autodiff()
        && !plan.parts.is_empty()
        && plan.parts.iter().all(held)
}

fn stored(
    plan: &ParameterPlan,
    checkpoint: &Checkpoint,
    device: &Device,
) -> Result<StoredWeight, WeightsError> {
    let mut pieces = Vec::new();
    for part in &plan.parts {
        part.check(checkpoint)?;
        let dims @ [rows, columns] = [part.rows, part.columns];
        let bytes = |matrix: usize| {
            let len = rows * columns * part.form.size_bytes();
            checkpoint.bytes(&part.name, matrix * len, len, part.form.size_bytes())
        };
        match part.fp8() {
            None => {
                for matrix in 0..part.matrices {
                    let values = tensor_data(bytes(matrix)?, dims, DType::BF16);
                    let options = (device, DType::BF16);
                    pieces.push(StoredPiece::Bf16(Tensor::from_data(values, options)));
                }
            }
            Some(fp8) => {
                let (blocks, scales) = (part.blocks(), fp8.read_scales(checkpoint)?);
                let scales = scales.chunks_exact(blocks[0] * blocks[1]);
                for (matrix, scales) in (0..part.matrices).zip(scales) {
                    let codes = tensor_data(bytes(matrix)?, dims, DType::U8);
                    let scales = TensorData::new(scales.to_vec(), blocks);
                    pieces.push(StoredPiece::E4m3 {
                        codes: Tensor::<2, Int>::from_data(codes, (device, DType::U8)),
                        scales: Tensor::from_data(scales, device),
                    });
                }
            }
        }
    }
    Ok(StoredWeight::new(&plan.shape, pieces))
}

fn tensor_data(bytes: Bytes, dims: [usize; 2], dtype: DType) -> TensorData {
    TensorData::from_bytes(bytes, dims, dtype)
}
