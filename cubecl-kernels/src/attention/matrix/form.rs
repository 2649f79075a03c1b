//! Which attentions matrix instructions serve, and how these are cut.
//!
//! # Rejected
//! - Sums of more than [`MOST_SLICES`] slices of a head: the gradients of keys and values would not
//!   fit a unit's registers. Such heads keep the tile of a unit; cutting them into parts would
//!   compute the scores once a part.
//! - Loads of FP32 that are rounded on their way into shared memory: every cube of a head would read
//!   the keys and values at twice the bytes, which is more than the L2 cache has for it, and could
//!   not leave it to asynchronous copies.
//! - Two tiles of sixteen rows a plane, which would halve what is read of shared memory: the sums of
//!   both passes do not fit.

use crate::attention::kernel::SizesLaunch;
use crate::attention::plan::sizes;
use crate::definition::{AttentionShape, KernelError};
use crate::device::matrix::fragment::{COLUMNS, DEPTH, HELD, PLANE, ROWS, exchange_words};
use crate::device::{MatrixUnit, addressable, cubes_of};
use cubecl::prelude::*;

/// Words of a slice: sixteen numbers in pairs.
pub(super) const SLICE: u32 = DEPTH / 2;
/// Words between the end of a line in shared memory and the next: with them a stride is an odd
/// multiple of four words.
const APART: u32 = 4;
/// Slices of a head's key and value together that fit a unit's registers.
const MOST_SLICES: u32 = 20;

/// What the compiler knows of an attention; widths are counted in slices of sixteen numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) unit: MatrixUnit,
    /// Planes of a cube.
    pub(super) planes: u32,
    /// Lines that go through shared memory at a time: a multiple of sixteen.
    pub(super) block: u32,
    pub(super) nope: u32,
    pub(super) rope: u32,
    pub(super) v: u32,
}

impl Form {
    /// Units of a cube.
    pub(super) const fn units(self) -> u32 {
        self.planes * PLANE
    }

    /// Lines that a cube takes, which stay.
    pub(super) const fn rows(self) -> u32 {
        self.planes * ROWS
    }

    /// Slices of a query or key.
    pub(super) const fn depth(self) -> u32 {
        self.nope + self.rope
    }

    /// Words of a line of queries or keys in shared memory.
    pub(super) const fn key_stride(self) -> u32 {
        self.depth() * SLICE + APART
    }

    /// Words of a line of values, or of the output's gradient, in shared memory.
    pub(super) const fn value_stride(self) -> u32 {
        self.v * SLICE + APART
    }

    /// Words for a block of keys, or for a cube's queries before it.
    pub(super) const fn key_room(self) -> usize {
        let lines = if self.block > self.rows() { self.block } else { self.rows() };
        (lines * self.key_stride()) as usize
    }

    /// Numbers of a block's scores in a unit.
    pub(super) const fn scores(self) -> u32 {
        self.block / COLUMNS * HELD
    }

    /// Numbers of so many slices of sixteen columns in a unit.
    pub(super) const fn sums(slices: u32) -> u32 {
        slices * 2 * HELD
    }

    /// Shared memory of a cube that keeps so many lines of both kinds, in bytes.
    const fn shared_bytes(self, lines: u32) -> usize {
        let words = lines * (self.key_stride() + self.value_stride());
        // The emulation's row sums besides.
        words as usize * 4 + exchange_words(self.units(), self.unit) * 4 + self.units() as usize * 4
    }
}

/// An attention by matrix instructions.
#[derive(Debug, Clone, Copy)]
pub(in crate::attention) struct MatrixTiles {
    pub(super) forward: Form,
    pub(super) backward: Form,
}

impl MatrixTiles {
    /// Those of a matrix unit; none where a head is without keys or values, or too wide.
    pub(in crate::attention) fn by(
        client: &Client,
        shape: &AttentionShape,
        unit: MatrixUnit,
    ) -> Option<Self> {
        let slices = |width: usize| u32::try_from(width.div_ceil(DEPTH as usize)).ok();
        let [nope, rope, v] = [shape.nope_dim, shape.rope_dim, shape.v_dim].map(slices);
        let (nope, rope, v) = (nope?, rope?, v?);
        let fits = [nope, rope, v].iter().all(|&slices| slices <= MOST_SLICES)
            && nope + rope + v <= MOST_SLICES
            // Positions are compared with their sign.
            && i32::try_from(shape.keys).is_ok();
        if !fits || nope + rope == 0 || v == 0 {
            return None;
        }
        let form = |block: u32| match unit {
            MatrixUnit::Instruction => Form { unit, planes: 4, block, nope, rope, v },
            // In little shared memory, and wherever there is room more than one plane.
            MatrixUnit::Emulated => {
                let planes = if nope + rope + v > MOST_SLICES / 2 { 1 } else { 2 };
                Form { unit, planes, block: DEPTH, nope, rope, v }
            }
        };
        let (forward, backward) = (form(64), form(32));
        let room = client.properties().hardware.max_shared_memory_size;
        let fits = forward.shared_bytes(forward.block.max(forward.rows())) <= room
            && backward.shared_bytes(backward.block + backward.rows()) <= room;
        fits.then_some(Self { forward, backward })
    }

    /// Lines that a cube of backward takes.
    pub(super) fn cubes(shape: &AttentionShape, lines: usize, form: Form) -> usize {
        shape.batch * shape.heads * lines.div_ceil(form.rows() as usize)
    }
}

/// The launch of so many cubes.
pub(super) fn launch_of(client: &Client, cubes: usize, form: Form) -> (CubeCount, CubeDim) {
    (cubes_of(client, cubes, 1), CubeDim::new_1d(form.units()))
}

/// The sizes, in numbers.
pub(super) fn sizes_of(shape: &AttentionShape) -> SizesLaunch {
    sizes(shape, 1)
}

/// Words of lines of so many slices, all heads of all sequences.
///
/// # Errors
/// [`KernelError::Overflow`] where 32 bits do not count them.
pub(super) fn packed_words(
    op: &'static str,
    argument: &'static str,
    [sequences, heads, lines]: [usize; 3],
    slices: u32,
) -> Result<usize, KernelError> {
    addressable(op, argument, &[sequences, heads, lines, (slices * SLICE) as usize])
}

#[cfg(test)]
mod form_tests {
    use super::*;

    const DEEPSEEK: Form =
        Form { unit: MatrixUnit::Instruction, planes: 4, block: 64, nope: 8, rope: 4, v: 8 };

    /// Lines meet no bank twice, and begin at multiples of 16 bytes.
    #[test]
    fn strides_are_odd_multiples_of_four_words() {
        for slices in 1..=MOST_SLICES {
            let form = Form { nope: slices, rope: 0, v: slices, ..DEEPSEEK };
            for stride in [form.key_stride(), form.value_stride()] {
                assert_eq!((stride / 4 % 2, stride % 4), (1, 0), "{slices} slices");
            }
        }
    }

    /// Two cubes or more of DeepSeek-V3's heads are in a core of an A100 at a time (164 KB), and one
    /// fits where a cube has 99 KB.
    #[test]
    fn cubes_share_a_core() {
        let backward = Form { block: 32, ..DEEPSEEK };
        assert!(2 * DEEPSEEK.shared_bytes(64) <= 99 << 10);
        assert!(2 * backward.shared_bytes(32 + 64) <= 164 << 10);
    }
}
