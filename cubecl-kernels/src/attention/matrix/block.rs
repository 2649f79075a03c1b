//! Device code: products of blocks of lines in shared memory, and where a plane's numbers are.

use super::form::{Form, SLICE};
use crate::attention::kernel::{Block, Sizes};
use crate::device::MatrixUnit;
use crate::device::matrix::fragment::{
    COLUMNS, DEPTH, Exchange, HELD, PLANE, ROWS, left_of_sums, load_left, load_right_two,
    multiply_add,
};
use crate::device::tile::Along;
use cubecl::prelude::*;

/// Where a unit is: in its plane, and the first line of the plane in the cube's.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(super) struct Place {
    pub(super) lane: u32,
    pub(super) line: u32,
}

#[cube]
pub(super) fn place() -> Place {
    Place { lane: UNIT_POS % PLANE, line: UNIT_POS / PLANE * ROWS }
}

/// The block of a cube: those of a head one after another, so that cubes at work at one time share
/// its lines in the cache, and first those that meet most others: the last of queries, the first of
/// keys.
#[cube]
pub(super) fn block_of(
    cube: u32,
    lines: u32,
    sizes: Sizes,
    #[comptime] last_first: bool,
    #[comptime] form: Form,
) -> Block {
    let blocks = lines.div_ceil(comptime!(form.rows()));
    let (head, at) = (cube / blocks, cube % blocks);
    let at = if comptime!(last_first) { blocks - 1u32 - at } else { at };
    Block {
        sequence: head / sizes.heads,
        head: head % sizes.heads,
        first: at * comptime!(form.rows()),
    }
}

/// Numbers of a unit, all zero.
#[cube]
pub(super) fn zeros(#[comptime] count: u32) -> Array<f32> {
    let mut sums = Array::<f32>::new(comptime!(count as usize));
    #[unroll]
    for e in 0..count as usize {
        sums[e] = 0.0f32;
    }
    sums
}

/// `sums[i, j] += a[i] . b[j]` of the plane's sixteen lines of `a` and a block of lines of `b`, both
/// in shared memory `stride` apart, over `slices` slices.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(super) fn add_scores(
    a: &Shared<[u32]>,
    b: &Shared<[u32]>,
    place: Place,
    sums: &mut Array<f32>,
    exchange: &mut Exchange,
    #[comptime] stride: u32,
    #[comptime] slices: u32,
    #[comptime] form: Form,
) {
    #[unroll]
    for slice in 0..slices {
        let start = place.line * stride + comptime!(slice * SLICE);
        let left = load_left(a, start, place.lane, stride, Along::Depth, form.unit);
        #[unroll]
        for two in 0..comptime!(form.block / DEPTH) {
            let start = comptime!(two * DEPTH * stride + slice * SLICE).runtime();
            let (first, second) =
                load_right_two(b, start, place.lane, stride, Along::Depth, form.unit);
            let at = comptime!(two * 2 * HELD);
            multiply_add(left, first, sums, at, exchange, form.unit);
            multiply_add(left, second, sums, comptime!(at + HELD), exchange, form.unit);
        }
    }
}

/// `sums[i] += sum over the block's lines j of weights[i, j] x[j]`, the weights rounded to BF16, over
/// `slices` slices of lines in shared memory `stride` apart.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(super) fn add_mix(
    weights: &Array<f32>,
    x: &Shared<[u32]>,
    place: Place,
    sums: &mut Array<f32>,
    exchange: &mut Exchange,
    #[comptime] stride: u32,
    #[comptime] slices: u32,
    #[comptime] form: Form,
) {
    #[unroll]
    for depth in 0..comptime!(form.block / DEPTH) {
        let at = comptime!(depth * 2 * HELD);
        let left = left_of_sums(weights, at, comptime!(at + HELD), form.unit);
        #[unroll]
        for slice in 0..slices {
            let start = comptime!(depth * DEPTH * stride + slice * SLICE).runtime();
            let (first, second) =
                load_right_two(x, start, place.lane, stride, Along::Lines, form.unit);
            let at = comptime!(slice * 2 * HELD);
            multiply_add(left, first, sums, at, exchange, form.unit);
            multiply_add(left, second, sums, comptime!(at + HELD), exchange, form.unit);
        }
    }
}

/// Which of a unit's two lines number `e` of its sums is of.
pub(super) const fn line_of(e: u32) -> u32 {
    e % HELD / 2
}

/// Column of number `e` of a unit's, from [`own_column`] on.
pub(super) const fn column_of(e: u32) -> u32 {
    e / HELD * COLUMNS + e % 2
}

/// Line `i` of a unit's two, in its cube's.
#[cube]
pub(super) fn own_line(place: Place, #[comptime] i: u32) -> u32 {
    place.line + place.lane / 4u32 + comptime!(8 * i)
}

/// How far number `e` of a unit's is to the right of the diagonal through its first one.
pub(super) const fn right_of(e: u32) -> i32 {
    column_of(e) as i32 - 8 * line_of(e) as i32
}

/// First column of a unit in each eight.
#[cube]
pub(super) fn own_column(place: Place) -> u32 {
    place.lane % 4u32 * 2u32
}

/// Where a unit writes its two lines.
#[derive(CubeType)]
pub(super) struct Target {
    pub(super) at: Array<u32>,
    pub(super) real: Array<bool>,
    pub(super) factor: Array<f32>,
}

/// Writes `slices` slices of a unit's sums from slice `from` on to columns `offset` and following of
/// its lines, `width` of them.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(super) fn write_sums(
    sums: &Array<f32>,
    out: &mut [f32],
    target: &Target,
    offset: u32,
    width: u32,
    place: Place,
    #[comptime] from: u32,
    #[comptime] slices: u32,
) {
    #[unroll]
    for e in 0..comptime!(Form::sums(slices)) {
        let line = comptime!(line_of(e) as usize);
        let column = own_column(place) + comptime!(column_of(e));
        if target.real[line] && column < width {
            let sum = sums[comptime!((Form::sums(from) + e) as usize)];
            out[(target.at[line] + offset + column) as usize] = sum * target.factor[line];
        }
    }
}

/// `exp(x)`: the instruction's device has one for powers of two, which is as near as BF16 needs.
#[cube]
pub(super) fn exponential(x: f32, #[comptime] form: Form) -> f32 {
    if comptime!(form.unit == MatrixUnit::Instruction) {
        let x = x * core::f32::consts::LOG2_E;
        let power: f32;
        gpu_asm!(
            "ex2.approx.ftz.f32 {power}, {x};",
            x = in(_) x, power = out(_) power, options(pure, nomem),
        );
        power
    } else {
        x.exp()
    }
}

/// The number of the unit whose place differs in `bit`.
#[cube]
fn other(x: f32, shared: &mut Shared<[f32]>, #[comptime] bit: u32, #[comptime] form: Form) -> f32 {
    if comptime!(form.unit == MatrixUnit::Instruction) {
        plane_shuffle_xor(x, bit)
    } else {
        sync_cube();
        shared[UNIT_POS as usize] = x;
        sync_cube();
        shared[(UNIT_POS ^ bit) as usize]
    }
}

/// Room for [`row_largest`] and [`row_total`], which the instruction's planes do without.
#[cube]
pub(super) fn row_room(#[comptime] form: Form) -> Shared<[f32]> {
    Shared::<[f32]>::new_slice(comptime!(match form.unit {
        MatrixUnit::Instruction => 1,
        MatrixUnit::Emulated => form.units() as usize,
    }))
}

/// The largest of the numbers of the four units that share a line.
#[cube]
pub(super) fn row_largest(x: f32, shared: &mut Shared<[f32]>, #[comptime] form: Form) -> f32 {
    let next = other(x, shared, 1u32, form);
    let two = select(next > x, next, x);
    let next = other(two, shared, 2u32, form);
    select(next > two, next, two)
}

/// The sum of the numbers of the four units that share a line.
#[cube]
pub(super) fn row_total(x: f32, shared: &mut Shared<[f32]>, #[comptime] form: Form) -> f32 {
    let two = x + other(x, shared, 1u32, form);
    two + other(two, shared, 2u32, form)
}
