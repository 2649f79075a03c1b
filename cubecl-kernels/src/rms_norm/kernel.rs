//! Device code of RMSNorm, a row a unit; the gradient of gamma by pieces of rows, then over pieces.
//!
//! # Rejected
//! - A cube a row, its sum through shared memory: a barrier a doubling, each of which costs a
//!   software renderer more than the row.

use cubecl::prelude::*;

/// Rows of a piece whose part of gamma's gradient one unit sums.
pub(super) const PIECE: u32 = 64;

/// `y = x rstd gamma`, `rstd = (mean(x^2) + eps)^(-1/2)`.
///
/// # Shapes
/// In vectors of `width`: `x`, `y` `[rows, vectors]`, `gamma` `[vectors]`; `rstd` `[rows]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn normalise<N: Size>(
    x: &[Vector<f32, N>],
    gamma: &[Vector<f32, N>],
    y: &mut [Vector<f32, N>],
    rstd: &mut [f32],
    eps: f32,
    rows: u32,
    vectors: u32,
    #[comptime] width: u32,
) {
    let row = ABSOLUTE_POS as u32;
    if row < rows {
        let base = row * vectors;
        let mut squares = 0.0f32;
        for d in 0..vectors {
            let value = x[(base + d) as usize];
            #[unroll]
            for s in 0..width as usize {
                squares = fma(value.extract(s), value.extract(s), squares);
            }
        }
        let factor = 1.0f32 / (squares / f32::cast_from(vectors * width) + eps).sqrt();
        rstd[row as usize] = factor;
        for d in 0..vectors {
            let place = (base + d) as usize;
            let value = x[place];
            let scale = gamma[d as usize];
            let mut result = Vector::<f32, N>::zero();
            #[unroll]
            for s in 0..width as usize {
                result.insert(s, value.extract(s) * factor * scale.extract(s));
            }
            y[place] = result;
        }
    }
}

/// `dx = rstd (dy gamma - x rstd^2 mean(dy gamma x))`.
///
/// # Shapes
/// Those of [`normalise`]; `dy`, `dx` as `x`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn input_gradient<N: Size>(
    x: &[Vector<f32, N>],
    gamma: &[Vector<f32, N>],
    rstd: &[f32],
    dy: &[Vector<f32, N>],
    dx: &mut [Vector<f32, N>],
    rows: u32,
    vectors: u32,
    #[comptime] width: u32,
) {
    let row = ABSOLUTE_POS as u32;
    if row < rows {
        let base = row * vectors;
        let mut dot = 0.0f32;
        for d in 0..vectors {
            let place = (base + d) as usize;
            let value = x[place];
            let above = dy[place];
            let scale = gamma[d as usize];
            #[unroll]
            for s in 0..width as usize {
                dot = fma(above.extract(s) * scale.extract(s), value.extract(s), dot);
            }
        }
        let factor = rstd[row as usize];
        let back = factor * factor * (dot / f32::cast_from(vectors * width));
        for d in 0..vectors {
            let place = (base + d) as usize;
            let value = x[place];
            let above = dy[place];
            let scale = gamma[d as usize];
            let mut result = Vector::<f32, N>::zero();
            #[unroll]
            for s in 0..width as usize {
                let own = above.extract(s) * scale.extract(s) - value.extract(s) * back;
                result.insert(s, factor * own);
            }
            dx[place] = result;
        }
    }
}

/// Each piece's part of `dgamma = sum over rows of dy x rstd`; a vector of it a unit.
///
/// # Shapes
/// Those of [`normalise`]; `parts` `[pieces, vectors]`, `total` vectors.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn gamma_parts<N: Size>(
    x: &[Vector<f32, N>],
    rstd: &[f32],
    dy: &[Vector<f32, N>],
    parts: &mut [Vector<f32, N>],
    rows: u32,
    vectors: u32,
    total: u32,
    #[comptime] width: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < total {
        let column = unit % vectors;
        let first = unit / vectors * PIECE;
        let end = select(first + PIECE < rows, first + PIECE, rows);
        let mut sums = Array::<f32>::new(width as usize);
        #[unroll]
        for s in 0..width as usize {
            sums[s] = 0.0f32;
        }
        for row in first..end {
            let place = (row * vectors + column) as usize;
            let value = x[place];
            let above = dy[place];
            let factor = rstd[row as usize];
            #[unroll]
            for s in 0..width as usize {
                sums[s] = fma(above.extract(s) * value.extract(s), factor, sums[s]);
            }
        }
        let mut result = Vector::<f32, N>::zero();
        #[unroll]
        for s in 0..width as usize {
            result.insert(s, sums[s]);
        }
        parts[unit as usize] = result;
    }
}

/// The sum of the pieces in their order; an entry a unit.
///
/// # Shapes
/// `parts` `[pieces, width]`, `sums` `[width]`.
#[cube(launch_unchecked)]
pub(super) fn sum_pieces(parts: &[f32], sums: &mut [f32], pieces: u32, width: u32) {
    let column = ABSOLUTE_POS as u32;
    if column < width {
        let mut sum = 0.0f32;
        for piece in 0..pieces {
            sum += parts[(piece * width + column) as usize];
        }
        sums[column as usize] = sum;
    }
}
