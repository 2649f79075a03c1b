//! What a cast did to its values, counted from the values and the scales.

use crate::definition::{
    CastCounts, CastLayout, Fp8Format, KernelError, TILE, check_length, element_count, tiles,
};
use crate::host::parallel::{chunk, map, rows_a_task};
use crate::host::simd::multiversion;

/// Values that one task counts.
const VALUES_A_TASK: usize = 1 << 16;

/// What a cast of x to `format` with these scales did: [`CastCounts`]. Values of every `stride`-th row
/// are counted, and all scales.
///
/// # Shapes
/// - x: `[rows, columns]`
/// - scales: `[rows, tiles(columns)]`, or for blocks `[rows / outputs * tiles(outputs),
///   tiles(columns)]`
///
/// # Errors
/// [`KernelError::Length`] naming the argument; [`KernelError::Invalid`] where blocks do not make up
/// all rows, or `stride` is 0.
pub fn count_cast(
    x: &[f32],
    scales: &[f32],
    [rows, columns]: [usize; 2],
    layout: CastLayout,
    format: Fp8Format,
    stride: usize,
) -> Result<CastCounts, KernelError> {
    const OP: &str = "count_cast";
    let invalid =
        |argument, requirement| Err(KernelError::Invalid { op: OP, argument, requirement });
    if stride == 0 {
        return invalid("stride", "must be at least 1");
    }
    let scale_rows = match layout {
        CastLayout::Tiles => rows,
        CastLayout::Blocks { outputs } => {
            if outputs == 0 || !rows.is_multiple_of(outputs) {
                return invalid("outputs", "must divide the rows");
            }
            rows / outputs * tiles(outputs)
        }
    };
    check_length(OP, "x", x.len(), &[rows, columns])?;
    check_length(OP, "scales", scales.len(), &[scale_rows, tiles(columns)])?;
    let counted = rows.div_ceil(stride);
    let values = element_count(OP, "x", &[counted, columns])?;
    let mut counts = CastCounts { values: values as u64, ..CastCounts::default() };
    for &scale in scales {
        counts.scale_min = counts.scale_min.min(scale);
        counts.scale_max = counts.scale_max.max(scale);
    }
    if values == 0 {
        return Ok(counts);
    }
    let rows_each = rows_a_task(VALUES_A_TASK, columns);
    let parts = map(counted.div_ceil(rows_each), values, |task| {
        let of_task = chunk(task, rows_each, counted);
        let (first, last) = (of_task.start * stride, of_task.end * stride);
        beyond(x, scales, columns, layout, format, first, last, stride)
    });
    for [saturated, underflowed] in parts {
        counts.saturated += saturated;
        counts.underflowed += underflowed;
    }
    Ok(counts)
}

multiversion! {
    /// How many values of the rows `first`, `first + stride` up to `last` are saturated, and how many
    /// underflowed.
    fn beyond(
        x: &[f32],
        scales: &[f32],
        columns: usize,
        layout: CastLayout,
        format: Fp8Format,
        first: usize,
        last: usize,
        stride: usize,
    ) -> [u64; 2] {
        let mut sums = [0u64; 2];
        for row in (first..last).step_by(stride) {
            let scales = &scales[layout.scale_row(row) * tiles(columns)..];
            for (tile, &scale) in x[row * columns..(row + 1) * columns].chunks(TILE).zip(scales) {
                let (clipped, zero) = (scale * format.clipping_limit(), scale * format.zero_limit());
                let (mut saturated, mut underflowed) = (0u32, 0u32);
                for x in tile {
                    let magnitude = x.abs();
                    saturated += u32::from((magnitude > clipped) | (magnitude == f32::INFINITY));
                    underflowed += u32::from((magnitude <= zero) & (magnitude > 0.0));
                }
                sums[0] += u64::from(saturated);
                sums[1] += u64::from(underflowed);
            }
        }
        sums
    }
}
