//! Products of the experts: contiguous rows (training), a fixed number of rows each (decoding), and
//! weight gradients.

use super::dense::check_accumulation;
use super::output::{Output, build_f32};
use super::route::Route;
use super::source::{Group, Source};
use super::task::product;
use crate::definition::{
    Accumulation, BlockTiled, Fp8Format, GroupedColumns, KernelError, OperandView, RowTiled,
    check_length, element_count,
};
use crate::host::parallel::Threads;

const A: [&str; 2] = ["a.codes", "a.scales"];
const W: [&str; 2] = ["weights.codes", "weights.scales"];

/// Multiplies each expert's rows by its weight, `c[r] = a[r] w[e]^T` for
/// `offsets[e] <= r < offsets[e + 1]` (1x128 | 128x128).
///
/// # Shapes
/// - `a [rows, k]` sorted by expert, `offsets [experts + 1]`, `weights [experts, n, k]` ->
///   `[rows, n]`
///
/// # Errors
/// [`KernelError::Length`] naming codes or scales, [`KernelError::Invalid`] where depths differ,
/// `offsets` do not rise from 0 to `rows`, or `accumulation` has no 2 to 24 bits.
///
/// Source: technical report 2.1.2, 3.3.2.
pub fn fp8_grouped_gemm_nt(
    a: &RowTiled<'_>,
    offsets: &[usize],
    weights: &BlockTiled<'_>,
    accumulation: Accumulation,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "fp8_grouped_gemm_nt";
    a.check(OP, A)?;
    GroupedColumns::new(OP, offsets, a.rows)?;
    let n = check_weights(OP, a, weights, offsets.len() - 1, accumulation)?;
    element_count(OP, "c", &[a.rows, n])?;
    let group = |(e, bounds): (usize, &[usize])| Group {
        left: Source::Codes(OperandView::rows_of(a, bounds[0], bounds[1] - bounds[0])),
        right: Source::Codes(OperandView::expert_of(weights, e)),
        start: bounds[0] * n,
    };
    let groups: Vec<_> = offsets.windows(2).enumerate().map(group).collect();
    // SAFETY: offsets rise from 0 to the rows, so that the groups cover all of them.
    Ok(unsafe {
        build_f32(a.rows * n, n, |c| {
            product(Route::of_experts(), &groups, accumulation, c, Threads::Pool)
        })
    })
}

/// Computes [`fp8_grouped_gemm_nt`] with room for `max_rows` rows of each expert, of which the
/// first `counts[e]` are used; the others of the result are zero.
///
/// # Shapes
/// - `a [experts, max_rows, k]` (its `rows` are `experts * max_rows`), `counts [experts]`,
///   `weights [experts, n, k]` -> `[experts, max_rows, n]`
///
/// # Errors
/// The errors of [`fp8_grouped_gemm_nt`]; [`KernelError::Index`] naming the count that exceeds
/// `max_rows`.
///
/// Source: technical report 3.4.2.
pub fn fp8_grouped_gemm_nt_masked(
    a: &RowTiled<'_>,
    counts: &[usize],
    weights: &BlockTiled<'_>,
    accumulation: Accumulation,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "fp8_grouped_gemm_nt_masked";
    a.check(OP, A)?;
    let experts = counts.len();
    let n = check_weights(OP, a, weights, experts, accumulation)?;
    element_count(OP, "c", &[a.rows, n])?;
    let max_rows = a.rows.checked_div(experts).unwrap_or(0);
    if max_rows * experts != a.rows {
        return Err(KernelError::Invalid {
            op: OP,
            argument: "a.rows",
            requirement: "must be a multiple of the number of experts",
        });
    }
    if let Some(position) = counts.iter().position(|&count| count > max_rows) {
        let value = i64::try_from(counts[position]).unwrap_or(i64::MAX);
        return Err(KernelError::Index {
            op: OP,
            argument: "counts",
            position,
            value,
            bound: max_rows + 1,
        });
    }
    let group = |(e, &count): (usize, &usize)| Group {
        left: Source::Codes(OperandView::rows_of(a, e * max_rows, count)),
        right: Source::Codes(OperandView::expert_of(weights, e)),
        start: e * max_rows * n,
    };
    let groups: Vec<_> = counts.iter().enumerate().map(group).collect();
    let mut c = vec![0.0; a.rows * n];
    product(
        Route::of_experts(),
        &groups,
        accumulation,
        &Output::new(crate::host::output::as_uninit(&mut c), n),
        Threads::Pool,
    );
    Ok(c)
}

/// The rows of all experts, transposed and tiled along them within each expert (128x1), as
/// [`GroupedColumns`] lays them out: a word and a tile belong to one expert.
///
/// # Shapes
/// - `codes [columns, layout.words total]`, `scales [columns, layout.tiles total]`
#[derive(Debug, Clone, Copy)]
pub struct ColumnTiled<'a> {
    /// The codes, four a word.
    pub codes: &'a [u32],
    /// The multipliers that dequantize.
    pub scales: &'a [f32],
    /// The columns of the matrix as it was, which are rows here.
    pub columns: usize,
    /// The format of the codes.
    pub format: Fp8Format,
}

/// Computes each expert's weight gradient, `dw[e] = dy_e^T x_e` (1x128 | 1x128 along the expert's
/// rows), zero for an expert without rows.
///
/// # Shapes
/// - `dy` of `n` columns and `x` of `k` columns over the same rows, `offsets [experts + 1]` ->
///   `[experts, n, k]`
///
/// # Errors
/// [`KernelError::Length`] naming codes or scales, [`KernelError::Invalid`] where `offsets` do not
/// rise from 0 or `accumulation` has no 2 to 24 bits.
///
/// Source: technical report 3.3.1, 3.3.2.
pub fn fp8_grouped_wgrad_nt(
    dy: &ColumnTiled<'_>,
    x: &ColumnTiled<'_>,
    offsets: &[usize],
    accumulation: Accumulation,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "fp8_grouped_wgrad_nt";
    let groups = wgrad_groups(OP, dy, x, offsets, accumulation)?;
    let len = element_count(OP, "dw", &[groups.len(), dy.columns, x.columns])?;
    // SAFETY: there is a group for every expert, and each writes all of its part.
    Ok(unsafe {
        build_f32(len, x.columns, |dw| {
            product(Route::of_experts(), &groups, accumulation, dw, Threads::Pool)
        })
    })
}

/// Adds [`fp8_grouped_wgrad_nt`] to `dw`.
///
/// # Shapes
/// - `dw [experts, n, k]`
///
/// # Errors
/// The errors of [`fp8_grouped_wgrad_nt`], and [`KernelError::Length`] naming `dw`.
pub fn fp8_grouped_wgrad_nt_accumulate(
    dy: &ColumnTiled<'_>,
    x: &ColumnTiled<'_>,
    offsets: &[usize],
    accumulation: Accumulation,
    dw: &mut [f32],
) -> Result<(), KernelError> {
    const OP: &str = "fp8_grouped_wgrad_nt_accumulate";
    let groups = wgrad_groups(OP, dy, x, offsets, accumulation)?;
    check_length(OP, "dw", dw.len(), &[groups.len(), dy.columns, x.columns])?;
    product(
        Route::of_experts(),
        &groups,
        accumulation,
        &Output::accumulate(dw, x.columns),
        Threads::Pool,
    );
    Ok(())
}

fn wgrad_groups<'a>(
    op: &'static str,
    dy: &ColumnTiled<'a>,
    x: &ColumnTiled<'a>,
    offsets: &[usize],
    accumulation: Accumulation,
) -> Result<Vec<Group<'a>>, KernelError> {
    check_accumulation(op, accumulation)?;
    let rows = offsets.last().copied().unwrap_or(0);
    let layout = GroupedColumns::new(op, offsets, rows)?;
    let experts = offsets.len() - 1;
    let (words, tiles) = (layout.words[experts], layout.tiles[experts]);
    for (x, names) in [(dy, ["dy.codes", "dy.scales"]), (x, ["x.codes", "x.scales"])] {
        check_length(op, names[0], x.codes.len(), &[x.columns, words])?;
        check_length(op, names[1], x.scales.len(), &[x.columns, tiles])?;
    }
    element_count(op, "dw", &[experts, dy.columns, x.columns])?;
    let part = |x: &ColumnTiled<'a>, e: usize| {
        Source::Codes(OperandView {
            // An expert without rows may start past the last word.
            codes: x.codes.get(layout.words[e]..).unwrap_or(&[]),
            row_words: words,
            rows: x.columns,
            depth: offsets[e + 1] - offsets[e],
            format: x.format,
            scales: x.scales.get(layout.tiles[e]..).unwrap_or(&[]),
            scale_rows: 1,
            scale_row_stride: tiles,
            scale_tile_stride: 1,
        })
    };
    let size = dy.columns * x.columns;
    Ok((0..experts)
        .map(|e| Group { left: part(dy, e), right: part(x, e), start: e * size })
        .collect())
}

fn check_weights(
    op: &'static str,
    a: &RowTiled<'_>,
    weights: &BlockTiled<'_>,
    experts: usize,
    accumulation: Accumulation,
) -> Result<usize, KernelError> {
    weights.check(op, W, experts)?;
    if a.depth != weights.depth {
        return Err(KernelError::Invalid {
            op,
            argument: "weights.depth",
            requirement: "must be that of `a`",
        });
    }
    check_accumulation(op, accumulation)?;
    Ok(weights.rows)
}
