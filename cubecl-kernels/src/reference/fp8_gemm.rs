//! Products of FP8 matrices, `C = A B^T`, the plain form, and the emulated accumulator bit for bit.

use super::linear::linear;
use crate::definition::{
    BlockTiled, CODES_A_WORD, LinearShape, OperandView, RowTiled, TILE, decode_fp8,
};

/// Products that an emulated accumulator takes at once.
const GROUP: usize = 32;

/// Computes the values of a matrix with a scale for each row's tile.
///
/// # Shapes
/// - `[rows, depth]`
pub fn dequantize_row_tiled(x: &RowTiled<'_>) -> Vec<f64> {
    values(&OperandView::rows_of(x, 0, x.rows))
}

/// Computes the values of a matrix (the `expert`-th, of several) with a scale for each block.
///
/// # Shapes
/// - `[rows, depth]`
pub fn dequantize_block_tiled(x: &BlockTiled<'_>, expert: usize) -> Vec<f64> {
    values(&OperandView::expert_of(x, expert))
}

/// Multiplies an activation and a weight, `C = A B^T` (1x128 | 128x128), exact products summed in
/// f64.
///
/// # Shapes
/// - `a [m, k]`, `b [n, k]` (the `expert`-th of several) -> `[m, n]`
pub fn fp8_gemm_nt(a: &RowTiled<'_>, b: &BlockTiled<'_>, expert: usize) -> Vec<f64> {
    product(&OperandView::rows_of(a, 0, a.rows), &OperandView::expert_of(b, expert))
}

/// Multiplies two matrices tiled along their rows, `C = A B^T` (1x128 | 1x128), exact products
/// summed in f64.
///
/// # Shapes
/// - `a [m, k]`, `b [n, k]` -> `[m, n]`
pub fn fp8_wgrad_nt(a: &RowTiled<'_>, b: &RowTiled<'_>) -> Vec<f64> {
    product(&OperandView::rows_of(a, 0, a.rows), &OperandView::rows_of(b, 0, b.rows))
}

/// Computes [`fp8_gemm_nt`] with
/// [`Accumulation::Emulated`](crate::definition::Accumulation::Emulated), whose documentation is
/// the definition.
pub fn fp8_gemm_nt_emulated(
    a: &RowTiled<'_>,
    b: &BlockTiled<'_>,
    expert: usize,
    bits: u32,
    promote: bool,
) -> Vec<f32> {
    emulated(&OperandView::rows_of(a, 0, a.rows), &OperandView::expert_of(b, expert), bits, promote)
}

/// Computes [`fp8_wgrad_nt`] with
/// [`Accumulation::Emulated`](crate::definition::Accumulation::Emulated), whose documentation is
/// the definition.
pub fn fp8_wgrad_nt_emulated(
    a: &RowTiled<'_>,
    b: &RowTiled<'_>,
    bits: u32,
    promote: bool,
) -> Vec<f32> {
    emulated(
        &OperandView::rows_of(a, 0, a.rows),
        &OperandView::rows_of(b, 0, b.rows),
        bits,
        promote,
    )
}

fn code(x: &OperandView<'_>, row: usize, i: usize) -> f32 {
    let word = x.codes[row * x.row_words + i / CODES_A_WORD];
    decode_fp8(word.to_le_bytes()[i % CODES_A_WORD], x.format)
}

fn values(x: &OperandView<'_>) -> Vec<f64> {
    let value = |row, i| f64::from(x.scale(row, i / TILE)) * f64::from(code(x, row, i));
    (0..x.rows).flat_map(|row| (0..x.depth).map(move |i| value(row, i))).collect()
}

fn product(a: &OperandView<'_>, b: &OperandView<'_>) -> Vec<f64> {
    let shape = LinearShape { rows: a.rows, inputs: a.depth, outputs: b.rows };
    linear(&values(a), &values(b), &shape)
}

fn emulated(a: &OperandView<'_>, b: &OperandView<'_>, bits: u32, promote: bool) -> Vec<f32> {
    let mut c = vec![0.0f32; a.rows * b.rows];
    for row in 0..a.rows {
        for column in 0..b.rows {
            let scale = |tile| a.scale(row, tile) * b.scale(column, tile);
            let products = |tile: usize| {
                (tile * TILE..a.depth.min((tile + 1) * TILE))
                    .map(|i| code(a, row, i) * code(b, column, i))
            };
            let (mut total, mut sum) = (0.0f32, 0.0f32);
            for tile in 0..a.depth.div_ceil(TILE) {
                let products: Vec<f32> = if promote {
                    products(tile).collect()
                } else {
                    let ratio = scale(tile) / scale(0);
                    products(tile).map(|product| product * ratio).collect()
                };
                for group in products.chunks(GROUP) {
                    sum = add_truncated(sum, group, bits);
                }
                if promote {
                    total += scale(tile) * sum;
                    sum = 0.0;
                }
            }
            if !promote && a.depth > 0 {
                total = scale(0) * sum;
            }
            c[row * b.rows + column] = total;
        }
    }
    c
}

/// `sum + products` as an accumulator of `bits` bits adds them.
fn add_truncated(sum: f32, products: &[f32], bits: u32) -> f32 {
    let terms = || std::iter::once(sum).chain(products.iter().copied());
    if terms().any(|term| !term.is_finite()) {
        return f32::NAN;
    }
    // The largest exponent, at least that at which the quantum is still a normal number.
    let exponent = terms()
        .map(|term| (term.to_bits() >> 23 & 0xFF) as i32 - 127)
        .fold(bits as i32 - 127, i32::max);
    let quantum = f64::from(exponent - bits as i32 + 1).exp2();
    let mut count = 0.0f32;
    for term in terms() {
        count += (f64::from(term) / quantum).trunc() as f32;
    }
    (f64::from(count) * quantum) as f32
}

#[cfg(test)]
mod tests {
    use super::add_truncated;

    #[test]
    fn truncation_is_toward_zero_at_the_largest_exponent() {
        // 14 bits at exponent 13: the quantum is 1.
        assert_eq!(add_truncated(8192.0, &[0.75, -0.75, 1.5, -1.5], 14), 8192.0);
        assert_eq!(add_truncated(-8192.0, &[2.5, 2.5], 14), -8188.0);
        // The quantum follows a product larger than the sum.
        assert_eq!(add_truncated(1.5, &[16384.0], 14), 16384.0);
        assert_eq!(add_truncated(3.5, &[16384.0], 14), 16386.0);
        // All of them small: nothing is lost.
        assert_eq!(add_truncated(0.25, &[0.125, 0.5], 14), 0.875);
        assert_eq!(add_truncated(0.0, &[0.0, -0.0], 14), 0.0);
    }

    #[test]
    fn what_is_not_finite_gives_nan() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(add_truncated(0.0, &[1.0, bad], 14).is_nan());
            assert!(add_truncated(bad, &[1.0], 14).is_nan());
        }
    }
}
