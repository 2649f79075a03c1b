//! E5M6's checks and launches.

use super::kernel::{ROWS, UNITS, cast_e5m6, values_of_e5m6};
use crate::definition::{KernelError, ScaleFormat, e5m6_words, tiles};
use crate::device::{
    self, Element, addressable, allocate, argument, check_handle, elementwise_cubes, load_width,
};
use crate::quantize::DeviceCodes;
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Casts to E5M6 in row tiles: `scale = max(amax, 1e-4) / 65024`, or the power of two at or above,
/// `code = round(x * (1 / scale))`; NaN stays NaN.
///
/// Bit-equal to [`encode_e5m6`](crate::definition::encode_e5m6) of the product with
/// [`e5m6_multiplier`](crate::definition::e5m6_multiplier); how the codes lie is said at
/// [`E5m6`](crate::definition::E5m6). Of powers of two a tile with NaN or an infinity has `2^127`.
///
/// # Shapes
/// `x` `[rows, columns]`; codes `[rows, e5m6_words(columns)]`, scales `[rows, tiles(columns)]`.
///
/// # Errors
/// [`KernelError`] where the buffer is too small, the size cannot be addressed, or the device lacks
/// the element type.
///
/// Source: technical report 3.3.3.
pub fn quantize_e5m6(
    client: &Client,
    x: &Handle,
    element: Element,
    rows: usize,
    columns: usize,
    scale: ScaleFormat,
) -> Result<DeviceCodes, KernelError> {
    const OP: &str = "quantize_e5m6";
    element.check(client, OP, "element")?;
    let count = check_handle(OP, "x", x, element.size(), &[rows, columns])?;
    let code_count = addressable(OP, "codes", &[rows, e5m6_words(columns)])?;
    let scale_count = addressable(OP, "scales", &[rows, tiles(columns)])?;
    let codes = allocate(client, code_count, 4);
    let scales = allocate(client, scale_count, 4);
    if count > 0 {
        let width = load_width(columns);
        let cubes = rows.div_ceil(ROWS as usize) * tiles(columns);
        let launch = match element {
            Element::F32 => cast_e5m6::launch_unchecked::<f32>,
            Element::Bf16 => cast_e5m6::launch_unchecked::<half::bf16>,
        };
        // SAFETY: `x` was found to hold `count` elements, codes and scales were allocated for as
        // many as the kernel writes, and it checks row, column and word of each against `rows`,
        // `columns` and the words of a row. `columns` is a multiple of `width`.
        unsafe {
            launch(
                client,
                elementwise_cubes(client, cubes * device::UNITS as usize),
                CubeDim::new_1d(UNITS),
                width,
                argument(x, count),
                argument(&codes, code_count),
                argument(&scales, scale_count),
                rows as u32,
                columns as u32,
                e5m6_words(columns) as u32,
                width as u32,
                scale,
            );
        }
    }
    Ok(DeviceCodes { codes, scales })
}

/// What E5M6 codes stand for, `scale * decode(code)`, as FP32 `[rows, columns]`.
///
/// # Shapes
/// Codes `[rows, e5m6_words(columns)]`, scales `[rows, tiles(columns)]`.
///
/// # Errors
/// [`KernelError`] where a buffer is too small or the size cannot be addressed.
pub fn dequantize_e5m6(
    client: &Client,
    x: &DeviceCodes,
    rows: usize,
    columns: usize,
) -> Result<Handle, KernelError> {
    const OP: &str = "dequantize_e5m6";
    let code_count = check_handle(OP, "codes", &x.codes, 4, &[rows, e5m6_words(columns)])?;
    let scale_count = check_handle(OP, "scales", &x.scales, 4, &[rows, tiles(columns)])?;
    let count = addressable(OP, "y", &[rows, columns])?;
    let y = allocate(client, count, 4);
    if count > 0 {
        // SAFETY: codes and scales were found to hold what `rows` and `columns` need and `y` was
        // allocated for `count` numbers; a unit past the last of them does nothing, and a code that
        // goes on in a next word has that word in its own row.
        unsafe {
            values_of_e5m6::launch_unchecked(
                client,
                elementwise_cubes(client, count),
                CubeDim::new_1d(device::UNITS),
                argument(&x.codes, code_count),
                argument(&x.scales, scale_count),
                argument(&y, count),
                count as u32,
                columns as u32,
                e5m6_words(columns) as u32,
            );
        }
    }
    Ok(y)
}
