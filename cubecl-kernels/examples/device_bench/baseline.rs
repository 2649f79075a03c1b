//! What the kernels are compared with: a copy, and a plain FP32 product with 8x8 entries a unit.

use cubecl::prelude::*;
use cubecl::server::Handle;

const EACH: u32 = 8;
const UNITS_M: u32 = 4;
const UNITS_N: u32 = 8;

#[cube(launch_unchecked)]
fn copy_kernel(x: &[f32], y: &mut [f32], length: u32) {
    let mut i = CUBE_POS_X * CUBE_DIM_X + UNIT_POS;
    while i < length {
        y[i as usize] = x[i as usize];
        i += CUBE_COUNT_X * CUBE_DIM_X;
    }
}

/// A copy of `count` numbers.
pub fn copy(client: &Client, x: &Handle, count: usize) -> Handle {
    let y = client.empty(4 * count);
    let cubes = CubeCount::new_1d(count.div_ceil(256).clamp(1, 1024) as u32);
    // SAFETY: both buffers hold `count` numbers, and the kernel stops there.
    unsafe {
        let (from, to) = (
            BufferArg::from_raw_parts(x.clone(), count),
            BufferArg::from_raw_parts(y.clone(), count),
        );
        copy_kernel::launch_unchecked(client, cubes, CubeDim::new_1d(256), from, to, count as u32);
    }
    y
}

#[cube(launch_unchecked)]
fn product_kernel(a: &[f32], b: &[f32], c: &mut [f32], m: u32, n: u32, k: u32) {
    let row0 = CUBE_POS_Y * (EACH * UNITS_M) + UNIT_POS / UNITS_N;
    let column0 = CUBE_POS_X * (EACH * UNITS_N) + UNIT_POS % UNITS_N;
    let mut sums = Array::<f32>::new(comptime!((EACH * EACH) as usize));
    let mut left = Array::<f32>::new(EACH as usize);
    for d in 0..k {
        #[unroll]
        for i in 0..EACH {
            let row = row0 + i * UNITS_M;
            left[i as usize] = a[(select(row < m, row, m - 1u32) * k + d) as usize];
        }
        #[unroll]
        for j in 0..EACH {
            let column = column0 + j * UNITS_N;
            let right = b[(select(column < n, column, n - 1u32) * k + d) as usize];
            #[unroll]
            for i in 0..EACH {
                let e = comptime!((i * EACH + j) as usize);
                sums[e] += left[i as usize] * right;
            }
        }
    }
    #[unroll]
    for i in 0..EACH {
        #[unroll]
        for j in 0..EACH {
            let (row, column) = (row0 + i * UNITS_M, column0 + j * UNITS_N);
            if row < m && column < n {
                c[(row * n + column) as usize] = sums[comptime!((i * EACH + j) as usize)];
            }
        }
    }
}

/// `A B^T` in FP32, `a` `[m, k]`, `b` `[n, k]`.
pub fn product_nt(client: &Client, a: &Handle, b: &Handle, m: usize, n: usize, k: usize) -> Handle {
    let c = client.empty(4 * m * n);
    let cubes = CubeCount::new_2d(
        n.div_ceil((EACH * UNITS_N) as usize) as u32,
        m.div_ceil((EACH * UNITS_M) as usize) as u32,
    );
    // SAFETY: the buffers hold as many numbers, rows and columns are clamped, and what lies outside
    // is not written.
    unsafe {
        let [a, b, out] = [(a, m * k), (b, n * k), (&c, m * n)]
            .map(|(x, count)| BufferArg::from_raw_parts(x.clone(), count));
        let dim = CubeDim::new_1d(UNITS_M * UNITS_N);
        product_kernel::launch_unchecked(
            client, cubes, dim, a, b, out, m as u32, n as u32, k as u32,
        );
    }
    c
}
