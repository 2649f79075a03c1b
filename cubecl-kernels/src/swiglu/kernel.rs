//! Device code of SwiGLU, one vector a unit.
//!
//! # Rejected
//! - `g / (1 + e^-g)`: `e^-g` overflows below -88, and WGSL promises nothing of a result that
//!   overflows.
//! - `dy * up * s` from the left: `dy * up` can overflow where `s` is zero, and gives NaN. The
//!   factors that vanish come first.

use cubecl::prelude::*;

/// `s = 1 / (1 + e^-g)` and `1 - s`, from an exponential that is never above 1.
#[cube]
fn sigmoid(gate: f32) -> (f32, f32) {
    let e = (-gate.abs()).exp();
    let large = 1.0f32 / (1.0f32 + e);
    let small = e * large;
    let positive = gate >= 0.0f32;
    (select(positive, large, small), select(positive, small, large))
}

/// `silu(gate) * up`.
#[cube]
pub(crate) fn gated(gate: f32, up: f32) -> f32 {
    let (s, _) = sigmoid(gate);
    gate * s * up
}

/// `y = silu(gate) * up`.
///
/// # Shapes
/// In vectors of `N`: `gate_up` `[rows, 2 width]`, `y` `[rows, width]`, `total` vectors.
#[cube(launch_unchecked)]
pub(crate) fn swiglu_forward<N: Size>(
    gate_up: &[Vector<f32, N>],
    y: &mut [Vector<f32, N>],
    total: u32,
    width: u32,
    #[comptime] vector: u32,
) {
    let index = ABSOLUTE_POS as u32;
    if index < total {
        // The gate's place: this row's outputs are offset by the rows' `up` halves before it.
        let place = index + index / width * width;
        let gate = gate_up[place as usize];
        let up = gate_up[(place + width) as usize];
        let mut result = Vector::<f32, N>::zero();
        #[unroll]
        for i in 0..vector as usize {
            result.insert(i, gated(gate.extract(i), up.extract(i)));
        }
        y[index as usize] = result;
    }
}

/// `dgate = dy up s (1 + g (1 - s))`, `dup = dy g s`.
///
/// # Shapes
/// In vectors of `N`: `gate_up` and `dx` `[rows, 2 width]`, `dy` `[rows, width]`, `total` vectors.
#[cube(launch_unchecked)]
pub(crate) fn swiglu_gradient<N: Size>(
    gate_up: &[Vector<f32, N>],
    dy: &[Vector<f32, N>],
    dx: &mut [Vector<f32, N>],
    total: u32,
    width: u32,
    #[comptime] vector: u32,
) {
    let index = ABSOLUTE_POS as u32;
    if index < total {
        let place = index + index / width * width;
        let gate = gate_up[place as usize];
        let up = gate_up[(place + width) as usize];
        let upstream = dy[index as usize];
        let mut dgate = Vector::<f32, N>::zero();
        let mut dup = Vector::<f32, N>::zero();
        #[unroll]
        for i in 0..vector as usize {
            let g = gate.extract(i);
            let (s, rest) = sigmoid(g);
            let above = upstream.extract(i);
            dgate.insert(i, s * (1.0f32 + g * rest) * up.extract(i) * above);
            dup.insert(i, g * s * above);
        }
        dx[place as usize] = dgate;
        dx[(place + width) as usize] = dup;
    }
}
