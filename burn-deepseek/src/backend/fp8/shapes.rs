//! Shapes of what the FP8 operations give, for backends that name a result before it is there as
//! for those that compute it.

use burn::tensor::Shape;
use cubecl_kernels::definition::{GroupedColumns, e5m6_words, tiles, words};

use super::{LinearShape, RowGroups, Side};
use crate::backend::done;

/// Of a quantized matrix.
#[derive(Clone, Copy)]
pub(in crate::backend) struct MatrixShape {
    pub codes: [usize; 2],
    pub scales: [usize; 2],
}

impl MatrixShape {
    fn new(rows: usize, words: usize, tiles: usize) -> Self {
        Self { codes: [rows, words], scales: [rows, tiles] }
    }

    /// In 1x128 tiles.
    pub fn row_tiled([rows, columns]: [usize; 2]) -> Self {
        Self::new(rows, words(columns), tiles(columns))
    }

    /// In 128x1 tiles: transposed, group after group.
    pub fn column_tiled(groups: &RowGroups, columns: usize) -> Self {
        let layout = done(GroupedColumns::new("fp8", groups.offsets(), groups.rows()));
        let last = |sums: &[usize]| sums.last().copied().unwrap_or(0);
        Self::new(columns, last(&layout.words), last(&layout.tiles))
    }

    /// In E5M6, 1x128 tiles.
    pub fn e5m6([rows, columns]: [usize; 2]) -> Self {
        Self::new(rows, e5m6_words(columns), tiles(columns))
    }
}

/// Of a weight that is quantized.
#[derive(Clone, Copy)]
pub(in crate::backend) struct WeightShape {
    pub experts: usize,
    pub outputs: usize,
    pub inputs: usize,
}

impl WeightShape {
    /// Of w `[outputs, inputs]` or `[experts, outputs, inputs]`.
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

impl LinearShape {
    /// Of a product with the weight.
    pub(in crate::backend) fn product(&self, side: Side) -> [usize; 2] {
        match side {
            Side::Fprop => [self.rows, self.outputs],
            Side::Dgrad => [self.rows, self.inputs],
        }
    }

    /// Of the weight's values, the experts one below the other.
    pub(in crate::backend) fn weight_rows(&self) -> [usize; 2] {
        [self.experts * self.outputs, self.inputs]
    }

    /// Of the weight's gradient.
    pub(in crate::backend) fn weight_gradient(&self) -> [usize; 3] {
        [self.experts, self.outputs, self.inputs]
    }
}
