//! Largest magnitudes of a panel.
//!
//! Magnitudes are compared as integers, as which they have the order of the numbers, with infinity above all of them and NaN above
//! infinity: so NaN passes through by itself.

use super::panel::Panel;
use crate::definition::TILE;
use crate::host::simd::multiversion;

#[inline(always)]
fn magnitude(x: f32) -> i32 {
    (x.to_bits() & 0x7FFF_FFFF) as i32
}

/// The largest magnitude of some numbers. The order in which integers are compared does not matter, so the compiler keeps as many
/// partial results as it likes.
#[inline(always)]
fn of_all(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0, |largest, &x| magnitude(x).max(largest)) as u32)
}

multiversion! {
    /// Of each row tile, into `amax [rows, tiles(columns)]`.
    pub(super) fn of_rows(panel: Panel<'_>, amax: &mut [f32]) {
        let mut amax = amax.iter_mut();
        for r in 0..panel.rows {
            let (tiles, tail) = panel.row(r).as_chunks::<TILE>();
            for (tile, amax) in tiles.iter().zip(&mut amax) {
                *amax = of_all(tile);
            }
            if !tail.is_empty() && let Some(amax) = amax.next() {
                *amax = of_all(tail);
            }
        }
    }
}

multiversion! {
    /// Of each column, raising `amax [columns]`.
    pub(super) fn of_columns(panel: Panel<'_>, amax: &mut [f32]) {
        for r in 0..panel.rows {
            for (amax, &x) in amax.iter_mut().zip(panel.row(r)) {
                *amax = f32::from_bits(magnitude(*amax).max(magnitude(x)) as u32);
            }
        }
    }
}

/// The larger of two largest magnitudes.
pub(super) fn larger(a: f32, b: f32) -> f32 {
    f32::from_bits(magnitude(a).max(magnitude(b)) as u32)
}
