//! SwiGLU and the cast of its output in one pass, also from gate and up in FP8 as they are kept for
//! backward (3.3.3).

use std::ops::Range;

use super::columns::{self, columns_layout};
use super::cut::for_panels;
use super::dequantize::{RowTiles, by_rows};
use super::divisor::Divisors;
use super::panel::{Panel, Source, computed_rows};
use super::rows::{self, check_row_tiles, quantize_rows};
use super::store::RowTilesOut;
use crate::definition::{
    Fp8Format, Granularity, KernelError, QuantizeOptions, Quantized, TILE, check_length,
    element_count, tiles, words,
};
use crate::host::buffer::Buffer;
use crate::host::output::build_two;
use crate::host::simd::multiversion;
use crate::host::swiglu::{gradients, value};

/// Computes `h = silu(gate) * up` in FP8 row tiles; `h` itself is never in memory as a whole.
///
/// The codes are those of [`quantize_rows`](super::quantize_rows) of
/// [`swiglu`](fn@crate::host::swiglu).
///
/// # Shapes
/// - `gate_up [rows, 2 inter]`, the gate in the first half of each row -> codes
///   `[rows, words(inter)]`, scales `[rows, tiles(inter)]`
///
/// # Errors
/// [`KernelError::Length`] naming `gate_up`.
///
/// Source: technical report 3.3.3.
pub fn swiglu_quantize_rows(
    gate_up: &[f32],
    rows: usize,
    inter: usize,
    options: &QuantizeOptions,
) -> Result<Quantized, KernelError> {
    const OP: &str = "swiglu_quantize_rows";
    check_length(OP, "gate_up", gate_up.len(), &[rows, 2, inter])?;
    check_row_tiles(OP, rows, inter)?;
    Ok(rows::quantize(&SwiGlu { gate_up, inter }, rows, inter, options))
}

/// Casts gate and up beside [`swiglu_quantize_rows`], in one read of them: (what the down-projection
/// reads, what is kept for backward).
///
/// The codes of gate and up are those of [`quantize_rows`](super::quantize_rows).
///
/// # Shapes
/// - `gate_up [rows, 2 inter]` -> codes `[rows, words(inter)]`, scales `[rows, tiles(inter)]`; codes
///   `[rows, words(2 inter)]`, scales `[rows, tiles(2 inter)]`
///
/// # Errors
/// [`KernelError::Length`] naming `gate_up`.
///
/// Source: technical report 3.3.3.
pub fn swiglu_quantize_rows_and_input(
    gate_up: &[f32],
    rows: usize,
    inter: usize,
    options: &QuantizeOptions,
) -> Result<(Quantized, Quantized), KernelError> {
    const OP: &str = "swiglu_quantize_rows_and_input";
    let width = element_count(OP, "gate_up", &[2, inter])?;
    check_length(OP, "gate_up", gate_up.len(), &[rows, 2, inter])?;
    check_row_tiles(OP, rows, width)?;
    if options.granularity != Granularity::Tile || !inter.is_multiple_of(TILE) {
        // Tiles of gate and up together do not begin where those of their product do, or scales are
        // shared by more than a tile.
        let hidden = swiglu_quantize_rows(gate_up, rows, inter, options)?;
        return Ok((hidden, quantize_rows(gate_up, rows, width, options)?));
    }
    let source = SwiGlu { gate_up, inter };
    let mut kept = Quantized::default();
    // SAFETY: the panels cover all rows and columns of SwiGLU's result, and so both halves of its
    // input; each writes its words and scales.
    let (codes, scales) = unsafe {
        build_two([rows * words(inter), rows * tiles(inter)], |codes, scales| {
            let hidden = RowTilesOut::new(codes, scales, inter);
            let (codes, scales) =
                build_two([rows * words(width), rows * tiles(width)], |codes, scales| {
                    let input = RowTilesOut::new(codes, scales, width);
                    for_panels(rows, inter, |panels| {
                        let (mut buffer, mut divisors) =
                            (Buffer::take(), Divisors::fp8(options.format));
                        let mut cast = |panel: Panel<'_>, out: &RowTilesOut<'_>, rows, column| {
                            rows::cast(panel, &mut divisors, out, rows, column, options);
                        };
                        for (rows, columns) in panels {
                            let panel = source.panel(rows.clone(), columns.clone(), &mut buffer);
                            cast(panel, &hidden, rows.clone(), columns.start);
                            for column in [columns.start, inter + columns.start] {
                                let first = &gate_up[rows.start * width + column..];
                                let half = Panel::new(first, width, rows.len(), columns.len());
                                cast(half, &input, rows.clone(), column);
                            }
                        }
                    });
                });
            kept = Quantized { codes, scales };
        })
    };
    Ok((Quantized { codes, scales }, kept))
}

/// Computes `h = silu(gate) * up` in FP8 column tiles, transposed, by groups of rows: the result is
/// what the down-projection's Wgrad sums over.
///
/// # Shapes
/// - `gate_up [rows, 2 inter]`, `offsets [groups + 1]` rising from 0 to `rows` -> codes
///   `[inter, total words]`, scales `[inter, total tiles]`
///
/// # Errors
/// [`KernelError::Length`] naming `gate_up`, [`KernelError::Invalid`] naming `offsets`.
pub fn swiglu_quantize_columns(
    gate_up: &[f32],
    offsets: &[usize],
    inter: usize,
    options: &QuantizeOptions,
) -> Result<Quantized, KernelError> {
    const OP: &str = "swiglu_quantize_columns";
    check_length(OP, "gate_up", gate_up.len(), &[offsets.last().copied().unwrap_or(0), 2, inter])?;
    let layout = columns_layout(OP, offsets, inter)?;
    Ok(columns::quantize(&SwiGlu { gate_up, inter }, offsets, &layout, inter, options))
}

/// Computes [`swiglu_quantize_rows`] of gate and up that are themselves in FP8 row tiles of
/// `format`.
///
/// # Shapes
/// - codes `[rows, words(2 inter)]`, scales `[rows, tiles(2 inter)]` -> as there
///
/// # Errors
/// [`KernelError::Length`] naming `codes` or `scales`.
pub fn swiglu_quantize_rows_from_codes(
    codes: &[u32],
    scales: &[f32],
    format: Fp8Format,
    rows: usize,
    inter: usize,
    options: &QuantizeOptions,
) -> Result<Quantized, KernelError> {
    const OP: &str = "swiglu_quantize_rows_from_codes";
    let source = SwiGluCodes::new(OP, codes, scales, rows, inter, format)?;
    check_row_tiles(OP, rows, inter)?;
    Ok(rows::quantize(&source, rows, inter, options))
}

/// Computes [`swiglu_quantize_columns`] of gate and up that are themselves in FP8 row tiles of
/// `format`: SwiGLU's output recomputed in backward.
///
/// # Shapes
/// - codes `[rows, words(2 inter)]`, scales `[rows, tiles(2 inter)]`, `offsets [groups + 1]` -> as
///   there
///
/// # Errors
/// [`KernelError::Length`] naming `codes` or `scales`, [`KernelError::Invalid`] naming `offsets`.
pub fn swiglu_quantize_columns_from_codes(
    codes: &[u32],
    scales: &[f32],
    format: Fp8Format,
    offsets: &[usize],
    inter: usize,
    options: &QuantizeOptions,
) -> Result<Quantized, KernelError> {
    const OP: &str = "swiglu_quantize_columns_from_codes";
    let layout = columns_layout(OP, offsets, inter)?;
    let source = SwiGluCodes::new(OP, codes, scales, offsets[offsets.len() - 1], inter, format)?;
    Ok(columns::quantize(&source, offsets, &layout, inter, options))
}

/// Computes the gradient of SwiGLU at gate and up in FP8 row tiles of `format`, as
/// [`swiglu_backward`](crate::host::swiglu_backward) of what the codes stand for.
///
/// # Shapes
/// - codes `[rows, words(2 inter)]`, scales `[rows, tiles(2 inter)]`, `dy [rows, inter]` ->
///   `[rows, 2 inter]`
///
/// # Errors
/// [`KernelError::Length`] naming `codes`, `scales` or `dy`.
pub fn swiglu_backward_from_codes(
    codes: &[u32],
    scales: &[f32],
    format: Fp8Format,
    dy: &[f32],
    rows: usize,
    inter: usize,
) -> Result<Vec<f32>, KernelError> {
    const OP: &str = "swiglu_backward_from_codes";
    let source = SwiGluCodes::new(OP, codes, scales, rows, inter, format)?;
    check_length(OP, "dy", dy.len(), &[rows, inter])?;
    Ok(by_rows(rows, 2 * inter, |r, out| {
        source.gate_up.row(r, 0, out);
        backward(&dy[r * inter..][..inter], out);
    }))
}

multiversion! {
    fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *out = value::<S>(g, u);
        }
    }
}

multiversion! {
    /// Turns gate and up of a row into their gradients.
    fn backward(dy: &[f32], gate_up: &mut [f32]) {
        let (gate, up) = gate_up.split_at_mut(dy.len());
        for ((gate, up), &dy) in gate.iter_mut().zip(up).zip(dy) {
            (*gate, *up) = gradients::<S>(*gate, *up, dy);
        }
    }
}

/// `silu(gate) * up` of gate and up in memory.
struct SwiGlu<'a> {
    gate_up: &'a [f32],
    inter: usize,
}

impl Source for SwiGlu<'_> {
    fn panel<'a>(
        &'a self,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> Panel<'a> {
        computed_rows(rows, columns.len(), buffer, |r, out| {
            let (gate, up) =
                self.gate_up[r * 2 * self.inter..][..2 * self.inter].split_at(self.inter);
            forward(&gate[columns.clone()], &up[columns.clone()], out);
        })
    }
}

/// `silu(gate) * up` of gate and up in row tiles.
struct SwiGluCodes<'a> {
    gate_up: RowTiles<'a>,
    inter: usize,
}

impl<'a> SwiGluCodes<'a> {
    fn new(
        op: &'static str,
        codes: &'a [u32],
        scales: &'a [f32],
        rows: usize,
        inter: usize,
        format: Fp8Format,
    ) -> Result<Self, KernelError> {
        element_count(op, "gate_up", &[rows, 2, inter])?;
        Ok(Self { gate_up: RowTiles::new(op, codes, scales, rows, 2 * inter, format)?, inter })
    }
}

impl Source for SwiGluCodes<'_> {
    fn panel<'a>(
        &'a self,
        rows: Range<usize>,
        columns: Range<usize>,
        buffer: &'a mut Buffer,
    ) -> Panel<'a> {
        let (mut gate, mut up) = ([0.0; TILE], [0.0; TILE]);
        computed_rows(rows, columns.len(), buffer, |r, out| {
            for (first, out) in columns.clone().step_by(TILE).zip(out.chunks_mut(TILE)) {
                let (gate, up) = (&mut gate[..out.len()], &mut up[..out.len()]);
                self.gate_up.row(r, first, gate);
                self.gate_up.row(r, self.inter + first, up);
                forward(gate, up, out);
            }
        })
    }
}
