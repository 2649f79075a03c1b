//! Rows by expert, and shapes of what the FP8 operations give, for backends that name a result
//! before it is there as for those that compute it.

use burn::tensor::Shape;
use cubecl_kernels::definition::{GroupedColumns, GroupedLinearShape, e5m6_words, tiles, words};

use crate::backend::kernels::done;
use crate::definition::ExpertGroups;

/// Sizes of a matrix whose rows are sorted by expert. Which rows are whose is in a table on the
/// device, [`GroupTables::bounds`](crate::definition::GroupTables::bounds), which kernels take
/// beside it; of one group they do not read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGroups {
    pub(in crate::backend) count: usize,
    pub(in crate::backend) rows: usize,
    /// Words and tiles of a row once the rows are transposed: as many as the groups have, or the
    /// most that they could have.
    pub(in crate::backend) words: usize,
    pub(in crate::backend) tiles: usize,
}

impl RowGroups {
    /// All rows in one group.
    pub fn one(rows: usize) -> Self {
        Self { count: 1, rows, words: words(rows), tiles: tiles(rows) }
    }

    /// Rows of so many groups, as a device that makes its tables itself has them
    /// ([`FusedOp::Route`](crate::backend::FusedOp::Route)): nobody on the host knows their numbers.
    pub fn most(rows: usize, groups: usize) -> Self {
        let (words, tiles) =
            (GroupedColumns::most_words(rows, groups), GroupedColumns::most_tiles(rows, groups));
        Self { count: groups, rows, words, tiles }
    }

    /// Rows of a routing decision, by the host's view of it, as Flex has them.
    pub fn exact(groups: &ExpertGroups) -> Self {
        let layout = done(GroupedColumns::new("fp8", groups.offsets(), groups.rows()));
        let last = |sums: &[usize]| sums.last().copied().unwrap_or(0);
        Self {
            count: groups.experts(),
            rows: groups.rows(),
            words: last(&layout.words),
            tiles: last(&layout.tiles),
        }
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Rows of all groups.
    pub fn rows(&self) -> usize {
        self.rows
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
        Self::new(columns, groups.words, groups.tiles)
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
