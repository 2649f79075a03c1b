//! What a client sends as tables: where groups of rows begin, and which row is whose.
//!
//! Kernels on CubeCL's devices read and write where these say. What a process makes of its own
//! routings is right; what comes from another is looked at before a kernel sees it. That is one wait
//! for the device a table. (The host's kernels check all they are given themselves.)

use burn::backend::tensor::IntTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::read_sync;
use cubecl_kernels::definition::GroupedColumns;

use crate::backend::fp8::{RowGroups, SwigluColumns};
use crate::backend::kernels::RowTables;

/// The tables of one call.
pub(super) struct Received<B: Backend> {
    operation: &'static str,
    /// Whether the backend needs them looked at.
    checked: bool,
    /// Rows of the call's first tensor.
    rows: Option<usize>,
    /// A table whose groups are a later argument.
    table: Option<IntTensor<B>>,
    /// Groups and rows of the tables of a routing decision, which were found to be right.
    routed: Option<(usize, usize)>,
}

impl<B: Backend> Received<B> {
    pub(super) fn new(operation: &'static str, checked: bool) -> Self {
        Self { operation, checked, rows: None, table: None, routed: None }
    }

    /// A tensor of values.
    pub(super) fn values(&mut self, tensor: &impl TensorMetadata) {
        self.rows.get_or_insert_with(|| tensor.shape()[0]);
    }

    /// A table of groups whose sizes follow.
    pub(super) fn table(&mut self, table: &IntTensor<B>) {
        self.table = Some(table.clone());
    }

    /// The sizes of the groups of the table before. One group needs none.
    ///
    /// # Panics
    /// The table has other groups.
    pub(super) fn groups(&mut self, groups: &RowGroups) {
        if let (true, Some(table)) = (self.checked && groups.len() != 1, self.table.take()) {
            let count = self.check_bounds(table, groups.rows());
            self.check_count(groups, count, groups.rows());
        }
        if let Some((count, rows)) = self.routed.take() {
            self.check_count(groups, count, rows);
        }
    }

    fn check_count(&self, groups: &RowGroups, count: usize, rows: usize) {
        let said = (groups.len(), groups.rows());
        assert_eq!(
            said,
            (count, rows),
            "{}: groups and rows are said to be so many, and their table has others",
            self.operation
        );
    }

    /// The groups of a call of SwiGLU, as [`Self::groups`].
    pub(super) fn call(&mut self, call: &SwigluColumns) {
        self.groups(&call.groups);
    }

    /// A table of groups of the rows of the call's first tensor.
    ///
    /// # Panics
    /// The table has other groups.
    pub(super) fn bounds(&mut self, bounds: &IntTensor<B>) {
        if let (true, Some(rows)) = (self.checked, self.rows) {
            self.check_bounds(bounds.clone(), rows);
        }
    }

    /// The tables of a routing decision.
    ///
    /// # Panics
    /// A number in them is out of its range.
    pub(super) fn row_tables(&mut self, tables: &RowTables<B>) {
        if !self.checked {
            return;
        }
        let slots = tables.row_of_slot.shape();
        let (tokens, rows) = (slots[0], slots.num_elements());
        let groups = self.check_bounds(tables.bounds.clone(), rows);
        self.routed = Some((groups, rows));
        for (name, table, end) in [
            ("row_of_slot", &tables.row_of_slot, rows),
            ("token_of_row", &tables.token_of_row, tokens),
            ("slot_of_row", &tables.slot_of_row, rows),
        ] {
            let values = self.words(name, table.clone());
            assert_eq!(values.len(), rows, "{}: {name} has another length", self.operation);
            if let Some(value) = values.iter().find(|&&value| value as usize >= end) {
                panic!("{}: {name} has {value}, and must be below {end}", self.operation);
            }
        }
    }

    /// The number of a table's groups, once they are found to be of `rows` rows.
    fn check_bounds(&self, table: IntTensor<B>, rows: usize) -> usize {
        let values = self.words("groups", table);
        check_bounds(&values, rows).unwrap_or_else(|reason| panic!("{}: {reason}", self.operation))
    }

    fn words(&self, name: &str, table: IntTensor<B>) -> Vec<u32> {
        match read_sync(B::int_into_data(table)) {
            Ok(data) => data.iter::<u32>().collect(),
            Err(error) => panic!("{}: {name} cannot be read: {error}", self.operation),
        }
    }
}

/// The number of groups of a table, first rows, words and tiles of each and the totals, where it is
/// one of `rows` rows.
fn check_bounds(table: &[u32], rows: usize) -> Result<usize, String> {
    let table: Vec<usize> = table.iter().map(|&word| word as usize).collect();
    let bounds = table.len() / 3;
    if bounds < 2 || !table.len().is_multiple_of(3) {
        return Err(format!("a table of {} words has no groups", table.len()));
    }
    let layout =
        GroupedColumns::new("groups", &table[..bounds], rows).map_err(|error| error.to_string())?;
    if table[bounds..2 * bounds] == layout.words[..] && table[2 * bounds..] == layout.tiles[..] {
        Ok(bounds - 1)
    } else {
        Err("the words or tiles of a table are not those of its rows".into())
    }
}

/// Notes an argument that has arrived, by its name and type in the table of kernels.
macro_rules! note {
    ($received:expr, $value:expr, rows: RowTables) => {
        $received.row_tables(&$value)
    };
    ($received:expr, $value:expr, bounds: IntTensor) => {
        $received.bounds(&$value)
    };
    ($received:expr, $value:expr, table: IntTensor) => {
        $received.table(&$value)
    };
    ($received:expr, $value:expr, groups: RowGroups) => {
        $received.groups(&$value)
    };
    ($received:expr, $value:expr, call: SwigluColumns) => {
        $received.call(&$value)
    };
    ($received:expr, $value:expr, $name:ident: FloatTensor) => {
        $received.values(&$value)
    };
    ($received:expr, $value:expr, $name:ident: $Other:ident) => {};
}
pub(super) use note;

#[cfg(test)]
mod tests {
    use super::check_bounds;

    #[test]
    fn a_table_is_that_of_its_rows_or_refused() {
        let right = [0, 5, 5, 6, 0, 2, 2, 3, 0, 1, 1, 2];
        assert_eq!(check_bounds(&right, 6), Ok(3));
        let refused = |place: usize, value: u32, rows: usize| {
            let mut table = right;
            table[place] = value;
            check_bounds(&table, rows).is_err()
        };
        assert!(refused(0, 0, 5) && refused(0, 0, 7), "of fewer or more rows");
        assert!(refused(0, 1, 6), "rows before the first group");
        assert!(refused(1, u32::MAX, 6) && refused(2, 4, 6), "a group that ends before it begins");
        assert!(refused(3, 7, 6), "past the rows");
        assert!(refused(5, 3, 6) && refused(11, 9, 6), "words and tiles of other rows");
        assert!(check_bounds(&right[..8], 6).is_err() && check_bounds(&[], 0).is_err());
    }
}
