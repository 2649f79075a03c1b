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

/// Columns whose largest magnitudes are kept in registers while the rows go by.
const STRIPE: usize = 64;

/// Raises the largest magnitudes of some columns by those of a row, and gives that of the row.
#[inline(always)]
fn raise<const N: usize>(largest: &mut [i32; N], row: &[f32; N]) -> i32 {
    let mut of_row = [0; N];
    for c in 0..N {
        of_row[c] = magnitude(row[c]);
        largest[c] = of_row[c].max(largest[c]);
    }
    of_row.into_iter().fold(0, i32::max)
}

multiversion! {
    /// Finds the largest magnitude of each column of a panel of at most [`TILE`] columns, into
    /// `amax [columns]`.
    pub(super) fn of_columns(panel: Panel<'_>, amax: &mut [f32]) {
        let (stripes, last) = amax[..panel.columns].as_chunks_mut::<STRIPE>();
        let first_of_last = stripes.len() * STRIPE;
        for (index, amax) in stripes.iter_mut().enumerate() {
            let mut largest = [0; STRIPE];
            for r in 0..panel.rows {
                raise(&mut largest, &panel.row(r).as_chunks().0[index]);
            }
            *amax = largest.map(|magnitude| f32::from_bits(magnitude as u32));
        }
        last.fill(0.0);
        for r in 0..panel.rows {
            for (amax, &x) in last.iter_mut().zip(&panel.row(r)[first_of_last..]) {
                *amax = larger(*amax, x);
            }
        }
    }
}

multiversion! {
    /// Finds the largest magnitude of each row and of each column of a panel of at most [`TILE`]
    /// columns, into `by_rows [rows]` and `by_columns [columns]`.
    pub(super) fn of_both(panel: Panel<'_>, by_rows: &mut [f32], by_columns: &mut [f32]) {
        let (stripes, last) = by_columns[..panel.columns].as_chunks_mut::<STRIPE>();
        let first_of_last = stripes.len() * STRIPE;
        by_rows.fill(0.0);
        for (index, amax) in stripes.iter_mut().enumerate() {
            let mut largest = [0; STRIPE];
            for (r, by_row) in by_rows.iter_mut().enumerate().take(panel.rows) {
                let row = raise(&mut largest, &panel.row(r).as_chunks().0[index]);
                *by_row = f32::from_bits(row.max(magnitude(*by_row)) as u32);
            }
            *amax = largest.map(|magnitude| f32::from_bits(magnitude as u32));
        }
        last.fill(0.0);
        for (r, by_row) in by_rows.iter_mut().enumerate().take(panel.rows) {
            for (amax, &x) in last.iter_mut().zip(&panel.row(r)[first_of_last..]) {
                *amax = larger(*amax, x);
                *by_row = larger(*by_row, x);
            }
        }
    }
}

/// The larger of two largest magnitudes.
pub(super) fn larger(a: f32, b: f32) -> f32 {
    f32::from_bits(magnitude(a).max(magnitude(b)) as u32)
}
