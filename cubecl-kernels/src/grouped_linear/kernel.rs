//! Device code: one tile of the product of one expert a cube.

// A condition that is decided when the kernel is compiled stays outside one that a unit decides.
#![allow(clippy::collapsible_if)]

use super::plan::Tile;
use super::problem::{Along, Sizes, locate};
use cubecl::prelude::*;

/// Depth that is staged at once.
const STEP: u32 = 16;
/// From one depth of a stage to the next there are so many more numbers than a tile is long, so that
/// neither reading nor writing one meets itself in a bank too often.
const APART: u32 = 4;

/// Rows of an operand and the steps along them.
#[derive(CubeType, Clone, Copy)]
struct Lines {
    start: u32,
    first: u32,
    end: u32,
    by_row: u32,
    by_depth: u32,
}

/// `c[i, j] = sum over l of a[i, l] b[j, l]` of each expert, in the order of `l`.
///
/// # Shapes
/// `a` and `b` by the steps of `sizes`; `bounds` `[experts + 1]` or longer: the first row of each
/// expert and the number of rows; `c` `[rows, n]` or `[experts, m, n]`.
#[cube(launch_unchecked)]
pub(super) fn grouped_product(
    a: &[f32],
    b: &[f32],
    bounds: &[u32],
    c: &mut [f32],
    sizes: Sizes,
    #[comptime] along: Along,
    #[comptime] tile: Tile,
) {
    let column = CUBE_POS_X * comptime!(tile.columns());
    let rows = comptime!(tile.rows());
    let problem = locate(bounds, &sizes, column, CUBE_POS_Y, CUBE_POS_Z, along, rows);
    let a_lines = Lines {
        start: 0u32,
        first: problem.row,
        end: problem.row_end,
        by_row: sizes.a_row,
        by_depth: sizes.a_depth,
    };
    let b_lines = Lines {
        start: problem.b_start,
        first: problem.column,
        end: sizes.n,
        by_row: sizes.b_row,
        by_depth: sizes.b_depth,
    };
    let each = comptime!(tile.each);
    let mut total = Array::<f32>::new(comptime!((tile.each * tile.each) as usize));
    #[unroll]
    for e in 0..comptime!(tile.each * tile.each) {
        total[e as usize] = 0.0f32;
    }
    // A cube without rows, of which there are some where the host does not know how many are needed,
    // has nothing to sum.
    let depth_end = select(problem.row < problem.row_end, problem.depth_end, problem.depth);
    let unit_row = UNIT_POS / comptime!(tile.units.1) * each;
    let unit_column = UNIT_POS % comptime!(tile.units.1) * each;
    if comptime!(tile.staged) {
        multiply_staged(a, b, &a_lines, &b_lines, problem.depth, depth_end, &mut total, tile);
    } else {
        let a_unit = shifted(&a_lines, unit_row);
        let b_unit = shifted(&b_lines, unit_column);
        multiply(a, b, &a_unit, &b_unit, problem.depth, depth_end, &mut total, each);
    }
    #[unroll]
    for i in 0..each {
        let row = problem.row + unit_row + i;
        #[unroll]
        for j in 0..each {
            let column = problem.column + unit_column + j;
            if row < problem.row_end && column < sizes.n {
                let place = (problem.c_row + row) * sizes.n + column;
                c[place as usize] = total[comptime!((i * each + j) as usize)];
            }
        }
    }
}

/// The lines from `unit` lines further on.
#[cube]
fn shifted(lines: &Lines, unit: u32) -> Lines {
    Lines {
        start: lines.start,
        first: lines.first + unit,
        end: lines.end,
        by_row: lines.by_row,
        by_depth: lines.by_depth,
    }
}

/// Adds the products of a unit's lines, which it loads itself. Lines past the end are the last one,
/// whose sums are not written.
#[cube]
#[allow(clippy::too_many_arguments)]
fn multiply(
    a: &[f32],
    b: &[f32],
    a_lines: &Lines,
    b_lines: &Lines,
    depth: u32,
    depth_end: u32,
    total: &mut Array<f32>,
    #[comptime] each: u32,
) {
    let mut a_places = Array::<u32>::new(comptime!(each as usize));
    let mut b_places = Array::<u32>::new(comptime!(each as usize));
    #[unroll]
    for i in 0..each {
        a_places[i as usize] = place(a_lines, i, depth);
        b_places[i as usize] = place(b_lines, i, depth);
    }
    let mut left = Array::<f32>::new(comptime!(each as usize));
    for l in 0..depth_end - depth {
        #[unroll]
        for i in 0..each {
            left[i as usize] = a[(a_places[i as usize] + l * a_lines.by_depth) as usize];
        }
        #[unroll]
        for j in 0..each {
            let right = b[(b_places[j as usize] + l * b_lines.by_depth) as usize];
            #[unroll]
            for i in 0..each {
                let e = comptime!((i * each + j) as usize);
                total[e] = fma(left[i as usize], right, total[e]);
            }
        }
    }
}

/// Where a line's number at `depth` is.
#[cube]
fn place(lines: &Lines, line: u32, depth: u32) -> u32 {
    let line = lines.first + line;
    let line = select(line < lines.end, line, lines.end - 1u32);
    lines.start + line * lines.by_row + depth * lines.by_depth
}

/// Adds the products of a cube's lines, staged in shared memory.
#[cube]
#[allow(clippy::too_many_arguments)]
fn multiply_staged(
    a: &[f32],
    b: &[f32],
    a_lines: &Lines,
    b_lines: &Lines,
    depth: u32,
    depth_end: u32,
    total: &mut Array<f32>,
    #[comptime] tile: Tile,
) {
    let each = comptime!(tile.each);
    let a_stride = comptime!(tile.rows() + APART);
    let b_stride = comptime!(tile.columns() + APART);
    let mut a_stage = Shared::<[f32]>::new_slice(comptime!((STEP * a_stride) as usize));
    let mut b_stage = Shared::<[f32]>::new_slice(comptime!((STEP * b_stride) as usize));
    let unit_row = UNIT_POS / comptime!(tile.units.1) * each;
    let unit_column = UNIT_POS % comptime!(tile.units.1) * each;
    for step in 0..(depth_end - depth).div_ceil(STEP) {
        let first = depth + step * STEP;
        sync_cube();
        load(
            a,
            &mut a_stage,
            a_lines,
            first,
            depth_end,
            comptime!(tile.rows()),
            comptime!(tile.cube()),
        );
        load(
            b,
            &mut b_stage,
            b_lines,
            first,
            depth_end,
            comptime!(tile.columns()),
            comptime!(tile.cube()),
        );
        sync_cube();
        #[unroll]
        for l in 0..STEP {
            let mut left = Array::<f32>::new(comptime!(each as usize));
            #[unroll]
            for i in 0..each {
                left[i as usize] = a_stage[(l * a_stride + unit_row + i) as usize];
            }
            #[unroll]
            for j in 0..each {
                let right = b_stage[(l * b_stride + unit_column + j) as usize];
                #[unroll]
                for i in 0..each {
                    let e = comptime!((i * each + j) as usize);
                    total[e] = fma(left[i as usize], right, total[e]);
                }
            }
        }
    }
}

/// Stages [`STEP`] depths of `count` lines, zeros outside. Neighbours take what lies together in
/// memory.
#[cube]
fn load(
    x: &[f32],
    stage: &mut Shared<[f32]>,
    lines: &Lines,
    first_depth: u32,
    depth_end: u32,
    #[comptime] count: u32,
    #[comptime] units: u32,
) {
    #[unroll]
    for i in 0..comptime!(count * STEP / units) {
        let item = i * units + UNIT_POS;
        let along = lines.by_depth == 1u32;
        let line = select(along, item / STEP, item % count);
        let l = select(along, item % STEP, item / count);
        let mut value = 0.0f32;
        if lines.first + line < lines.end && first_depth + l < depth_end {
            let place = lines.start
                + (lines.first + line) * lines.by_row
                + (first_depth + l) * lines.by_depth;
            value = x[place as usize];
        }
        stage[(l * comptime!(count + APART) + line) as usize] = value;
    }
}
