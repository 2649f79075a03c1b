//! Which products are in BF16 on a device, and by which tile.
//!
//! | Format asked for | Device with [`MatrixUnit::Instruction`] | any other |
//! |---|---|---|
//! | FP32 | FP32 by multiply-adds | FP32 by multiply-adds |
//! | BF16 | `mma`, operands rounded on the way into shared memory | FP32 by multiply-adds |
//! | three parts of BF16 | FP32 by multiply-adds | FP32 by multiply-adds |
//!
//! On compute capability 9.0 large products that are not by groups along the depth are by `wgmma`,
//! which takes both operands from shared memory in BF16: copies of them in pairs along the depth are
//! made first, for the copy engine ([`warpgroups_pay`]).
//!
//! # Rejected
//! None of it was measured, since no device was at hand; the reasons are counts.
//! - Copies in pairs for `mma` too: it would load half as much, by `cp.async`; each operand of a
//!   linear's three products lies once one way and once the other, so that each needs one of its own.
//! - Operands along the lines turned while they are stored into shared memory: stores of half a word,
//!   where `ldmatrix` turns them as it loads.
//! - A tile of 128x256 for 256 units: 128 sums a unit beside 48 numbers under way, and one cube on a
//!   multiprocessor; of 128x128 most forms take 128 registers, so that two fit.

use crate::definition::ProductFormat;
use crate::device::matrix::fragment::{COLUMNS, HELD, PLANE, ROWS};
use crate::device::tile::Along;
use crate::device::{MatrixUnit, matrix_unit};
use cubecl::prelude::*;

/// What computes the products of linears on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinearPath {
    /// FP32 multiply-adds.
    F32,
    /// Operands rounded to BF16, sums in FP32, by a matrix unit.
    Bf16(MatrixUnit),
}

impl LinearPath {
    /// The path of a device for a format: BF16 where it is asked for and the device has matrix
    /// instructions for it ([`matrix_unit`] says why it has not), FP32 otherwise.
    pub fn of(client: &Client, format: ProductFormat) -> Self {
        match format {
            ProductFormat::Bf16 => matrix_unit(client).map_or(Self::F32, Self::Bf16),
            ProductFormat::F32 | ProductFormat::Bf16x3 => Self::F32,
        }
    }
}

/// The kernel of a product on a device with the instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MatrixKernel {
    /// `mma` of planes, on operands as they lie.
    Planes,
    /// `wgmma` of warpgroups, on copies of the operands in pairs.
    Warpgroups,
}

/// How many numbers of `C` a line of an operand must make for a copy of it to pay. By count: a copy
/// moves 6 bytes a number, at 3.3 TB/s 1.8 ps; what it saves a multiply-add is what loads from the L2
/// cache would take, at 5.5 TB/s with 32 KB for 128x128x32 of them against 128x128x64, some 6 fs. So
/// 300; not measured, and rounded up.
const COPIES_PAY: usize = 512;

/// Whether copies in pairs pay for a product of so many rows, columns and depths, of whose right
/// operand there is one a group.
pub(super) fn warpgroups_pay([m, n, k]: [usize; 3], groups: usize) -> bool {
    let numbers = m.saturating_mul(n);
    k >= 128 && numbers >= COPIES_PAY.saturating_mul(m.saturating_add(groups.saturating_mul(n)))
}

/// Depth that is staged at once.
pub(super) const STEP: u32 = 32;
/// Numbers that a unit loads together.
pub(super) const QUAD: u32 = 4;
/// From one row in shared memory to the next there are so many more words than a row has, so that
/// eight rows of four words are in 32 different banks.
const APART: u32 = 4;

/// The tile of `C` that a cube computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MatrixTile {
    /// Planes along rows and columns.
    pub(super) planes: (u32, u32),
    /// Rows and columns of a plane.
    pub(super) plane: (u32, u32),
}

impl MatrixTile {
    pub(super) const fn of(unit: MatrixUnit) -> Self {
        match unit {
            MatrixUnit::Instruction => Self { planes: (4, 2), plane: (32, 64) },
            // Small, for a device without room, and of two planes and two matrices both ways.
            MatrixUnit::Emulated => Self { planes: (2, 2), plane: (32, 16) },
        }
    }

    pub(super) const fn rows(self) -> u32 {
        self.planes.0 * self.plane.0
    }

    pub(super) const fn columns(self) -> u32 {
        self.planes.1 * self.plane.1
    }

    pub(super) const fn units(self) -> u32 {
        self.planes.0 * self.planes.1 * PLANE
    }

    /// Matrices of a plane along rows and columns.
    pub(super) const fn down(self) -> u32 {
        self.plane.0 / ROWS
    }

    pub(super) const fn along(self) -> u32 {
        self.plane.1 / COLUMNS
    }

    /// Numbers of `C` of a unit.
    pub(super) const fn held(self) -> u32 {
        self.down() * self.along() * HELD
    }
}

/// What the groups of a product are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Grouping {
    /// There are none.
    One,
    /// Lines of `A`; each group has a `B`.
    Rows,
    /// Depths; each group has a `C`. Both operands lie along their lines.
    Depth,
}

/// A product as a kernel is compiled for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// How each operand lies, and numbers of a vector of it.
    pub(super) a_along: Along,
    pub(super) a_width: u32,
    pub(super) b_along: Along,
    pub(super) b_width: u32,
    pub(super) grouping: Grouping,
    /// Whether the product is added to what is there.
    pub(super) added: bool,
    pub(super) tile: MatrixTile,
    pub(super) unit: MatrixUnit,
}

impl Form {
    pub(super) const fn a(self) -> Lying {
        Lying {
            along: self.a_along,
            width: self.a_width,
            lines: self.tile.rows(),
            units: self.tile.units(),
        }
    }

    pub(super) const fn b(self) -> Lying {
        Lying {
            along: self.b_along,
            width: self.b_width,
            lines: self.tile.columns(),
            units: self.tile.units(),
        }
    }
}

/// An operand in memory and in shared memory: rows of lines or of depths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lying {
    pub(super) along: Along,
    pub(super) width: u32,
    /// Lines of the tile.
    lines: u32,
    /// Units of the cube.
    pub(super) units: u32,
}

impl Lying {
    /// Rows of a step, and numbers of each.
    const fn shape(self) -> (u32, u32) {
        match self.along {
            Along::Depth => (self.lines, STEP),
            Along::Lines => (STEP, self.lines),
        }
    }

    /// Quads of a row.
    pub(super) const fn row_quads(self) -> u32 {
        self.shape().1 / QUAD
    }

    /// Quads of a unit.
    pub(super) const fn quads(self) -> u32 {
        self.lines * STEP / QUAD / self.units
    }

    /// Words from one row of pairs to the next.
    pub(super) const fn stride(self) -> u32 {
        self.shape().1 / 2 + APART
    }

    pub(super) const fn buffer_words(self) -> u32 {
        self.shape().0 * self.stride()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The linears of DeepSeek-V3 over a few thousand tokens are worth copies, a router's product, a
    /// shallow one and experts of a few rows each are not.
    #[test]
    fn large_products_are_worth_copies() {
        assert!(warpgroups_pay([4096, 2048, 7168], 1));
        assert!(warpgroups_pay([32_768, 4096, 7168], 8));
        assert!(!warpgroups_pay([4096, 256, 7168], 1));
        assert!(!warpgroups_pay([4096, 2048, 64], 1));
        assert!(!warpgroups_pay([4096, 4096, 7168], 256));
        assert!(!warpgroups_pay([0, 0, 0], 0));
    }

    /// Every unit has whole quads to load, rows begin at multiples of 16 bytes, eight of them are in
    /// different banks, and the buffers fit where a device counts on 48 KB, or 32 in tests.
    #[test]
    fn tiles_fit_their_units_banks_and_room() {
        for (unit, room) in [(MatrixUnit::Instruction, 48 << 10), (MatrixUnit::Emulated, 32 << 10)]
        {
            let tile = MatrixTile::of(unit);
            for a_along in [Along::Depth, Along::Lines] {
                for b_along in [Along::Depth, Along::Lines] {
                    let (a_width, b_width, grouping, added) = (4, 1, Grouping::One, false);
                    let form =
                        Form { a_along, a_width, b_along, b_width, grouping, added, tile, unit };
                    for lies in [form.a(), form.b()] {
                        let (rows, entries) = lies.shape();
                        assert_eq!(lies.quads() * QUAD * tile.units(), rows * entries);
                        assert_eq!(lies.stride() % 8, 4);
                    }
                    let words = 2 * (form.a().buffer_words() + form.b().buffer_words());
                    assert!(4 * words + 4 * 6 * tile.units() <= room, "{form:?}: {words}");
                }
            }
        }
    }
}
