//! Flex tensors as plain slices and back.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use cubecl_kernels::host;

/// A tensor whose entries lie in order; copied only where they do not already.
pub(super) struct Contiguous(FlexTensor);

impl Contiguous {
    pub(super) fn new(tensor: FlexTensor) -> Self {
        if tensor.is_contiguous() {
            return Self(tensor);
        }
        Self(joined(&tensor).unwrap_or_else(|| tensor.to_contiguous()))
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

/// FP32 rows that lie one every so many numbers, as parts of a wider tensor do, brought together by
/// all threads; none of a tensor in another order.
fn joined(tensor: &FlexTensor) -> Option<FlexTensor> {
    let layout = tensor.layout();
    let (shape, strides) = (layout.shape(), layout.strides());
    let (&[.., row_stride, 1], [rows @ .., width]) = (strides, &shape[..]) else { return None };
    let row_stride = usize::try_from(row_stride).ok()?;
    // The rows of all leading dims follow each other at one distance.
    let even = (1..rows.len()).all(|d| strides[d - 1] == strides[d] * rows[d] as isize);
    if tensor.dtype() != DType::F32 || !even {
        return None;
    }
    let from = tensor.storage::<f32>().get(layout.start_offset()..)?;
    let rows = host::join_rows(from, rows.iter().product(), *width, row_stride).ok()?;
    Some(self::tensor(rows, shape.clone()))
}

/// The tensor as the whole of its buffer, to be changed in place: one that is a part of another's,
/// or lies in another order, is copied.
pub(super) fn whole(tensor: FlexTensor) -> FlexTensor {
    if is_whole(&tensor) { tensor } else { tensor.to_contiguous() }
}

/// `x + y`, in place where one of them is nobody else's.
pub(super) fn sum(x: FlexTensor, y: FlexTensor) -> FlexTensor {
    let in_order = |t: &FlexTensor| t.dtype() == DType::F32 && t.is_contiguous();
    if x.shape() != y.shape() || !in_order(&x) || !in_order(&y) {
        return burn::backend::Flex::float_add(x, y);
    }
    let (mut x, y) = if is_own(&x) { (x, y) } else { (y, x) };
    let (own, shape, y) = (is_own(&x), x.shape(), Contiguous(y));
    let added = if own {
        host::sum_into(x.storage_mut(), y.floats()).map(|()| x)
    } else {
        host::sum(Contiguous(x).floats(), y.floats()).map(|sum| tensor(sum, shape))
    };
    added.expect("invariant: both have one shape")
}

/// Whether a tensor's numbers are the whole of a buffer that nobody else has.
fn is_own(tensor: &FlexTensor) -> bool {
    tensor.is_unique() && is_whole(tensor)
}

/// Whether a tensor's numbers are the whole of its buffer, in order.
fn is_whole(tensor: &FlexTensor) -> bool {
    let bytes = tensor.shape().num_elements() * tensor.dtype().size();
    tensor.is_contiguous() && tensor.bytes().len() == bytes
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
