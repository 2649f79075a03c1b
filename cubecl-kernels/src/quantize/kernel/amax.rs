//! Largest magnitudes: of lines and of a cube in the course of a cast, and of a whole tensor before
//! one.

use super::SIDE;
use cubecl::prelude::*;

/// Reduces the 16 entries of each of 128 lines to two, between two barriers.
#[cube]
pub(super) fn reduce_lines(lines: &Shared<[u32]>, halves: &mut Shared<[u32]>) {
    sync_cube();
    let mut largest = 0u32;
    #[unroll]
    for i in 0..SIDE / 2u32 {
        let entry = lines[(UNIT_POS * (SIDE / 2u32) + i) as usize];
        largest = select(entry > largest, entry, largest);
    }
    halves[UNIT_POS as usize] = largest;
    sync_cube();
}

#[cube]
pub(super) fn line_amax(halves: &Shared<[u32]>, line: u32) -> u32 {
    let first = halves[(2u32 * line) as usize];
    let second = halves[(2u32 * line + 1u32) as usize];
    select(first > second, first, second)
}

/// The largest of one number a unit, in every unit of a cube of 256.
#[cube]
pub(super) fn cube_amax(partial: &mut Shared<[u32]>, own: u32) -> u32 {
    partial[UNIT_POS as usize] = own;
    sync_cube();
    if UNIT_POS < SIDE {
        let mut largest = 0u32;
        #[unroll]
        for i in 0..SIDE {
            let entry = partial[(i * SIDE + UNIT_POS) as usize];
            largest = select(entry > largest, entry, largest);
        }
        // Only this unit reads or writes column `UNIT_POS`.
        partial[UNIT_POS as usize] = largest;
    }
    sync_cube();
    let mut largest = 0u32;
    #[unroll]
    for i in 0..SIDE {
        let entry = partial[i as usize];
        largest = select(entry > largest, entry, largest);
    }
    largest
}

/// Bits of the largest magnitude of what each cube strides over, one a cube. NaN is the largest of
/// all.
#[cube(launch_unchecked)]
pub(in crate::quantize) fn largest_magnitude<F: Float>(
    x: &[F],
    largest_bits: &mut [u32],
    length: u32,
) {
    let mut partial = Shared::<[u32]>::new_slice(comptime!((SIDE * SIDE) as usize));
    let mut largest = 0u32;
    let mut index = CUBE_POS_X * SIDE * SIDE + UNIT_POS;
    while index < length {
        let magnitude = u32::reinterpret(f32::cast_from(x[index as usize])) & 0x7FFF_FFFFu32;
        largest = select(magnitude > largest, magnitude, largest);
        index += CUBE_COUNT_X * SIDE * SIDE;
    }
    let whole = cube_amax(&mut partial, largest);
    if UNIT_POS == 0u32 {
        largest_bits[CUBE_POS_X as usize] = whole;
    }
}

/// Bits of the largest of what [`largest_magnitude`] left, one number a cube there; launched with
/// one cube.
#[cube(launch_unchecked)]
pub(in crate::quantize) fn largest_of_partials(
    partials: &[u32],
    largest_bits: &mut [u32],
    length: u32,
) {
    let mut partial = Shared::<[u32]>::new_slice(comptime!((SIDE * SIDE) as usize));
    let mut largest = 0u32;
    let mut index = UNIT_POS;
    while index < length {
        let magnitude = partials[index as usize];
        largest = select(magnitude > largest, magnitude, largest);
        index += SIDE * SIDE;
    }
    let whole = cube_amax(&mut partial, largest);
    if UNIT_POS == 0u32 {
        largest_bits[0] = whole;
    }
}
