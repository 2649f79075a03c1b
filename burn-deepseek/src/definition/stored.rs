//! A weight in the form in which a checkpoint stores it.

use std::ops::Range;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

/// Rows of a weight: a matrix, or rows of one, as a tensor of a checkpoint.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a model has some thousands of them, each of a matrix"
)]
pub enum StoredPiece {
    /// BF16 values, `[rows, d_in]`.
    Bf16(Tensor<2>),
    /// E4M3 in 128x128 blocks (3.3.2): a value is its code's times its block's scale.
    E4m3 {
        /// Codes as bytes (U8), `[rows, d_in]`.
        codes: Tensor<2, Int>,
        /// F32, `[rows / 128, d_in / 128]`, both rounded up.
        scales: Tensor<2>,
    },
}

impl StoredPiece {
    /// Rows and their width.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Bf16(values) => values.dims(),
            Self::E4m3 { codes, .. } => codes.dims(),
        }
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        match self {
            Self::Bf16(values) => values.device(),
            Self::E4m3 { codes, .. } => codes.device(),
        }
    }
}

/// A weight as a checkpoint stores it: pieces one below the other (a gate over an up projection),
/// for each expert where there are some. It has no gradient, and products with it are in FP32.
///
/// Clones share the pieces. As a part of a module it has no parameters.
#[derive(Module, Debug)]
pub struct StoredWeight {
    dims: Vec<usize>,
    experts: usize,
    #[module(skip)]
    pieces: Arc<[StoredPiece]>,
}

impl StoredWeight {
    /// A weight `[d_out, d_in]`, or `[experts, d_out, d_in]` whose experts all have as many pieces.
    ///
    /// # Panics
    ///
    /// There is no piece, or the pieces do not fill the weight.
    pub fn new(dims: &[usize], pieces: impl Into<Arc<[StoredPiece]>>) -> Self {
        let pieces = pieces.into();
        let experts = if dims.len() == 3 { dims[0] } else { 1 };
        let (outputs, inputs) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        let stored = Self { dims: dims.to_vec(), experts, pieces };
        assert!(!stored.pieces.is_empty(), "a stored weight has pieces");
        assert_eq!(stored.pieces.len() % experts, 0, "all experts have as many pieces");
        for expert in 0..experts {
            let pieces = stored.expert(expert);
            let rows: usize = pieces.iter().map(|piece| piece.dims()[0]).sum();
            assert_eq!(rows, outputs, "the pieces have the rows of the weight");
            assert!(pieces.iter().all(|piece| piece.dims()[1] == inputs), "and their width");
        }
        stored
    }

    /// Its dims.
    pub fn dims<const D: usize>(&self) -> [usize; D] {
        self.dims[..].try_into().expect("invariant: a weight is asked for the dims that it has")
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        self.pieces[0].device()
    }

    /// Its pieces in order, those of all experts.
    pub fn pieces(&self) -> &[StoredPiece] {
        &self.pieces
    }

    /// The pieces of an expert; of a weight without experts, all as those of number 0.
    pub fn expert(&self, expert: usize) -> &[StoredPiece] {
        let count = self.pieces.len() / self.experts;
        &self.pieces[expert * count..(expert + 1) * count]
    }

    /// The weight with some of its experts alone.
    pub fn with_experts(&self, experts: Range<usize>) -> Self {
        let pieces: Vec<_> = experts.clone().flat_map(|e| self.expert(e).iter().cloned()).collect();
        Self::new(&[&[experts.len()], &self.dims[1..]].concat(), pieces)
    }
}
