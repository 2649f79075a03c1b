//! Rows to other ranks and back, the plain form (3.2.2): one value at a time.

use super::quantize_rows;
use crate::definition::{
    Fp8Format, QuantizeOptions, RowSums, ScaleFormat, TILE, WireFormat, decode_fp8, tiles, words,
};

/// What a cast to FP8 on the wire is.
const FP8: QuantizeOptions = QuantizeOptions {
    format: Fp8Format::E4M3,
    scale: ScaleFormat::PowerOfTwo,
    granularity: crate::definition::Granularity::Tile,
};

/// Packs the rows `index` of `x` into words.
///
/// # Shapes
/// - `x [rows, width]`, `index [m]` -> `[m, format.row_words(width)]`
pub fn pack(x: &[f32], index: &[u32], width: usize, format: WireFormat) -> Vec<u32> {
    let mut wire = Vec::new();
    for &row in index {
        let x = &x[row as usize * width..(row as usize + 1) * width];
        match format {
            WireFormat::F32 => wire.extend(x.iter().map(|x| x.to_bits())),
            WireFormat::Bf16 => wire.extend(x.chunks(2).map(|pair| {
                let bits = |i: usize| {
                    pair.get(i).map_or(0, |&x| u32::from(half::bf16::from_f32(x).to_bits()))
                };
                bits(0) | bits(1) << 16
            })),
            WireFormat::Fp8 => {
                let q = quantize_rows(x, 1, width, &FP8);
                wire.extend(q.codes);
                wire.extend(q.scales.chunks(4).map(|scales| {
                    let exponent =
                        |i: usize| scales.get(i).map_or(0, |scale| scale.to_bits() >> 23);
                    exponent(0) | exponent(1) << 8 | exponent(2) << 16 | exponent(3) << 24
                }));
            }
        }
    }
    wire
}

/// The value in column `column` of a row on the wire.
fn value(row: &[u32], column: usize, width: usize, format: WireFormat) -> f32 {
    match format {
        WireFormat::F32 => f32::from_bits(row[column]),
        WireFormat::Bf16 => f32::from_bits((row[column / 2] >> (16 * (column % 2)) & 0xFFFF) << 16),
        WireFormat::Fp8 => {
            let tile = column / TILE;
            let exponent = row[words(width) + tile / 4] >> (8 * (tile % 4)) & 0xFF;
            debug_assert!(tile < tiles(width));
            let code = (row[column / 4] >> (8 * (column % 4))) as u8;
            f32::from_bits(exponent << 23) * decode_fp8(code, Fp8Format::E4M3)
        }
    }
}

/// Unpacks the rows `index` of what has arrived into values.
///
/// # Shapes
/// - `wire [m, format.row_words(width)]`, `index [n]` -> `[n, width]`
pub fn unpack(wire: &[u32], index: &[u32], width: usize, format: WireFormat) -> Vec<f32> {
    let row_words = format.row_words(width);
    let mut y = Vec::new();
    for &row in index {
        let row = &wire[row as usize * row_words..(row as usize + 1) * row_words];
        y.extend((0..width).map(|column| value(row, column, width, format)));
    }
    y
}

/// Sums for each result its rows times their weights, which are one where absent.
///
/// # Shapes
/// - `wire [sums.bound(), format.row_words(width)]`, `weights [sums.terms()]` ->
///   `[sums.results(), width]`
pub fn combine(
    wire: &[u32],
    weights: Option<&[f64]>,
    sums: &RowSums,
    width: usize,
    format: WireFormat,
) -> Vec<f64> {
    let y = unpack(wire, sums.rows(), width, format);
    let mut out = vec![0.0; sums.results() * width];
    for t in 0..sums.results() {
        for term in sums.terms_of(t) {
            let weight = weights.map_or(1.0, |weights| weights[term]);
            for d in 0..width {
                out[t * width + d] += weight * f64::from(y[term * width + d]);
            }
        }
    }
    out
}

/// Computes the gradients `(dy, dweights)` of [`combine`]; a cast passes the gradient straight
/// through.
///
/// # Shapes
/// - `dout [sums.results(), width]` -> `dy [sums.bound(), width]`, `dweights [sums.terms()]`
pub fn combine_backward(
    wire: &[u32],
    weights: Option<&[f64]>,
    sums: &RowSums,
    dout: &[f64],
    width: usize,
    format: WireFormat,
) -> (Vec<f64>, Vec<f64>) {
    let y = unpack(wire, sums.rows(), width, format);
    let (mut dy, mut dweights) = (vec![0.0; sums.bound() * width], vec![0.0; sums.terms()]);
    for t in 0..sums.results() {
        for term in sums.terms_of(t) {
            let (row, weight) =
                (sums.rows()[term] as usize, weights.map_or(1.0, |weights| weights[term]));
            for d in 0..width {
                dy[row * width + d] += weight * dout[t * width + d];
                dweights[term] += dout[t * width + d] * f64::from(y[term * width + d]);
            }
        }
    }
    (dy, dweights)
}

/// Computes the gradient of a gather of rows, of [`pack`] as of [`unpack`]: `dx[r]` is the sum of
/// `d[i]` over all `i` with `index[i] == r`.
///
/// # Shapes
/// - `d [index.len(), width]` -> `[rows, width]`
pub fn gather_backward(d: &[f64], index: &[u32], rows: usize, width: usize) -> Vec<f64> {
    let mut dx = vec![0.0; rows * width];
    for (i, &row) in index.iter().enumerate() {
        for c in 0..width {
            dx[row as usize * width + c] += d[i * width + c];
        }
    }
    dx
}
