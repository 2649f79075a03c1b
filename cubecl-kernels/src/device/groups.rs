//! Where groups of rows (experts) begin, on the device and, where it is known there, on the host.

use super::{addressable, argument, check_handle};
use crate::definition::{GroupedColumns, KernelError, most_pieces};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Numbers of a group's bound in a table: its first row, word and tile.
const BOUNDS: usize = 3;

/// Groups of consecutive rows, one an expert: made once for a routing decision, used by every
/// launch of it. One group alone needs no table, and nothing of it is uploaded.
///
/// Groups whose rows a device has counted are not known to the host. What is made of their rows by
/// columns is then as long as any groups of so many rows could need
/// ([`GroupedColumns::most_words`]), and nothing reads what lies behind the last group's.
#[derive(Debug, Clone)]
pub struct DeviceGroups {
    rows: usize,
    count: usize,
    words: usize,
    tiles: usize,
    known: Option<Known>,
    table: Option<Handle>,
}

/// What the host knows of groups.
#[derive(Debug, Clone)]
struct Known {
    offsets: Vec<usize>,
    layout: GroupedColumns,
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
        let last = |sums: &[usize]| sums.last().copied().unwrap_or(0);
        Ok(Self {
            rows,
            count: offsets.len() - 1,
            words: last(&layout.words),
            tiles: last(&layout.tiles),
            known: Some(Known { offsets: offsets.to_vec(), layout }),
            table,
        })
    }

    /// All rows in one group.
    ///
    /// # Errors
    /// Fails as [`DeviceGroups::new`] does.
    pub fn single(client: &Client, rows: usize) -> Result<Self, KernelError> {
        Self::new(client, &[0, rows], rows)
    }

    /// `count` groups of `rows` rows that a device has counted, by its table of their first rows,
    /// words and tiles, and the totals, as [`route`](crate::route::route) makes it.
    ///
    /// # Shapes
    /// `table` 32-bit `[3, count + 1]`; what it says of the rows is not checked.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where there is no group, [`KernelError::Length`] where the table is
    /// too small, [`KernelError::Overflow`] where rows pass 32 bits.
    pub fn of_table(table: Handle, count: usize, rows: usize) -> Result<Self, KernelError> {
        const OP: &str = "device_groups";
        addressable(OP, "rows", &[rows, 1])?;
        if count == 0 {
            let requirement = "must be at least one where a device has counted their rows";
            return Err(KernelError::Invalid { op: OP, argument: "count", requirement });
        }
        check_handle(OP, "table", &table, 4, &[BOUNDS, count + 1])?;
        Ok(Self {
            rows,
            count,
            words: GroupedColumns::most_words(rows, count),
            tiles: GroupedColumns::most_tiles(rows, count),
            known: None,
            table: Some(table),
        })
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no group at all; there may be groups without rows otherwise.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// First row of each group, and the number of rows; none where only the device knows.
    pub fn offsets(&self) -> Option<&[usize]> {
        self.known.as_ref().map(|known| known.offsets.as_slice())
    }

    /// Rows of all groups.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Where each group lies in transposed codes and scales; none where only the device knows.
    pub fn layout(&self) -> Option<&GroupedColumns> {
        self.known.as_ref().map(|known| &known.layout)
    }

    /// Words of a row of transposed codes.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Tiles of a row of transposed scales.
    pub fn tiles(&self) -> usize {
        self.tiles
    }

    /// Pieces of `piece` rows that the groups are cut into, each from its first row on; where only
    /// the device knows, the most that there can be.
    pub(crate) fn pieces(&self, piece: usize) -> usize {
        match &self.known {
            Some(known) => {
                known.offsets.windows(2).map(|group| (group[1] - group[0]).div_ceil(piece)).sum()
            }
            None => most_pieces(self.rows, self.count, piece),
        }
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
            Some(table) => argument(table, BOUNDS * (self.count + 1)),
            None => argument(other, 1),
        }
    }
}
