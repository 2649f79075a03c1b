//! Device code: lines of FP32 become pairs of BF16, head by head.

use super::form::SLICE;
use crate::device::MatrixUnit;
use crate::device::matrix::fragment::pair;
use cubecl::prelude::*;

/// Lines of two parts as they lie, and as they are packed.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Parts {
    pub(super) heads: u32,
    pub(super) lines: u32,
    /// Numbers of both parts.
    pub(super) first: u32,
    pub(super) second: u32,
    /// Slices that they become.
    pub(super) first_slices: u32,
    pub(super) second_slices: u32,
}

/// `packed = x`, the first part times `factor`, rounded to BF16; zeros up to whole slices. A word a
/// unit.
///
/// # Shapes
/// `x` `[sequences, lines, heads, first + second]`; `packed` `[sequences, heads, lines, words]` of
/// the slices of both parts, `total` words.
#[cube(launch_unchecked)]
pub(super) fn pack_lines(
    x: &[f32],
    packed: &mut [u32],
    parts: Parts,
    factor: f32,
    total: u32,
    #[comptime] unit: MatrixUnit,
) {
    let at = ABSOLUTE_POS as u32;
    if at < total {
        let before = parts.first_slices * SLICE;
        let words = before + parts.second_slices * SLICE;
        let (word, line) = (at % words, at / words % parts.lines);
        let (head, sequence) =
            (at / words / parts.lines % parts.heads, at / words / parts.lines / parts.heads);
        let own = word < before;
        let column = 2u32 * select(own, word, word - before);
        let count = select(own, parts.first, parts.second);
        let scale = select(own, factor, 1.0f32);
        let row = (sequence * parts.lines + line) * parts.heads + head;
        let from = row * (parts.first + parts.second) + select(own, 0u32, parts.first) + column;
        let mut low = 0.0f32;
        let mut high = 0.0f32;
        if column < count {
            low = x[from as usize] * scale;
        }
        if column + 1u32 < count {
            high = x[(from + 1u32) as usize] * scale;
        }
        packed[at as usize] = pair(low, high, unit);
    }
}
