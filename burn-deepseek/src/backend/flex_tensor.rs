//! Flex tensors as plain slices and back.

use burn::backend::TensorMetadata;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};

/// A tensor whose entries lie in order; copied only where they do not already.
pub(super) struct Contiguous(FlexTensor);

impl Contiguous {
    pub(super) fn new(tensor: FlexTensor) -> Self {
        if tensor.is_contiguous() { Self(tensor) } else { Self(tensor.to_contiguous()) }
    }

    /// The entries of an FP32 tensor.
    pub(super) fn floats(&self) -> &[f32] {
        self.0.as_slice().expect("invariant: fused operations are called with FP32 tensors")
    }

    /// The entries of a tensor of words.
    pub(super) fn words(&self) -> &[u32] {
        self.0.as_slice().expect("invariant: words are U32 tensors")
    }
}

/// The tensor as the whole of its buffer, to be changed in place: one that is a part of another's,
/// or lies in another order, is copied.
pub(super) fn whole(tensor: FlexTensor) -> FlexTensor {
    let bytes = tensor.shape().num_elements() * tensor.dtype().size();
    if tensor.is_contiguous() && tensor.bytes().len() == bytes {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// A tensor that owns words of codes.
pub(super) fn word_tensor(words: Vec<u32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(words), Layout::contiguous(shape.into()), DType::U32)
}

/// The entries of an int tensor, whatever its width.
pub(super) fn ints(tensor: &FlexTensor) -> Vec<i64> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I32 => tensor.as_slice::<i32>().map(|s| s.iter().map(|&v| i64::from(v)).collect()),
        DType::I64 => tensor.as_slice::<i64>().map(<[i64]>::to_vec),
        DType::U32 => tensor.as_slice::<u32>().map(|s| s.iter().map(|&v| i64::from(v)).collect()),
        other => panic!("token tensors are I32, I64 or U32 on Flex, not {other:?}"),
    }
    .expect("invariant: the tensor is contiguous and of the matched type")
}

/// The first row of each expert, and the number of rows: the first line of a table of bounds.
pub(super) fn first_rows(bounds: FlexTensor) -> Vec<usize> {
    let [_, ends] = dims(&bounds);
    let bounds = Contiguous::new(bounds);
    bounds.words()[..ends].iter().map(|&row| row as usize).collect()
}

/// A tensor that owns `values`.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape.into()), DType::F32)
}

/// The dims of a tensor of known rank.
pub(super) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.shape().dims()
}
