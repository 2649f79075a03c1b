//! Casts to FP8 and E5M6 and back, the plain form (3.3).
//!
//! A code is the one nearest to `x / scale`, where the quotient is rounded to FP32 first: that is
//! what DeepSeek's kernel divides in, so here FP32 is the definition and not an approximation of
//! one in f64.

use crate::definition::{
    E5M6_BITS, E5M6_MAX, E5m6, Fp8Format, Granularity, GroupedColumns, QuantizeOptions, Quantized,
    QuantizedBlocks, ScaleFormat, TILE, decode_e5m6, decode_fp8, e5m6_multiplier, e5m6_words,
    encode_e5m6, encode_fp8, scale_of, tiles, words,
};

/// Casts to row tiles (1x128).
///
/// # Shapes
/// - `x [rows, cols]` -> codes `[rows, words(cols)]`, scales `[rows, tiles(cols)]`
pub fn quantize_rows(x: &[f32], rows: usize, cols: usize, options: &QuantizeOptions) -> Quantized {
    rows_with_amax(x, rows, cols, options, amax(x.iter().copied()))
}

/// Casts to column tiles (128x1), transposed: within each group of rows, the row tiles of its
/// transposed rows.
///
/// # Shapes
/// - `x [rows, cols]`, `offsets [groups + 1]` -> codes `[cols, total words]`, scales
///   `[cols, total tiles]`
pub fn quantize_columns(
    x: &[f32],
    offsets: &[usize],
    cols: usize,
    options: &QuantizeOptions,
) -> Quantized {
    let layout = layout(offsets);
    let (row_words, row_tiles) = (layout.words[offsets.len() - 1], layout.tiles[offsets.len() - 1]);
    let mut out =
        Quantized { codes: vec![0; cols * row_words], scales: vec![0.0; cols * row_tiles] };
    for (g, bounds) in offsets.windows(2).enumerate() {
        let rows = bounds[1] - bounds[0];
        let transposed = transpose(&x[bounds[0] * cols..bounds[1] * cols], rows, cols);
        let group = rows_with_amax(&transposed, cols, rows, options, amax(x.iter().copied()));
        for c in 0..cols {
            for w in 0..words(rows) {
                out.codes[c * row_words + layout.words[g] + w] = group.codes[c * words(rows) + w];
            }
            for t in 0..tiles(rows) {
                out.scales[c * row_tiles + layout.tiles[g] + t] = group.scales[c * tiles(rows) + t];
            }
        }
    }
    out
}

/// Casts each expert's weight to blocks (128x128).
///
/// # Shapes
/// - `w [experts, n, k]` -> codes `[experts, n, words(k)]`, transposed `[experts, k, words(n)]`,
///   scales `[experts, tiles(n), tiles(k)]`
pub fn quantize_blocks(
    w: &[f32],
    experts: usize,
    n: usize,
    k: usize,
    options: &QuantizeOptions,
) -> QuantizedBlocks {
    let mut out = QuantizedBlocks::default();
    for e in 0..experts {
        let w_e = &w[e * n * k..(e + 1) * n * k];
        let mut codes = vec![0; n * k];
        for block_row in 0..tiles(n) {
            for block_column in 0..tiles(k) {
                let mut places = Vec::new();
                for row in block_row * TILE..n.min((block_row + 1) * TILE) {
                    for column in block_column * TILE..k.min((block_column + 1) * TILE) {
                        places.push(row * k + column);
                    }
                }
                let block = match options.granularity {
                    Granularity::Tensor => amax(w.iter().copied()),
                    Granularity::Tile | Granularity::Block => amax(places.iter().map(|&i| w_e[i])),
                };
                let scale = scale_of(block, options.format.max(), options.scale);
                places.iter().for_each(|&i| codes[i] = encode_fp8(w_e[i] / scale, options.format));
                out.scales.push(scale);
            }
        }
        out.codes.extend(pack(&codes, n, k));
        out.transposed.extend(pack(&transpose(&codes, n, k), k, n));
    }
    out
}

/// Computes what row tiles stand for.
///
/// # Shapes
/// - codes `[rows, words(cols)]`, scales `[rows, tiles(cols)]` -> `[rows, cols]`
pub fn dequantize_rows(
    codes: &[u32],
    scales: &[f32],
    rows: usize,
    cols: usize,
    format: Fp8Format,
) -> Vec<f32> {
    let mut x = Vec::with_capacity(rows * cols);
    for r in 0..rows {
        for c in 0..cols {
            let code = (codes[r * words(cols) + c / 4] >> (8 * (c % 4))) as u8;
            x.push(scales[r * tiles(cols) + c / TILE] * decode_fp8(code, format));
        }
    }
    x
}

/// Computes what column tiles stand for, turned back.
///
/// # Shapes
/// - codes `[cols, total words]`, scales `[cols, total tiles]`, `offsets [groups + 1]` ->
///   `[rows, cols]`
pub fn dequantize_columns(
    codes: &[u32],
    scales: &[f32],
    offsets: &[usize],
    cols: usize,
    format: Fp8Format,
) -> Vec<f32> {
    let layout = layout(offsets);
    let (row_words, row_tiles) = (layout.words[offsets.len() - 1], layout.tiles[offsets.len() - 1]);
    let mut x = Vec::new();
    for (g, bounds) in offsets.windows(2).enumerate() {
        for r in 0..bounds[1] - bounds[0] {
            for c in 0..cols {
                let code = (codes[c * row_words + layout.words[g] + r / 4] >> (8 * (r % 4))) as u8;
                x.push(
                    scales[c * row_tiles + layout.tiles[g] + r / TILE] * decode_fp8(code, format),
                );
            }
        }
    }
    x
}

/// Computes what blocks stand for.
///
/// # Shapes
/// - codes `[experts, n, words(k)]`, scales `[experts, tiles(n), tiles(k)]` -> `[experts, n, k]`
pub fn dequantize_blocks(
    codes: &[u32],
    scales: &[f32],
    experts: usize,
    n: usize,
    k: usize,
    format: Fp8Format,
) -> Vec<f32> {
    let mut w = Vec::with_capacity(experts * n * k);
    for e in 0..experts {
        for row in 0..n {
            for column in 0..k {
                let code =
                    (codes[(e * n + row) * words(k) + column / 4] >> (8 * (column % 4))) as u8;
                w.push(
                    scales[(e * tiles(n) + row / TILE) * tiles(k) + column / TILE]
                        * decode_fp8(code, format),
                );
            }
        }
    }
    w
}

/// Casts to E5M6 in row tiles.
///
/// # Shapes
/// - `x [rows, cols]` -> codes `[rows, e5m6_words(cols)]`, scales `[rows, tiles(cols)]`
pub fn quantize_e5m6(x: &[f32], rows: usize, cols: usize, scale: ScaleFormat) -> E5m6 {
    let mut out = E5m6 { codes: vec![0; rows * e5m6_words(cols)], scales: Vec::new() };
    for r in 0..rows {
        let row = &mut out.codes[r * e5m6_words(cols)..(r + 1) * e5m6_words(cols)];
        for t in 0..tiles(cols) {
            let columns = t * TILE..cols.min((t + 1) * TILE);
            let largest = amax(columns.clone().map(|c| x[r * cols + c]));
            let multiplier = e5m6_multiplier(largest, scale);
            for c in columns {
                let entry = x[r * cols + c];
                let entry = if entry.is_subnormal() { 0f32.copysign(entry) } else { entry };
                let code = encode_e5m6(entry * multiplier);
                for bit in 0..E5M6_BITS {
                    let place = c * E5M6_BITS + bit;
                    let set = u32::from(code >> (E5M6_BITS - 1 - bit) & 1);
                    row[place / 32] |= set << (31 - place % 32);
                }
            }
            out.scales.push(scale_of(largest, E5M6_MAX, scale));
        }
    }
    out
}

/// Computes what E5M6 codes stand for.
///
/// # Shapes
/// - codes `[rows, e5m6_words(cols)]`, scales `[rows, tiles(cols)]` -> `[rows, cols]`
pub fn dequantize_e5m6(codes: &[u32], scales: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut x = Vec::with_capacity(rows * cols);
    for r in 0..rows {
        let row = &codes[r * e5m6_words(cols)..(r + 1) * e5m6_words(cols)];
        for c in 0..cols {
            let bit = |bit: usize| {
                let place = c * E5M6_BITS + bit;
                (row[place / 32] >> (31 - place % 32) & 1) as u16
            };
            let code = (0..E5M6_BITS).map(|i| bit(i) << (E5M6_BITS - 1 - i)).sum();
            x.push(scales[r * tiles(cols) + c / TILE] * decode_e5m6(code));
        }
    }
    x
}

/// Row tiles of a matrix that is part of a tensor whose largest magnitude is `tensor`.
fn rows_with_amax(
    x: &[f32],
    rows: usize,
    cols: usize,
    options: &QuantizeOptions,
    tensor: f32,
) -> Quantized {
    let mut scales = Vec::new();
    for r in 0..rows {
        for t in 0..tiles(cols) {
            let sharing = match options.granularity {
                Granularity::Tile => r..r + 1,
                Granularity::Block => r / TILE * TILE..rows.min((r / TILE + 1) * TILE),
                Granularity::Tensor => 0..0,
            };
            let columns = t * TILE..cols.min((t + 1) * TILE);
            let largest = match options.granularity {
                Granularity::Tensor => tensor,
                Granularity::Tile | Granularity::Block => amax(sharing.flat_map(|r| {
                    x[r * cols + columns.start..r * cols + columns.end].iter().copied()
                })),
            };
            scales.push(scale_of(largest, options.format.max(), options.scale));
        }
    }
    let code = |i: usize| {
        encode_fp8(x[i] / scales[i / cols * tiles(cols) + i % cols / TILE], options.format)
    };
    let codes: Vec<u8> = (0..rows * cols).map(code).collect();
    Quantized { codes: pack(&codes, rows, cols), scales }
}

/// The largest magnitude, 0 of nothing, NaN where there is one.
fn amax(x: impl Iterator<Item = f32>) -> f32 {
    x.fold(0.0, |m, x| if m.is_nan() || x.is_nan() { f32::NAN } else { m.max(x.abs()) })
}

fn layout(offsets: &[usize]) -> GroupedColumns {
    GroupedColumns::new("reference", offsets, offsets[offsets.len() - 1])
        .expect("invariant: the reference is given sound offsets")
}

fn transpose<T: Copy>(x: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| x[r * cols + c])).collect()
}

/// Four codes a word, rows padded with zeros.
fn pack(codes: &[u8], rows: usize, cols: usize) -> Vec<u32> {
    let mut packed = vec![0; rows * words(cols)];
    for r in 0..rows {
        for c in 0..cols {
            packed[r * words(cols) + c / 4] |= u32::from(codes[r * cols + c]) << (8 * (c % 4));
        }
    }
    packed
}
