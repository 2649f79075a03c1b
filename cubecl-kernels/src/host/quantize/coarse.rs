//! Scales shared by more than a tile: blocks of activations and whole tensors, repeated in the
//! layout of the tiling.
//!
//! For studies of what the report does not do (B.2), so simple: the largest magnitudes of all tiles
//! first, then those that share.

use super::amax;
use super::cut::{bands, for_panels};
use super::panel::Source;
use crate::definition::{Granularity, GroupedColumns, QuantizeOptions, TILE, scale_of, tiles};
use crate::host::buffer::Buffer;
use crate::host::output::{Parts, build};
use crate::host::parallel::{chunk, map};

/// Scales of row tiles, `[rows, tiles(cols)]`; blocks are of 128 rows from the first.
pub(super) fn row_scales(
    source: &impl Source,
    rows: usize,
    cols: usize,
    options: &QuantizeOptions,
) -> Vec<f32> {
    let row_tiles = tiles(cols);
    // SAFETY: the panels cover all tiles, and each writes its own.
    let mut largest = unsafe {
        build(rows * row_tiles, |out| {
            let out = Parts::new(out);
            for_panels(rows, cols, |panels| {
                let (mut buffer, mut largest) = (Buffer::take(), [0.0; TILE]);
                for (panel_rows, columns) in panels {
                    let panel = source.panel(panel_rows.clone(), columns.clone(), &mut buffer);
                    let panel_tiles = tiles(columns.len());
                    amax::of_rows(panel, &mut largest[..panel.rows * panel_tiles]);
                    for (r, largest) in panel_rows.zip(largest.chunks(panel_tiles)) {
                        out.part(r * row_tiles + columns.start / TILE, panel_tiles)
                            .write_copy_of_slice(largest);
                    }
                }
            });
        })
    };
    share(&mut largest, rows, row_tiles, options)
}

/// Scales of column tiles, `[cols, total tiles]`; blocks are of 128 columns, from the first.
pub(super) fn column_scales(
    source: &impl Source,
    offsets: &[usize],
    layout: &GroupedColumns,
    cols: usize,
    options: &QuantizeOptions,
) -> Vec<f32> {
    let row_tiles = layout.tiles.last().copied().unwrap_or(0);
    let rows = offsets.last().copied().unwrap_or(0);
    let bands = bands(offsets, layout);
    // One row of largest magnitudes for each tile of rows, then turned.
    let of_bands = map(bands.len(), rows * cols, |index| {
        let (mut buffer, mut largest) = (Buffer::take(), vec![0.0; cols]);
        for (t, largest) in largest.chunks_mut(TILE).enumerate() {
            amax::of_columns(
                source.panel(bands[index].rows.clone(), chunk(t, TILE, cols), &mut buffer),
                largest,
            );
        }
        largest
    });
    let mut largest: Vec<f32> =
        (0..cols).flat_map(|c| of_bands.iter().map(move |band| band[c])).collect();
    share(&mut largest, cols, row_tiles, options)
}

/// Scales from the largest magnitudes of tiles, `[rows, row_tiles]`.
fn share(
    largest: &mut [f32],
    rows: usize,
    row_tiles: usize,
    options: &QuantizeOptions,
) -> Vec<f32> {
    match options.granularity {
        Granularity::Tile => {}
        Granularity::Block => {
            for block in largest.chunks_mut(TILE * row_tiles.max(1)) {
                for t in 0..row_tiles {
                    let block_largest = block
                        .iter()
                        .skip(t)
                        .step_by(row_tiles)
                        .fold(0.0, |a, &b| amax::larger(a, b));
                    block
                        .iter_mut()
                        .skip(t)
                        .step_by(row_tiles)
                        .for_each(|largest| *largest = block_largest);
                }
            }
        }
        Granularity::Tensor => {
            let tensor = largest.iter().fold(0.0, |a, &b| amax::larger(a, b));
            largest.fill(tensor);
        }
    }
    debug_assert_eq!(largest.len(), rows * row_tiles);
    largest.iter().map(|&largest| scale_of(largest, options.format.max(), options.scale)).collect()
}
