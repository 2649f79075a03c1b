//! 128x128 blocks of weights, in both orientations.

use super::amax;
use super::cut::WORK;
use super::divisor::Divisors;
use super::encode::encode_rows;
use super::panel::{Element, Matrix, Panel, Source};
use super::store::{CodeRows, pack};
use super::turn::pack_transposed;
use crate::definition::{
    CODES_A_WORD, Granularity, KernelError, QuantizeOptions, QuantizedBlocks, TILE, check_length,
    element_count, tiles, words,
};
use crate::host::buffer::Buffer;
use crate::host::output::{Parts, build, build_two};
use crate::host::parallel::{chunk, for_each, map};

/// Casts weights to FP8 in 128x128 blocks, the codes in both orientations: for Fprop, and
/// transposed for Dgrad.
///
/// With [`Granularity::Tensor`] all experts share a scale.
///
/// # Shapes
/// - `w [experts, n, k]` -> codes `[experts, n, words(k)]`, transposed `[experts, k, words(n)]`,
///   scales `[experts, tiles(n), tiles(k)]`
///
/// # Errors
/// [`KernelError::Length`] naming `w`.
///
/// Source: technical report 3.3.2.
pub fn quantize_blocks<E: Element>(
    w: &[E],
    experts: usize,
    n: usize,
    k: usize,
    options: &QuantizeOptions,
) -> Result<QuantizedBlocks, KernelError> {
    const OP: &str = "quantize_blocks";
    check_length(OP, "w", w.len(), &[experts, n, k])?;
    element_count(OP, "codes", &[experts, n, words(k)])?;
    element_count(OP, "transposed", &[experts, k, words(n)])?;
    if n == 0 || k == 0 {
        return Ok(QuantizedBlocks::default());
    }
    let source = Matrix { x: w, cols: k };
    let (bands, row_words, col_words, row_tiles) = (tiles(n), words(k), words(n), tiles(k));
    let rows_of = |index: usize| {
        let part = chunk(index % bands, TILE, n);
        let first = index / bands * n;
        first + part.start..first + part.end
    };
    let tensor = (options.granularity == Granularity::Tensor).then(|| {
        let of_bands = map(experts * bands, w.len() * WORK, |index| {
            let mut buffer = Buffer::take();
            let of_block =
                |t| largest(source.panel(rows_of(index), chunk(t, TILE, k), &mut buffer));
            (0..row_tiles).map(of_block).fold(0.0, amax::larger)
        });
        of_bands.into_iter().fold(0.0, amax::larger)
    });
    let mut scales = Vec::new();
    // SAFETY: the tasks cover all bands of 128 rows of all experts, and each writes the words and
    // scales of all blocks of its band.
    let (codes, transposed) = unsafe {
        build_two([experts * n * row_words, experts * k * col_words], |codes, transposed| {
            let (codes_out, transposed_out) = (Parts::new(codes), Parts::new(transposed));
            scales = build(experts * bands * row_tiles, |scales| {
                let scales_out = Parts::new(scales);
                for_each(experts * bands, w.len(), |index| {
                    let (mut buffer, mut divisors, mut codes) =
                        (Buffer::take(), Divisors::fp8(options.format), [0; TILE * TILE]);
                    let rows = rows_of(index);
                    for t in 0..row_tiles {
                        let columns = chunk(t, TILE, k);
                        let panel = source.panel(rows.clone(), columns.clone(), &mut buffer);
                        let largest = tensor.unwrap_or_else(|| largest(panel));
                        divisors.set_amax(&[largest; TILE][..panel.rows], options.scale);
                        let rows_of_codes =
                            CodeRows::of(&mut codes, panel.rows, panel.columns, TILE);
                        encode_rows(panel, &divisors, rows_of_codes, options.format);
                        for (i, r) in rows.clone().enumerate() {
                            let out = codes_out.part(
                                r * row_words + columns.start / CODES_A_WORD,
                                words(columns.len()),
                            );
                            pack(&codes[i * TILE..][..columns.len()], out);
                        }
                        let start = (index / bands * k + columns.start) * col_words
                            + words(index % bands * TILE);
                        pack_transposed(
                            &mut codes,
                            panel.rows,
                            columns.len(),
                            &transposed_out,
                            start,
                            col_words,
                        );
                        scales_out.part(index * row_tiles + t, 1)[0].write(divisors.scale[0]);
                    }
                });
            });
        })
    };
    Ok(QuantizedBlocks { codes, transposed, scales })
}

/// The largest magnitude of a panel of at most [`TILE`] columns.
fn largest(panel: Panel<'_>) -> f32 {
    let mut of_rows = [0.0; TILE];
    amax::of_rows(panel, &mut of_rows[..panel.rows]);
    of_rows.into_iter().fold(0.0, amax::larger)
}
