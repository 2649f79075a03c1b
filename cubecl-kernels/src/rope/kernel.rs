//! Device code of the rotation, a vector of entries a unit.

use crate::definition::RopeLayout;
use cubecl::prelude::*;

/// The sizes of a rotation.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Sizes {
    pub(super) tokens: u32,
    pub(super) heads: u32,
    pub(super) head_dim: u32,
    pub(super) rope_dim: u32,
    /// All entries.
    pub(super) total: u32,
}

/// Each pair of the last entries of a head turns, `(a, b) -> (a cos - b sin, a sin + b cos)`, or back
/// where `sign` is -1; the rest is copied. A vector lies in one part of a head.
///
/// # Shapes
/// In vectors of `width`, `x` and `y` `[batch, tokens, heads, head_dim]`, `total` of them; `cos` and
/// `sin` `[tokens, rope_dim / 2]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn rotate<N: Size>(
    x: &[Vector<f32, N>],
    cos: &[f32],
    sin: &[f32],
    y: &mut [Vector<f32, N>],
    sign: f32,
    sizes: Sizes,
    #[comptime] layout: RopeLayout,
    #[comptime] width: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit < sizes.total {
        let place = unit * width;
        let entry = place % sizes.head_dim;
        let nope = sizes.head_dim - sizes.rope_dim;
        let own = x[unit as usize];
        if entry < nope {
            y[unit as usize] = own;
        } else {
            let half = sizes.rope_dim / 2u32;
            let turned = entry - nope;
            let token = place / sizes.head_dim / sizes.heads % sizes.tokens;
            let mut result = Vector::<f32, N>::zero();
            if comptime!(layout == RopeLayout::Interleaved) {
                // Both entries of a pair are in the vector, or in the one beside it.
                let second = turned % 2u32 == 1u32;
                let place = if comptime!(width == 1) {
                    select(second, unit - 1u32, unit + 1u32)
                } else {
                    unit
                };
                let other = x[place as usize];
                #[unroll]
                for s in 0..width as usize {
                    let pair = (turned + comptime!(s as u32)) / 2u32;
                    let angle = (token * half + pair) as usize;
                    let partner = other.extract(comptime!(if width == 1 { 0 } else { s ^ 1 }));
                    let sine = sin[angle] * sign;
                    let turn = if comptime!(width == 1) {
                        select(second, sine, -sine)
                    } else if comptime!(s % 2 == 1) {
                        sine
                    } else {
                        -sine
                    };
                    result.insert(s, own.extract(s) * cos[angle] + partner * turn);
                }
            } else {
                let second = turned >= half;
                let apart = half / width;
                let other = x[select(second, unit - apart, unit + apart) as usize];
                let first = token * half + turned % half;
                #[unroll]
                for s in 0..width as usize {
                    let angle = (first + comptime!(s as u32)) as usize;
                    let sine = sin[angle] * sign;
                    let turn = select(second, sine, -sine);
                    result.insert(s, own.extract(s) * cos[angle] + other.extract(s) * turn);
                }
            }
            y[unit as usize] = result;
        }
    }
}
