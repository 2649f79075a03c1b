//! The operands of products on a device.

use crate::definition::{Fp8Format, KernelError, tiles, words};
use crate::device::{DeviceGroups, check_handle};
use cubecl::server::Handle;

/// A matrix with a scale for each row's tile of 128 along its depth.
#[derive(Debug, Clone, Copy)]
pub struct DeviceRowTiled<'a> {
    /// `[rows, words(depth)]`.
    pub codes: &'a Handle,
    /// `[rows, tiles(depth)]`.
    pub scales: &'a Handle,
    /// Rows, of all experts together.
    pub rows: usize,
    /// The dimension that a product sums over.
    pub depth: usize,
    /// The format of the codes.
    pub format: Fp8Format,
}

/// How a weight's table of scales lies to its codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ScaleTable {
    /// `[experts, tiles(rows), tiles(depth)]`: with the codes of `w`, for Fprop.
    #[default]
    AsStored,
    /// `[experts, tiles(depth), tiles(rows)]`: with the transposed codes of `w`, for Dgrad.
    Transposed,
}

/// Matrices, one an expert, with a scale for each 128x128 block.
#[derive(Debug, Clone, Copy)]
pub struct DeviceBlockTiled<'a> {
    /// `[experts, rows, words(depth)]`.
    pub codes: &'a Handle,
    /// Scales of blocks.
    pub scales: &'a Handle,
    /// How the scales lie to the codes.
    pub table: ScaleTable,
    /// Experts; 1 for a dense weight.
    pub experts: usize,
    /// Rows of each, the columns of the product.
    pub rows: usize,
    /// The dimension that a product sums over.
    pub depth: usize,
    /// The format of the codes.
    pub format: Fp8Format,
}

impl DeviceRowTiled<'_> {
    pub(crate) fn check(
        &self,
        op: &'static str,
        argument: &'static str,
    ) -> Result<(), KernelError> {
        check_handle(op, argument, self.codes, 4, &[self.rows, words(self.depth)])?;
        check_handle(op, "scales", self.scales, 4, &[self.rows, tiles(self.depth)])?;
        Ok(())
    }
}

impl DeviceBlockTiled<'_> {
    pub(crate) fn check(
        &self,
        op: &'static str,
        argument: &'static str,
    ) -> Result<(), KernelError> {
        check_handle(op, argument, self.codes, 4, &[self.experts, self.rows, words(self.depth)])?;
        check_handle(
            op,
            "scales",
            self.scales,
            4,
            &[self.experts, tiles(self.rows), tiles(self.depth)],
        )?;
        Ok(())
    }

    /// Scales from one block of rows to the next, one block of depth to the next, one expert to the
    /// next.
    pub(crate) fn scale_strides(&self) -> [u32; 3] {
        let (down, along) = (tiles(self.rows) as u32, tiles(self.depth) as u32);
        match self.table {
            ScaleTable::AsStored => [along, 1, down * along],
            ScaleTable::Transposed => [1, down, down * along],
        }
    }
}

/// A matrix whose columns were tiled along the rows of each group, transposed:
/// `[columns, groups.words()]`.
#[derive(Debug, Clone, Copy)]
pub struct DeviceColumnTiled<'a> {
    /// `[columns, groups.words()]`.
    pub codes: &'a Handle,
    /// `[columns, groups.tiles()]`.
    pub scales: &'a Handle,
    /// Columns of the matrix, rows of its codes.
    pub columns: usize,
    /// The format of the codes.
    pub format: Fp8Format,
}

impl DeviceColumnTiled<'_> {
    pub(crate) fn check(
        &self,
        op: &'static str,
        argument: &'static str,
        groups: &DeviceGroups,
    ) -> Result<(), KernelError> {
        check_handle(op, argument, self.codes, 4, &[self.columns, groups.words()])?;
        check_handle(op, "scales", self.scales, 4, &[self.columns, groups.tiles()])?;
        Ok(())
    }
}
