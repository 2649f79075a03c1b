//! Device code: packed lines of a head, and their way into shared memory.

use super::form::{Form, SLICE};
use crate::attention::kernel::{Block, Sizes};
use crate::device::MatrixUnit;
use crate::device::matrix::fragment::shared_address;
use cubecl::prelude::*;

/// Packed lines of one head, in words: where line 0 is, and how many lines there are.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Strip {
    pub(super) base: u32,
    pub(super) end: u32,
}

/// Lines of `slices` slices of a head of all heads'.
#[cube]
fn strip(block: Block, lines: u32, sizes: Sizes, #[comptime] slices: u32) -> Strip {
    let first = (block.sequence * sizes.heads + block.head) * lines;
    Strip { base: first * comptime!(slices * SLICE), end: lines }
}

#[cube]
pub(super) fn queries(block: Block, sizes: Sizes, #[comptime] form: Form) -> Strip {
    strip(block, sizes.queries, sizes, comptime!(form.depth()))
}

#[cube]
pub(super) fn gradients(block: Block, sizes: Sizes, #[comptime] form: Form) -> Strip {
    strip(block, sizes.queries, sizes, comptime!(form.v))
}

/// Keys' parts without rotation, and after each its value.
#[cube]
pub(super) fn keys(block: Block, sizes: Sizes, #[comptime] form: Form) -> Strip {
    strip(block, sizes.keys, sizes, comptime!(form.nope + form.v))
}

/// The values of [`keys`].
#[cube]
pub(super) fn values(keys: Strip, #[comptime] form: Form) -> Strip {
    Strip { base: keys.base + comptime!(form.nope * SLICE), end: keys.end }
}

/// Keys' rotated parts, which all heads share.
#[cube]
pub(super) fn ropes(block: Block, sizes: Sizes, #[comptime] form: Form) -> Strip {
    Strip { base: block.sequence * sizes.keys * comptime!(form.rope * SLICE), end: sizes.keys }
}

/// What a fetch brings: so many lines of `words` words, which lie `step` apart in memory and `stride`
/// in shared memory, there from word `word` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Window {
    lines: u32,
    words: u32,
    step: u32,
    stride: u32,
    word: u32,
}

impl Window {
    /// Words that a unit brings at a time.
    const QUAD: u32 = 4;

    /// Lines that so many units bring at a time.
    const fn lines_a_round(self, units: u32) -> u32 {
        units / (self.words / Self::QUAD)
    }

    const fn rounds(self, units: u32) -> u32 {
        self.lines.div_ceil(self.lines_a_round(units))
    }
}

impl Form {
    /// So many lines of packed queries.
    pub(super) const fn query_window(self, lines: u32) -> Window {
        let words = self.depth() * SLICE;
        Window { lines, words, step: words, stride: self.key_stride(), word: 0 }
    }

    /// The parts without rotation of so many keys.
    const fn key_window(self, lines: u32) -> Window {
        let (words, step) = (self.nope * SLICE, (self.nope + self.v) * SLICE);
        Window { lines, words, step, stride: self.key_stride(), word: 0 }
    }

    /// The rotated parts of so many keys.
    const fn rope_window(self, lines: u32) -> Window {
        let words = self.rope * SLICE;
        Window { lines, words, step: words, stride: self.key_stride(), word: self.nope * SLICE }
    }

    /// So many values.
    pub(super) const fn value_window(self, lines: u32) -> Window {
        let (words, step) = (self.v * SLICE, (self.nope + self.v) * SLICE);
        Window { lines, words, step, stride: self.value_stride(), word: 0 }
    }

    /// So many lines of the output's packed gradient.
    pub(super) const fn gradient_window(self, lines: u32) -> Window {
        let words = self.v * SLICE;
        Window { lines, words, step: words, stride: self.value_stride(), word: 0 }
    }
}

/// Asks for lines from `first` on, four words a unit at a time; past the end they are zeros. They are
/// there after [`arrived`].
#[cube]
pub(super) fn fetch(
    x: &[u32],
    strip: Strip,
    first: u32,
    shared: &mut Shared<[u32]>,
    #[comptime] window: Window,
    #[comptime] form: Form,
) {
    let quads = comptime!(window.words / Window::QUAD);
    let at_once = comptime!(window.lines_a_round(form.units()));
    let (line, word) = (UNIT_POS / quads, UNIT_POS % quads * Window::QUAD);
    let from = strip.base + (first + line) * comptime!(window.step) + word;
    let to = line * comptime!(window.stride) + comptime!(window.word) + word;
    // Lines from the unit's first to the end.
    let left = select(first + line < strip.end, strip.end - first - line, 0u32);
    // Units of no line in a round are idle.
    if comptime!(at_once * quads == form.units()) || line < at_once {
        #[unroll]
        for i in 0..comptime!(window.rounds(form.units())) {
            let before = i * at_once;
            if comptime!((i + 1) * at_once <= window.lines) || before + line < window.lines {
                let real = before < left;
                let (from_step, to_step) =
                    comptime!((before * window.step, before * window.stride));
                fetch_quad(x, from, shared, to, real, from_step, to_step, form);
            }
        }
    }
}

/// Four words of `x` from `from` and `from_step` on, or zeros, to those of `shared` from `to` and
/// `to_step` on.
#[cube]
#[allow(clippy::too_many_arguments)]
fn fetch_quad(
    x: &[u32],
    from: u32,
    shared: &mut Shared<[u32]>,
    to: u32,
    real: bool,
    #[comptime] from_step: u32,
    #[comptime] to_step: u32,
    #[comptime] form: Form,
) {
    if comptime!(form.unit == MatrixUnit::Instruction) {
        // As inline PTX, since the steps between rounds are then part of the instruction. Of zero
        // bytes nothing is read, wherever they are.
        let source = x[from as usize..].as_ptr();
        let target = shared_address(&*shared) + 4u32 * to;
        let bytes = select(real, 16u32, 0u32);
        gpu_asm!(
            "cp.async.cg.shared.global [{target} + {to_step}], [{source} + {from_step}], 16, {bytes};",
            target = in(_) target, source = in(_) source, bytes = in(_) bytes,
            to_step = const comptime!(4 * to_step), from_step = const comptime!(4 * from_step),
        );
    } else {
        #[unroll]
        for w in 0..Window::QUAD {
            let mut value = 0u32;
            if real {
                value = x[(from + from_step + w) as usize];
            }
            shared[(to + to_step + w) as usize] = value;
        }
    }
}

/// Asks for a block of keys: the head's part, and the part that all heads share.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(super) fn fetch_keys(
    kv: &[u32],
    keys: Strip,
    k_rope: &[u32],
    ropes: Strip,
    first: u32,
    shared: &mut Shared<[u32]>,
    #[comptime] lines: u32,
    #[comptime] form: Form,
) {
    if comptime!(form.nope > 0) {
        fetch(kv, keys, first, shared, comptime!(form.key_window(lines)), form);
    }
    if comptime!(form.rope > 0) {
        fetch(k_rope, ropes, first, shared, comptime!(form.rope_window(lines)), form);
    }
}

/// Ends a group of fetches.
#[cube]
pub(super) fn close_group(#[comptime] form: Form) {
    if comptime!(form.unit == MatrixUnit::Instruction) {
        gpu_asm!("cp.async.commit_group;");
    }
}

/// Waits until every group of fetches but the last `pending`, none or one, is there for all units.
#[cube]
pub(super) fn arrived(#[comptime] pending: u32, #[comptime] form: Form) {
    if comptime!(form.unit == MatrixUnit::Instruction) {
        if comptime!(pending == 0) {
            gpu_asm!("cp.async.wait_group 0;");
        } else {
            gpu_asm!("cp.async.wait_group 1;");
        }
    }
    sync_cube();
}
