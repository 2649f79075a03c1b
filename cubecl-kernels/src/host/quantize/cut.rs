//! How a matrix is cut into tasks and panels, by its shape alone.

use std::ops::Range;

use crate::definition::{GroupedColumns, TILE, tiles, words};
use crate::host::parallel::{chunk, for_each};

/// What casting an entry, or the cast back, takes: as long as so many plain operations.
pub(super) const WORK: usize = 8;
/// Entries that one task casts.
pub(super) const ENTRIES_A_TASK: usize = 1 << 15;
/// Tiles of one row that are quantized together.
const TILES_A_PANEL: usize = 16;
/// Entries of a panel.
pub(super) const ENTRIES_A_PANEL: usize = TILES_A_PANEL * TILE;
/// Columns that one task quantizes, of the rows of one tile.
const COLUMNS_A_TASK: usize = 8 * TILE;

/// Rows and columns of a panel.
pub(super) type Panels = (Range<usize>, Range<usize>);

/// Cuts a matrix into panels of at most [`TILES_A_PANEL`] tiles of one row, or of several short
/// rows, and runs `task` with the panels of each task.
pub(super) fn for_panels(
    rows: usize,
    cols: usize,
    task: impl Fn(&mut dyn Iterator<Item = Panels>) + Send + Sync,
) {
    if rows == 0 || cols == 0 {
        return;
    }
    let width = cols.next_multiple_of(TILE).min(ENTRIES_A_PANEL);
    let height = (ENTRIES_A_PANEL / width).min(TILE);
    let rows_a_task = (ENTRIES_A_TASK / cols).max(1).next_multiple_of(height);
    for_each(rows.div_ceil(rows_a_task), rows * cols * WORK, |index| {
        let band = chunk(index, rows_a_task, rows);
        let mut panels = (0..band.len().div_ceil(height)).flat_map(|part| {
            let part = chunk(part, height, band.len());
            let rows = band.start + part.start..band.start + part.end;
            (0..cols.div_ceil(width)).map(move |c| (rows.clone(), chunk(c, width, cols)))
        });
        task(&mut panels);
    });
}

/// The rows of one column tile, and where it goes in a row of transposed codes and scales.
pub(super) struct Band {
    pub(super) rows: Range<usize>,
    pub(super) word: usize,
    pub(super) tile: usize,
}

/// The column tiles of every group.
pub(super) fn bands(offsets: &[usize], layout: &GroupedColumns) -> Vec<Band> {
    let groups = offsets.windows(2).enumerate();
    let bands = groups.flat_map(|(g, bounds)| {
        let (first, count) = (bounds[0], bounds[1] - bounds[0]);
        (0..tiles(count)).map(move |t| {
            let part = chunk(t, TILE, count);
            Band {
                rows: first + part.start..first + part.end,
                word: layout.words[g] + words(t * TILE),
                tile: layout.tiles[g] + t,
            }
        })
    });
    bands.collect()
}

/// Cuts the bands of a matrix into panels of one tile of columns, and runs `task` with the columns
/// of each task's panels.
pub(super) fn for_bands(
    bands: &[Band],
    rows: usize,
    cols: usize,
    task: impl Fn(&Band, &mut dyn Iterator<Item = Range<usize>>) + Send + Sync,
) {
    let parts = cols.div_ceil(COLUMNS_A_TASK);
    for_each(bands.len() * parts, rows * cols * WORK, |index| {
        let columns = chunk(index % parts, COLUMNS_A_TASK, cols);
        let mut panels = (0..columns.len().div_ceil(TILE)).map(|part| {
            let part = chunk(part, TILE, columns.len());
            columns.start + part.start..columns.start + part.end
        });
        task(&bands[index / parts], &mut panels);
    });
}
