//! How a product is cut into tasks: by shape alone, so that no result depends on the number of
//! threads.

use std::ops::Range;

/// Columns that blocks are cut at: a multiple of every microkernel's width, and a divisor of a
/// scale's block.
const COLUMN_UNIT: usize = 32;
/// Tasks under which a finer cut is tried: enough for work stealing to even out.
const ENOUGH_TASKS: usize = 16;
/// `(rows, columns)` a task at most, from the coarsest cut to the finest. Rows are cut before
/// columns: a task packs its rows itself, so that every cut of the columns packs them once more.
const CUTS: [(usize, usize); 5] = [(512, 1024), (256, 512), (128, 512), (128, 256), (64, 256)];

/// A block of one group's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) group: usize,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

/// Cuts groups of `(rows, columns)` into tasks that cover each exactly once.
pub(super) fn plan(groups: &[(usize, usize)]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (rows_a_task, columns_a_task) in CUTS {
        tasks.clear();
        for (group, &(rows, columns)) in groups.iter().enumerate() {
            let units = columns.div_ceil(COLUMN_UNIT);
            for rows in even(rows, rows.div_ceil(rows_a_task)) {
                for units in even(units, columns.div_ceil(columns_a_task)) {
                    let columns = units.start * COLUMN_UNIT..columns.min(units.end * COLUMN_UNIT);
                    tasks.push(Task { group, rows: rows.clone(), columns });
                }
            }
        }
        if tasks.len() >= ENOUGH_TASKS {
            break;
        }
    }
    tasks
}

/// `len` items in `parts` runs whose lengths differ by at most one.
pub(super) fn even(len: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    (0..parts).map(move |part| part * len / parts..(part + 1) * len / parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn tasks_cover_each_group_once(
            groups in proptest::collection::vec((0usize..700, 0usize..1400), 0..5),
        ) {
            let mut covered: Vec<_> =
                groups.iter().map(|&(rows, columns)| vec![0u8; rows * columns]).collect();
            for Task { group, rows, columns } in plan(&groups) {
                assert_eq!(columns.start % COLUMN_UNIT, 0);
                for row in rows {
                    columns
                        .clone()
                        .for_each(|column| covered[group][row * groups[group].1 + column] += 1);
                }
            }
            assert!(covered.iter().flatten().all(|&times| times == 1));
        }
    }

    #[test]
    fn a_training_shape_makes_enough_tasks() {
        assert!(plan(&[(2048, 512)]).len() >= ENOUGH_TASKS);
        assert_eq!(plan(&[(0, 512), (7, 0)]), []);
        assert_eq!(plan(&[(1, 33)]), [Task { group: 0, rows: 0..1, columns: 0..33 }]);
    }
}
