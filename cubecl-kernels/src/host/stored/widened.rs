//! Rows of a stored weight as FP32 values.

use std::mem::MaybeUninit;
use std::ops::Range;

use half::bf16;

use crate::definition::{StoredMatrix, StoredPart, StoredRows, TILE, tiles};
use crate::host::gemm::widened;
use crate::host::output::zeroed;
use crate::host::quantize::e4m3_value;
use crate::host::simd::multiversion;

/// Writes some rows of `w`, which fill `out`.
pub(super) fn write(w: &StoredMatrix<'_>, rows: Range<usize>, out: &mut [MaybeUninit<f32>]) {
    let width = w.inputs();
    assert_eq!(out.len(), rows.len() * width, "invariant: the rows fill their output");
    if width == 0 {
        return;
    }
    let out = zeroed(out);
    let mut done = 0;
    for StoredPart { stored, rows } in w.parts(rows) {
        let out = &mut out[done * width..][..rows.len() * width];
        done += rows.len();
        match stored {
            StoredRows::Bf16(values) => {
                brains(&values[rows.start * width..rows.end * width], out);
            }
            StoredRows::E4m3 { codes, scales } => {
                let blocks = tiles(width);
                for (row, out) in rows.zip(out.chunks_exact_mut(width)) {
                    let scales = &scales[row / TILE * blocks..][..blocks];
                    coded(&codes[row * width..][..width], scales, out);
                }
            }
        }
    }
}

multiversion! {
    fn brains(values: &[bf16], out: &mut [f32]) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = widened(value);
        }
    }
}

multiversion! {
    /// A row of codes with a scale for each [`TILE`].
    fn coded(codes: &[u8], scales: &[f32], out: &mut [f32]) {
        let tiles = codes.chunks(TILE).zip(scales).zip(out.chunks_mut(TILE));
        for ((codes, &scale), out) in tiles {
            for (out, &code) in out.iter_mut().zip(codes) {
                *out = scale * e4m3_value(u32::from(code));
            }
        }
    }
}
