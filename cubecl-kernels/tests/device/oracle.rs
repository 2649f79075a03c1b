//! Quantization and products in the plainest form, one value at a time, on top of the definition.

use cubecl_kernels::definition::{
    Granularity, GroupedColumns, QuantizeOptions, TILE, encode_fp8, scale_of, tiles, words,
};
use cubecl_kernels::metric::calc_diff;

/// `len` values in -1..1 from a seed (splitmix64).
pub fn random(seed: u64, len: usize) -> Vec<f32> {
    // A mixed start: with a linear one, neighbouring seeds would give one stream, shifted.
    let mut state = mix(seed.wrapping_add(0x1234_5678));
    (0..len)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            (mix(state) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FP32 values in FP64.
pub fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Fails unless `actual` is `expected` up to the rounding of sums in FP32.
#[track_caller]
pub fn assert_near(name: &str, actual: &[f32], expected: &[f64]) {
    let diff = calc_diff(actual, expected);
    assert!(diff < 1e-12, "{name}: calc_diff {diff:e}");
}

/// Values whose magnitudes spread over many binades, as activations' do.
pub fn spread(seed: u64, len: usize) -> Vec<f32> {
    random(seed, len).iter().zip(random(seed + 1, len)).map(|(x, e)| x * (6.0 * e).exp2()).collect()
}

pub struct Quantized {
    pub codes: Vec<u32>,
    pub scales: Vec<f32>,
}

fn amax<'a>(x: impl Iterator<Item = &'a f32>) -> f32 {
    x.fold(0.0, |m, v| if v.is_nan() || f32::is_nan(m) { f32::NAN } else { v.abs().max(m) })
}

/// Row tiles of `x[rows, columns]`, blocks counted from row 0.
pub fn rows(x: &[f32], rows: usize, columns: usize, o: &QuantizeOptions) -> Quantized {
    let whole = amax(x.iter());
    let mut q = Quantized {
        codes: vec![0; rows * words(columns)],
        scales: vec![0.0; rows * tiles(columns)],
    };
    for r in 0..rows {
        for t in 0..tiles(columns) {
            let span = t * TILE..((t + 1) * TILE).min(columns);
            let block = r / TILE * TILE..((r / TILE + 1) * TILE).min(rows);
            let largest = match o.granularity {
                Granularity::Tile => amax(x[r * columns..][span.clone()].iter()),
                Granularity::Block => {
                    amax(block.flat_map(|b| x[b * columns..][span.clone()].iter()))
                }
                Granularity::Tensor => whole,
            };
            let scale = scale_of(largest, o.format.max(), o.scale);
            q.scales[r * tiles(columns) + t] = scale;
            for c in span {
                let code = encode_fp8(x[r * columns + c] / scale, o.format);
                q.codes[r * words(columns) + c / 4] |= u32::from(code) << (8 * (c % 4));
            }
        }
    }
    q
}

pub fn transpose(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns * rows).map(|i| x[(i % rows) * columns + i / rows]).collect()
}

/// Column tiles of `x`, group by group, in the grouped transposed layout.
pub fn columns(x: &[f32], offsets: &[usize], columns: usize, o: &QuantizeOptions) -> Quantized {
    let total = *offsets.last().unwrap();
    let layout = GroupedColumns::new("oracle", offsets, total).unwrap();
    let (all_words, all_tiles) = (*layout.words.last().unwrap(), *layout.tiles.last().unwrap());
    let mut q =
        Quantized { codes: vec![0; columns * all_words], scales: vec![0.0; columns * all_tiles] };
    let whole = amax(x.iter());
    for g in 0..offsets.len() - 1 {
        let n = offsets[g + 1] - offsets[g];
        if n == 0 || columns == 0 {
            continue;
        }
        let own = transpose(&x[offsets[g] * columns..offsets[g + 1] * columns], n, columns);
        let group = match o.granularity {
            // A given scale for every tile: quantize with the whole tensor's largest magnitude
            // among the values.
            Granularity::Tensor => rows_with_amax(&own, columns, n, o, whole),
            _ => rows(&own, columns, n, o),
        };
        for c in 0..columns {
            q.codes[c * all_words + layout.words[g]..][..words(n)]
                .copy_from_slice(&group.codes[c * words(n)..][..words(n)]);
            q.scales[c * all_tiles + layout.tiles[g]..][..tiles(n)]
                .copy_from_slice(&group.scales[c * tiles(n)..][..tiles(n)]);
        }
    }
    q
}

fn rows_with_amax(
    x: &[f32],
    rows: usize,
    columns: usize,
    o: &QuantizeOptions,
    largest: f32,
) -> Quantized {
    let scale = scale_of(largest, o.format.max(), o.scale);
    let mut q = Quantized {
        codes: vec![0; rows * words(columns)],
        scales: vec![scale; rows * tiles(columns)],
    };
    for (i, &v) in x.iter().enumerate() {
        let (r, c) = (i / columns, i % columns);
        q.codes[r * words(columns) + c / 4] |=
            u32::from(encode_fp8(v / scale, o.format)) << (8 * (c % 4));
    }
    q
}

/// Blocks of `w[n, k]`: codes, transposed codes, scales `[tiles(n), tiles(k)]`.
pub fn blocks(
    w: &[f32],
    n: usize,
    k: usize,
    o: &QuantizeOptions,
) -> (Vec<u32>, Vec<u32>, Vec<f32>) {
    let granularity =
        if o.granularity == Granularity::Tensor { Granularity::Tensor } else { Granularity::Block };
    let o = QuantizeOptions { granularity, ..*o };
    let by_row = rows(w, n, k, &o);
    let by_column = rows(&transpose(w, n, k), k, n, &o);
    let scales = (0..tiles(n))
        .flat_map(|i| by_row.scales[i * TILE * tiles(k)..][..tiles(k)].to_vec())
        .collect();
    (by_row.codes, by_column.codes, scales)
}

/// Code `column` of row `row` in rows of `stride` words.
pub fn code(codes: &[u32], stride: usize, row: usize, column: usize) -> u8 {
    (codes[row * stride + column / 4] >> (8 * (column % 4))) as u8
}

/// Fails unless codes are equal, either NaN standing for the other.
#[track_caller]
pub fn assert_codes(name: &str, actual: &[u32], expected: &[u32]) {
    assert_eq!(actual.len(), expected.len(), "{name}: words");
    let same_nan = |code: u8| if code == 0xFF { 0x7F } else { code };
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert_eq!(
            a.to_le_bytes().map(same_nan),
            e.to_le_bytes().map(same_nan),
            "{name}: word {i}: {a:08x} against {e:08x}"
        );
    }
}

/// Fails unless scales have the same bits, any NaN standing for any other.
#[track_caller]
pub fn assert_scales(name: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{name}: scales");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            a.to_bits() == e.to_bits() || (a.is_nan() && e.is_nan()),
            "{name}: scale {i}: {a:e} against {e:e}"
        );
    }
}
