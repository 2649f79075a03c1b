//! One tensor of a checkpoint as it is stored: its form, and its place in a parameter.

use safetensors::Dtype;

use super::decode::BLOCK;

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredForm {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// E4M3 codes, and beside them a scale for each block of 128 x 128.
    Fp8 {
        /// Type of the scales: F32, BF16 or F8_E8M0.
        scales: Dtype,
    },
}

impl StoredForm {
    /// Its name in a safetensors header.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
            Self::Fp8 { .. } => Dtype::F8_E4M3,
        }
    }

    /// Bytes of an element.
    pub fn size_bytes(self) -> usize {
        self.dtype().bitsize() / 8
    }
}

/// The name of the scales of a quantized tensor.
pub(super) fn scale_name(weight: &str) -> String {
    format!("{weight}_scale_inv")
}

/// A tensor of a checkpoint and its place in a parameter: `matrices` of `[rows, columns]`, one after
/// the other, from element `offset` of the row-major parameter on.
///
/// A vector is a matrix of one row. Each matrix has scales of its own, so blocks never reach from
/// one into the next.
#[derive(Clone, Debug)]
pub(super) struct StoredPart {
    /// Name in the checkpoint.
    pub name: String,
    /// Shape in the checkpoint.
    pub shape: Vec<usize>,
    /// First element in the parameter.
    pub offset: usize,
    /// Matrices in it: one, or those of all experts.
    pub matrices: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
    /// How it is stored.
    pub form: StoredForm,
}

impl StoredPart {
    /// Elements of the tensor.
    pub fn elements(&self) -> usize {
        self.matrices * self.rows * self.columns
    }

    /// Rows and columns of the scales of each matrix.
    pub fn blocks(&self) -> [usize; 2] {
        [self.rows.div_ceil(BLOCK), self.columns.div_ceil(BLOCK)]
    }

    /// Scales of all matrices.
    pub fn scale_count(&self) -> usize {
        let [rows, columns] = self.blocks();
        self.matrices * rows * columns
    }

    /// The index in each of the tensor's dimensions of an element of it.
    pub fn position(&self, element: usize) -> Vec<usize> {
        position(&self.shape, element)
    }
}

/// The index in each dimension of an element of a row-major tensor.
pub(super) fn position(shape: &[usize], mut element: usize) -> Vec<usize> {
    let mut position = vec![0; shape.len()];
    for (index, &size) in position.iter_mut().zip(shape).rev() {
        (*index, element) = (element % size.max(1), element / size.max(1));
    }
    position
}
