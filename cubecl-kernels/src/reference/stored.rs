//! What stored weights stand for, the plain form.

use crate::definition::{Fp8Format, StoredRows, TILE, decode_fp8, tiles};

/// Computes the values of `rows` stored rows of `inputs`.
///
/// # Shapes
/// - as [`StoredRows`] has them -> `[rows, inputs]`
pub fn widen(stored: &StoredRows<'_>, rows: usize, inputs: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(rows * inputs);
    for row in 0..rows {
        for column in 0..inputs {
            let at = row * inputs + column;
            values.push(match stored {
                StoredRows::Bf16(values) => values[at].to_f32(),
                StoredRows::E4m3 { codes, scales } => {
                    scales[row / TILE * tiles(inputs) + column / TILE]
                        * decode_fp8(codes[at], Fp8Format::E4M3)
                }
            });
        }
    }
    values
}
