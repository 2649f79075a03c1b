//! How a product is cut into tasks: by shape alone, so that no result depends on the number of
//! threads.

use std::ops::Range;

use crate::host::parallel::Threads;

/// Columns that blocks are cut at: a multiple of every microkernel's width, and a divisor of a
/// scale's block. A tile unit has as many rows.
const UNIT: usize = 32;
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

/// The size of one group's result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Columns a task at most, where its rows go over them again and again. Tasks of the same
    /// columns then follow each other.
    pub(super) columns_a_task: Option<usize>,
}

/// Cuts groups into tasks that cover each exactly once.
pub(super) fn plan(groups: &[Size], threads: Threads) -> Vec<Task> {
    let mut tasks = Vec::new();
    // One thread has nothing to even out.
    let cuts = if threads == Threads::One { &CUTS[..1] } else { &CUTS };
    for &(rows_a_task, columns_a_task) in cuts {
        tasks.clear();
        for (group, size) in groups.iter().enumerate() {
            let limit = size.columns_a_task.unwrap_or(columns_a_task);
            let columns = || cut(size.columns, UNIT, columns_a_task.min(limit));
            let mut push = |rows, columns| tasks.push(Task { group, rows, columns });
            if size.columns_a_task.is_none() {
                for rows in cut(size.rows, 1, rows_a_task) {
                    columns().for_each(|columns| push(rows.clone(), columns));
                }
            } else {
                for columns in columns() {
                    cut(size.rows, UNIT, rows_a_task).for_each(|rows| push(rows, columns.clone()));
                }
            }
        }
        if tasks.len() >= ENOUGH_TASKS {
            break;
        }
    }
    tasks
}

/// `len` items in runs of at most `most`, a multiple of `unit`, which begin at multiples of it.
fn cut(len: usize, unit: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    even(len.div_ceil(unit), len.div_ceil(most))
        .map(move |units| units.start * unit..len.min(units.end * unit))
}

/// `len` items in `parts` runs whose lengths differ by at most one.
pub(super) fn even(len: usize, parts: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..parts).map(move |part| part * len / parts..(part + 1) * len / parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn tasks_cover_each_group_once(
            groups in proptest::collection::vec(
                (0usize..700, 0usize..1400, proptest::option::of(1usize..40)), 0..5,
            ),
            one: bool,
        ) {
            let threads = if one { Threads::One } else { Threads::Pool };
            let groups: Vec<_> = groups
                .into_iter()
                .map(|(rows, columns, units)| {
                    let columns_a_task = units.map(|units| units * UNIT);
                    Size { rows, columns, columns_a_task }
                })
                .collect();
            let mut covered: Vec<_> =
                groups.iter().map(|size| vec![0u8; size.rows * size.columns]).collect();
            for Task { group, rows, columns } in plan(&groups, threads) {
                assert_eq!(columns.start % UNIT, 0);
                let Size { columns: width, columns_a_task, .. } = groups[group];
                assert!(columns.len() <= columns_a_task.unwrap_or(width));
                for row in rows {
                    columns.clone().for_each(|column| covered[group][row * width + column] += 1);
                }
            }
            assert!(covered.iter().flatten().all(|&times| times == 1));
        }
    }

    #[test]
    fn a_training_shape_makes_enough_tasks() {
        let size = |rows, columns| Size { rows, columns, columns_a_task: None };
        let plan = |sizes: &[Size]| plan(sizes, Threads::Pool);
        assert!(plan(&[size(2048, 512)]).len() >= ENOUGH_TASKS);
        assert_eq!(plan(&[size(0, 512), size(7, 0)]), []);
        assert_eq!(plan(&[size(1, 33)]), [Task { group: 0, rows: 0..1, columns: 0..33 }]);
    }
}
