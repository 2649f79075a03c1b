//! Where groups of rows (experts) begin, on the host and on the device.

use super::{addressable, argument};
use crate::definition::{GroupedColumns, KernelError};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Groups of consecutive rows, one an expert: uploaded once for a routing decision, used by every
/// launch of it. One group alone needs no table, and nothing of it is uploaded.
#[derive(Debug, Clone)]
pub struct DeviceGroups {
    offsets: Vec<usize>,
    layout: GroupedColumns,
    table: Option<Handle>,
}

impl DeviceGroups {
    /// Groups of rows `offsets[g]..offsets[g + 1]`, some of which may be empty.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where `offsets` do not rise from 0 to `rows`,
    /// [`KernelError::Overflow`] where rows or groups pass 32 bits.
    pub fn new(client: &Client, offsets: &[usize], rows: usize) -> Result<Self, KernelError> {
        const OP: &str = "device_groups";
        addressable(OP, "offsets", &[rows, 1])?;
        let layout = GroupedColumns::new(OP, offsets, rows)?;
        let table = (offsets.len() != 2).then(|| {
            let table: Vec<u32> = [offsets, &layout.words, &layout.tiles]
                .into_iter()
                .flatten()
                .map(|&x| x as u32)
                .collect();
            client.create_from_slice(u32::as_bytes(&table))
        });
        Ok(Self { offsets: offsets.to_vec(), layout, table })
    }

    /// All rows in one group.
    ///
    /// # Errors
    /// Fails as [`DeviceGroups::new`] does.
    pub fn single(client: &Client, rows: usize) -> Result<Self, KernelError> {
        Self::new(client, &[0, rows], rows)
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no group at all; there may be groups without rows otherwise.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// First row of each group, and the number of rows.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Rows of all groups.
    pub fn rows(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Where each group lies in transposed codes and scales.
    pub fn layout(&self) -> &GroupedColumns {
        &self.layout
    }

    /// Words of a row of transposed codes.
    pub fn words(&self) -> usize {
        self.layout.words.last().copied().unwrap_or(0)
    }

    /// Tiles of a row of transposed scales.
    pub fn tiles(&self) -> usize {
        self.layout.tiles.last().copied().unwrap_or(0)
    }

    /// Whether all rows are one group, which has no table.
    pub(crate) fn is_single(&self) -> bool {
        self.table.is_none()
    }

    /// Offsets, first words and first tiles on the device, three times `len() + 1` numbers; none of
    /// one group.
    pub(crate) fn table_handle(&self) -> Option<&Handle> {
        self.table.as_ref()
    }

    /// The table for a kernel, or `other`, which it does not read, where there is none.
    pub(crate) fn table_or(&self, other: &Handle) -> BufferArg {
        match &self.table {
            Some(table) => argument(table, 3 * self.offsets.len()),
            None => argument(other, 1),
        }
    }
}
