//! Largest magnitudes of a panel.
//!
//! Magnitudes are compared as integers, as which they have the order of the numbers, with infinity
//! above all of them and NaN above infinity: so NaN passes through by itself.

use super::panel::Panel;
use crate::definition::TILE;
use crate::host::simd::multiversion;

#[inline(always)]
fn magnitude(x: f32) -> i32 {
    (x.to_bits() & 0x7FFF_FFFF) as i32
}

/// The largest magnitude of some numbers. The order in which integers are compared does not matter,
/// so the compiler keeps as many partial results as it likes.
#[inline(always)]
fn of_all(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0, |largest, &x| magnitude(x).max(largest)) as u32)
}

multiversion! {
    /// Finds the largest magnitude of each row tile, into `amax [rows, tiles(columns)]`.
    pub(super) fn of_rows(panel: Panel<'_>, amax: &mut [f32]) {
        let mut amax = amax.iter_mut();
        for r in 0..panel.rows {
            let (tiles, tail) = panel.row(r).as_chunks::<TILE>();
            for (tile, amax) in tiles.iter().zip(&mut amax) {
                *amax = of_all(tile);
            }
            if !tail.is_empty()
                && let Some(amax) = amax.next()
            {
                *amax = of_all(tail);
            }
        }
    }
}

multiversion! {
    /// Finds the largest magnitude of each column of a panel of at most [`TILE`] columns, into
    /// `amax [columns]`.
    pub(super) fn of_columns(panel: Panel<'_>, amax: &mut [f32]) {
        let mut columns = [0; TILE];
        for r in 0..panel.rows {
            let x = panel.row(r);
            if let Ok(x) = <&[f32; TILE]>::try_from(x) {
                for c in 0..TILE {
                    columns[c] = magnitude(x[c]).max(columns[c]);
                }
            } else {
                columns
                    .iter_mut()
                    .zip(x)
                    .for_each(|(column, &x)| *column = magnitude(x).max(*column));
            }
        }
        amax.iter_mut()
            .zip(columns)
            .for_each(|(amax, column)| *amax = f32::from_bits(column as u32));
    }
}

multiversion! {
    /// Finds the largest magnitude of each row and of each column of a panel of at most [`TILE`]
    /// columns, into `by_rows [rows]` and `by_columns [columns]`.
    pub(super) fn of_both(panel: Panel<'_>, by_rows: &mut [f32], by_columns: &mut [f32]) {
        let mut columns = [0; TILE];
        for (r, by_row) in by_rows.iter_mut().enumerate().take(panel.rows) {
            let x = panel.row(r);
            let mut row = 0;
            if let Ok(x) = <&[f32; TILE]>::try_from(x) {
                for c in 0..TILE {
                    columns[c] = magnitude(x[c]).max(columns[c]);
                    row = magnitude(x[c]).max(row);
                }
            } else {
                for (column, &x) in columns.iter_mut().zip(x) {
                    *column = magnitude(x).max(*column);
                    row = magnitude(x).max(row);
                }
            }
            *by_row = f32::from_bits(row as u32);
        }
        by_columns
            .iter_mut()
            .zip(columns)
            .for_each(|(amax, column)| *amax = f32::from_bits(column as u32));
    }
}

/// The larger of two largest magnitudes.
pub(super) fn larger(a: f32, b: f32) -> f32 {
    f32::from_bits(magnitude(a).max(magnitude(b)) as u32)
}
