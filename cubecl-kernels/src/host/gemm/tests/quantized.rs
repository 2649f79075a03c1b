//! Quantized matrices for tests: by the definition, one value at a time.

use crate::definition::{
    BlockScales, BlockTiled, Fp8Format, GroupedColumns, RowTiled, ScaleFormat, TILE, encode_fp8,
    scale_of, tiles, words,
};
use crate::host::gemm::ColumnTiled;
use crate::test_inputs::random;

/// A matrix tiled along its rows.
pub(super) struct Rows {
    pub(super) codes: Vec<u32>,
    pub(super) scales: Vec<f32>,
    rows: usize,
    depth: usize,
    format: Fp8Format,
}

impl Rows {
    pub(super) fn new(x: &[f32], rows: usize, depth: usize, format: Fp8Format) -> Self {
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for row in x.chunks_exact(depth.max(1)).take(rows) {
            let row_scales: Vec<f32> =
                row.chunks(TILE).map(|tile| scale(tile.iter().copied(), format)).collect();
            codes.extend(pack(
                row.iter().enumerate().map(|(i, x)| encode_fp8(x / row_scales[i / TILE], format)),
            ));
            scales.extend(row_scales);
        }
        Self { codes, scales, rows, depth, format }
    }

    /// Values of very different sizes from tile to tile.
    pub(super) fn random(seed: u64, rows: usize, depth: usize, format: Fp8Format) -> Self {
        let mut x = random(seed, rows * depth);
        for (i, x) in x.iter_mut().enumerate() {
            *x *= (((i / 100) % 7) as f32 - 3.0).exp2();
        }
        Self::new(&x, rows, depth, format)
    }

    pub(super) fn view(&self) -> RowTiled<'_> {
        RowTiled {
            codes: &self.codes,
            scales: &self.scales,
            rows: self.rows,
            depth: self.depth,
            format: self.format,
        }
    }
}

/// Weights tiled in blocks, stacked.
pub(super) struct Blocks {
    pub(super) codes: Vec<u32>,
    pub(super) scales: Vec<f32>,
    rows: usize,
    depth: usize,
    format: Fp8Format,
}

impl Blocks {
    pub(super) fn new(w: &[f32], rows: usize, depth: usize, format: Fp8Format) -> Self {
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for w in w.chunks_exact((rows * depth).max(1)) {
            let from = scales.len();
            for rows in w.chunks(TILE * depth) {
                for tile in 0..tiles(depth) {
                    let columns =
                        |row: &[f32]| row[tile * TILE..depth.min((tile + 1) * TILE)].to_vec();
                    scales.push(scale(rows.chunks_exact(depth).flat_map(columns), format));
                }
            }
            for (r, row) in w.chunks_exact(depth.max(1)).enumerate() {
                let scale = |i: usize| scales[from + r / TILE * tiles(depth) + i / TILE];
                codes.extend(pack(
                    row.iter().enumerate().map(|(i, x)| encode_fp8(x / scale(i), format)),
                ));
            }
        }
        Self { codes, scales, rows, depth, format }
    }

    pub(super) fn random(seed: u64, rows: usize, depth: usize, format: Fp8Format) -> Self {
        Self::new(&random(seed, rows * depth), rows, depth, format)
    }

    /// The codes transposed, for Dgrad, beside the same scales.
    pub(super) fn transposed(&self) -> Vec<u32> {
        let matrix = self.rows * words(self.depth);
        let code = |codes: &[u32], row: usize, i: usize| {
            codes[row * words(self.depth) + i / 4].to_le_bytes()[i % 4]
        };
        let one = |codes: &[u32]| -> Vec<u32> {
            (0..self.depth)
                .flat_map(|i| {
                    pack((0..self.rows).map(|row| code(codes, row, i))).collect::<Vec<_>>()
                })
                .collect()
        };
        self.codes.chunks_exact(matrix.max(1)).flat_map(one).collect()
    }

    pub(super) fn view(&self) -> BlockTiled<'_> {
        BlockTiled {
            codes: &self.codes,
            scales: &self.scales,
            scale_layout: BlockScales::Stored,
            rows: self.rows,
            depth: self.depth,
            format: self.format,
        }
    }

    /// The view of [`Blocks::transposed`].
    pub(super) fn transposed_view<'a>(&'a self, codes: &'a [u32]) -> BlockTiled<'a> {
        BlockTiled {
            codes,
            scale_layout: BlockScales::Transposed,
            rows: self.depth,
            depth: self.rows,
            ..self.view()
        }
    }
}

/// Rows of several experts, transposed and tiled along them.
pub(super) struct Columns {
    codes: Vec<u32>,
    scales: Vec<f32>,
    columns: usize,
    format: Fp8Format,
}

impl Columns {
    pub(super) fn new(x: &[f32], offsets: &[usize], columns: usize, format: Fp8Format) -> Self {
        let rows = offsets[offsets.len() - 1];
        let layout = GroupedColumns::new("test", offsets, rows).unwrap();
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for column in 0..columns {
            for bounds in offsets.windows(2) {
                let values: Vec<f32> =
                    (bounds[0]..bounds[1]).map(|row| x[row * columns + column]).collect();
                let part = Rows::new(&values, 1, values.len(), format);
                codes.extend(part.codes);
                scales.extend(part.scales);
            }
            assert_eq!(codes.len(), (column + 1) * layout.words[offsets.len() - 1]);
        }
        Self { codes, scales, columns, format }
    }

    pub(super) fn view(&self) -> ColumnTiled<'_> {
        ColumnTiled {
            codes: &self.codes,
            scales: &self.scales,
            columns: self.columns,
            format: self.format,
        }
    }

    /// One expert's part as a matrix of its own.
    pub(super) fn part(
        x: &[f32],
        offsets: &[usize],
        expert: usize,
        columns: usize,
        format: Fp8Format,
    ) -> Rows {
        let (from, to) = (offsets[expert], offsets[expert + 1]);
        let transposed: Vec<f32> =
            (0..columns).flat_map(|c| (from..to).map(move |row| x[row * columns + c])).collect();
        Rows::new(&transposed, columns, to - from, format)
    }
}

fn scale(values: impl Iterator<Item = f32>, format: Fp8Format) -> f32 {
    scale_of(values.fold(0.0, |amax, x| amax.max(x.abs())), format.max(), ScaleFormat::F32)
}

/// Codes as words, padded with zero.
fn pack(codes: impl Iterator<Item = u8>) -> impl Iterator<Item = u32> {
    let codes: Vec<u8> = codes.collect();
    let word = |codes: &[u8]| {
        u32::from_le_bytes(std::array::from_fn(|i| codes.get(i).copied().unwrap_or(0)))
    };
    codes.chunks(4).map(word).collect::<Vec<_>>().into_iter()
}
