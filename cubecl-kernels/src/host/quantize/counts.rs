//! What a cast did to its values, counted from the values and the scales.

use crate::definition::{
    CastCounts, CastLayout, Fp8Format, KernelError, TILE, check_length, element_count, tiles,
};
use crate::host::parallel::{chunk, map, rows_a_task};
use crate::host::simd::multiversion;

/// Values that one task counts.
const VALUES_A_TASK: usize = 1 << 16;

/// What a cast of x to `format` with these scales did: [`CastCounts`].
///
/// # Shapes
/// - x: `[rows, columns]`
/// - scales: `[rows, tiles(columns)]`, or for blocks `[rows / outputs * tiles(outputs),
///   tiles(columns)]`
///
/// # Errors
/// [`KernelError::Length`] naming the argument; [`KernelError::Invalid`] where blocks do not make up
/// all rows.
pub fn count_cast(
    x: &[f32],
    scales: &[f32],
    [rows, columns]: [usize; 2],
    layout: CastLayout,
    format: Fp8Format,
) -> Result<CastCounts, KernelError> {
    const OP: &str = "count_cast";
    let scale_rows = match layout {
        CastLayout::Tiles => rows,
        CastLayout::Blocks { outputs } => {
            if outputs == 0 || !rows.is_multiple_of(outputs) {
                return Err(KernelError::Invalid {
                    op: OP,
                    argument: "outputs",
                    requirement: "must divide the rows",
                });
            }
            rows / outputs * tiles(outputs)
        }
    };
    check_length(OP, "x", x.len(), &[rows, columns])?;
    check_length(OP, "scales", scales.len(), &[scale_rows, tiles(columns)])?;
    let values = element_count(OP, "x", &[rows, columns])?;
    let mut counts = CastCounts { values: values as u64, ..CastCounts::default() };
    for &scale in scales {
        counts.scale_min = counts.scale_min.min(scale);
        counts.scale_max = counts.scale_max.max(scale);
    }
    if values == 0 {
        return Ok(counts);
    }
    let rows_each = rows_a_task(VALUES_A_TASK, columns);
    let parts = map(rows.div_ceil(rows_each), values, |task| {
        let mut sums = [0u64; 2];
        for row in chunk(task, rows_each, rows) {
            let scales = &scales[layout.scale_row(row) * tiles(columns)..];
            let tiles = x[row * columns..(row + 1) * columns].chunks(TILE);
            for (tile, &scale) in tiles.zip(scales) {
                let of_tile =
                    beyond(tile, scale * format.clipping_limit(), scale * format.zero_limit());
                sums[0] += u64::from(of_tile[0]);
                sums[1] += u64::from(of_tile[1]);
            }
        }
        sums
    });
    for [saturated, underflowed] in parts {
        counts.saturated += saturated;
        counts.underflowed += underflowed;
    }
    Ok(counts)
}

multiversion! {
    /// How many values are above one magnitude or infinite, and how many, without the zeros, are not
    /// above the other.
    fn beyond(tile: &[f32], clipped: f32, zero: f32) -> [u32; 2] {
        let (mut saturated, mut underflowed) = (0u32, 0u32);
        for x in tile {
            let magnitude = x.abs();
            saturated += u32::from((magnitude > clipped) | (magnitude == f32::INFINITY));
            underflowed += u32::from((magnitude <= zero) & (magnitude > 0.0));
        }
        [saturated, underflowed]
    }
}
