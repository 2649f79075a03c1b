//! Rows by expert, and shapes of what the FP8 operations give, for backends that name a result
//! before it is there as for those that compute it.

use std::sync::Arc;

use burn::tensor::Shape;
use cubecl_kernels::definition::{GroupedColumns, GroupedLinearShape, e5m6_words, tiles, words};

use crate::backend::kernels::done;
use crate::definition::{ExpertGroups, Kept};

/// Rows of a matrix by expert: `offsets[e]..offsets[e + 1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowGroups {
    offsets: Arc<[usize]>,
    /// What backends have made of the offsets; shared with the routing decision that they are of.
    kept: Kept,
}

impl RowGroups {
    /// All rows in one group.
    pub fn one(rows: usize) -> Self {
        Self { offsets: Arc::new([0, rows]), kept: Kept::default() }
    }

    /// Groups by their offsets, which rise from 0; kernels check that they do.
    #[cfg(feature = "remote")]
    pub(in crate::backend) fn from_offsets(offsets: Vec<usize>) -> Self {
        Self { offsets: offsets.into(), kept: Kept::default() }
    }

    /// `groups + 1` rising offsets from 0 to the number of rows.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// What backends have made of the offsets.
    #[cfg(feature = "cube")]
    pub(in crate::backend) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of all groups.
    pub fn rows(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }
}

impl From<&ExpertGroups> for RowGroups {
    fn from(groups: &ExpertGroups) -> Self {
        Self { offsets: groups.offsets().into(), kept: groups.kept().clone() }
    }
}

/// Which product of a linear a weight is used in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `y = x w^T`.
    Fprop,
    /// `dx = dy w`.
    Dgrad,
}

impl Side {
    /// The dims of what this product of a linear gives.
    pub(in crate::backend) fn result_dims(self, shape: &GroupedLinearShape) -> [usize; 2] {
        match self {
            Self::Fprop => [shape.rows, shape.outputs],
            Self::Dgrad => [shape.rows, shape.inputs],
        }
    }
}

/// The shapes of a quantized matrix: of its codes and of its scales.
#[derive(Clone, Copy)]
pub(in crate::backend) struct MatrixShape {
    pub codes: [usize; 2],
    pub scales: [usize; 2],
}

impl MatrixShape {
    fn new(rows: usize, words: usize, tiles: usize) -> Self {
        Self { codes: [rows, words], scales: [rows, tiles] }
    }

    /// A matrix in 1x128 tiles.
    pub fn row_tiled([rows, columns]: [usize; 2]) -> Self {
        Self::new(rows, words(columns), tiles(columns))
    }

    /// A matrix in 128x1 tiles: transposed, group after group.
    pub fn column_tiled(groups: &RowGroups, columns: usize) -> Self {
        let layout = done(GroupedColumns::new("fp8", groups.offsets(), groups.rows()));
        let last = |sums: &[usize]| sums.last().copied().unwrap_or(0);
        Self::new(columns, last(&layout.words), last(&layout.tiles))
    }

    /// A matrix in E5M6, in 1x128 tiles.
    pub fn e5m6([rows, columns]: [usize; 2]) -> Self {
        Self::new(rows, e5m6_words(columns), tiles(columns))
    }
}

/// The sizes of a weight that is quantized.
#[derive(Clone, Copy)]
pub(in crate::backend) struct WeightShape {
    pub experts: usize,
    pub outputs: usize,
    pub inputs: usize,
}

impl WeightShape {
    /// The sizes of w `[outputs, inputs]` or `[experts, outputs, inputs]`.
    pub fn of(w: &Shape) -> Self {
        let (experts, [outputs, inputs]) = match w.num_dims() {
            2 => (1, w.dims()),
            _ => {
                let [experts, outputs, inputs] = w.dims();
                (experts, [outputs, inputs])
            }
        };
        Self { experts, outputs, inputs }
    }

    pub fn codes(self) -> [usize; 2] {
        [self.experts * self.outputs, words(self.inputs)]
    }

    pub fn transposed(self) -> [usize; 2] {
        [self.experts * self.inputs, words(self.outputs)]
    }

    pub fn scales(self) -> [usize; 2] {
        [self.experts * tiles(self.outputs), tiles(self.inputs)]
    }
}
