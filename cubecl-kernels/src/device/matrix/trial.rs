//! The products that a device's matrix instruction is tried on before it serves, against plain code:
//! both ways that either operand can lie in shared memory, and a product whose left operand is
//! another's sums.

use super::fragment::{
    COLUMNS, DEPTH, HELD, Left, PLANE, ROWS, c_column, c_row, exchange, left_of_sums, load_left,
    load_right_two, multiply_add, pair, pair_rows,
};
use super::unit::MatrixUnit;
use crate::device::tile::Along;
use crate::device::{allocate, argument, trial_numbers};
use crate::metric::calc_diff;
use cubecl::prelude::*;

/// Lines of both operands, and their depth: two instructions one after another, of two beside each
/// other.
const LINES: u32 = ROWS;
const DEPTHS: u32 = 2 * DEPTH;
const COUNT: usize = (LINES * DEPTHS) as usize;
/// Numbers of both results.
const RESULTS: usize = (2 * LINES * LINES) as usize;

/// Where a trial product differs from the emulated one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    /// Which product it is.
    pub(super) product: &'static str,
    pub(super) calc_diff: f64,
}

const TRIALS: [(&str, Along, Along); 4] = [
    ("a BF16 product of rows", Along::Depth, Along::Depth),
    ("a BF16 product of rows with columns", Along::Depth, Along::Lines),
    ("a BF16 product of columns with rows", Along::Lines, Along::Depth),
    ("a BF16 product of columns", Along::Lines, Along::Lines),
];

/// The trial product that differs most from the emulated one.
///
/// # Errors
/// Fails where a product does not run, naming it.
pub(super) fn worst(client: &Client, unit: MatrixUnit) -> Result<Difference, String> {
    let mut worst = Difference { product: "none", calc_diff: 0.0 };
    for (product, a_along, b_along) in TRIALS {
        let fails = |error: String| format!("{product}: {error}");
        let ours = run(client, a_along, b_along, unit).map_err(fails)?;
        let plain = run(client, a_along, b_along, MatrixUnit::Emulated).map_err(fails)?;
        let calc_diff = calc_diff(&ours, &plain);
        if calc_diff.is_nan() || calc_diff > worst.calc_diff {
            worst = Difference { product, calc_diff };
        }
        if calc_diff.is_nan() {
            break;
        }
    }
    Ok(worst)
}

fn run(
    client: &Client,
    a_along: Along,
    b_along: Along,
    unit: MatrixUnit,
) -> Result<Vec<f32>, String> {
    let [a, b] =
        [1, 2].map(|seed| client.create_from_slice(f32::as_bytes(&trial_numbers(seed, COUNT))));
    let c = allocate(client, RESULTS, 4);
    // SAFETY: both operands have `LINES * DEPTHS` numbers and `c` has `RESULTS`, which are what one
    // plane reads and writes.
    unsafe {
        trial_product::launch_unchecked(
            client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(PLANE),
            argument(&a, COUNT),
            argument(&b, COUNT),
            argument(&c, RESULTS),
            a_along,
            b_along,
            unit,
        );
    }
    let bytes = client.read_one(c).map_err(|error| format!("{error:?}"))?;
    let all = f32::from_bytes(&bytes);
    all.get(..RESULTS).map(<[f32]>::to_vec).ok_or_else(|| "nothing came back".to_owned())
}

/// Words from one row of pairs to the next.
const fn stride(along: Along) -> u32 {
    match along {
        Along::Depth => DEPTHS / 2 + 4,
        Along::Lines => LINES / 2 + 4,
    }
}

/// Words to an operand's depth `depth`.
const fn depth_start(along: Along, depth: u32) -> u32 {
    match along {
        Along::Depth => depth / 2,
        Along::Lines => depth * stride(along),
    }
}

const fn shared_words(along: Along) -> usize {
    match along {
        Along::Depth => (LINES * stride(along)) as usize,
        Along::Lines => (DEPTHS * stride(along)) as usize,
    }
}

/// `c[0] = a b^T`, and `c[1]` that times the transpose of the first sixteen depths of `b`. One plane.
///
/// # Shapes
/// `a` and `b` sixteen lines of 32 depths, in order along the depth or along the lines; `c`
/// `[2, 16, 16]`.
#[cube(launch_unchecked)]
fn trial_product(
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    #[comptime] a_along: Along,
    #[comptime] b_along: Along,
    #[comptime] unit: MatrixUnit,
) {
    let lane = UNIT_POS;
    let mut exchange = exchange(PLANE, unit);
    let mut a_shared = pair_rows(comptime!(shared_words(a_along)));
    let mut b_shared = pair_rows(comptime!(shared_words(b_along)));
    stage(a, &mut a_shared, a_along, unit);
    stage(b, &mut b_shared, b_along, unit);
    sync_cube();

    let mut sums = zeros();
    #[unroll]
    for step in 0..DEPTHS / DEPTH {
        let a_start = comptime!(depth_start(a_along, step * DEPTH));
        let b_start = comptime!(depth_start(b_along, step * DEPTH));
        let (a_stride, b_stride) = comptime!((stride(a_along), stride(b_along)));
        let left = load_left(&a_shared, a_start, lane, a_stride, a_along, unit);
        let (first, second) = load_right_two(&b_shared, b_start, lane, b_stride, b_along, unit);
        multiply_add(left, first, &mut sums, 0u32, &mut exchange, unit);
        multiply_add(left, second, &mut sums, HELD, &mut exchange, unit);
    }
    write(&sums, c, 0u32, lane);

    let left: Left = left_of_sums(&sums, 0u32, HELD, unit);
    let b_stride = comptime!(stride(b_along));
    let (first, second) = load_right_two(&b_shared, 0u32, lane, b_stride, b_along, unit);
    let mut next = zeros();
    multiply_add(left, first, &mut next, 0u32, &mut exchange, unit);
    multiply_add(left, second, &mut next, HELD, &mut exchange, unit);
    write(&next, c, LINES * LINES, lane);
}

/// Puts an operand into shared memory as it lies, as pairs of BF16.
#[cube]
fn stage(
    x: &[f32],
    shared: &mut Shared<[u32]>,
    #[comptime] along: Along,
    #[comptime] unit: MatrixUnit,
) {
    let pairs = comptime!(if along == Along::Depth { DEPTHS / 2 } else { LINES / 2 });
    let stride = comptime!(stride(along));
    #[unroll]
    for i in 0..LINES * DEPTHS / 2u32 / PLANE {
        let item = i * PLANE + UNIT_POS;
        let word = pair(x[(2u32 * item) as usize], x[(2u32 * item + 1u32) as usize], unit);
        shared[((item / pairs) * stride + item % pairs) as usize] = word;
    }
}

#[cube]
fn zeros() -> Array<f32> {
    let mut sums = Array::<f32>::new(comptime!((2 * HELD) as usize));
    #[unroll]
    for h in 0..2u32 * HELD {
        sums[h as usize] = 0.0f32;
    }
    sums
}

/// Writes the sums of two instructions beside each other.
#[cube]
fn write(sums: &Array<f32>, c: &mut [f32], base: u32, lane: u32) {
    #[unroll]
    for along in 0..2u32 {
        #[unroll]
        for h in 0..HELD {
            let row = c_row(lane, h);
            let column = along * COLUMNS + c_column(lane, h);
            c[(base + row * LINES + column) as usize] = sums[(along * HELD + h) as usize];
        }
    }
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;
    use half::bf16;

    /// Entry `(line, depth)` of an operand, rounded to BF16.
    fn entry(x: &[f32], along: Along, line: usize, depth: usize) -> f64 {
        let at = match along {
            Along::Depth => line * DEPTHS as usize + depth,
            Along::Lines => depth * LINES as usize + line,
        };
        bf16::from_f32(x[at]).to_f64()
    }

    /// Packing, places of registers, both orientations and the reuse of sums, by plain arithmetic on
    /// the host.
    #[test]
    fn the_emulated_instruction_multiplies() {
        let client = cubecl::Device::default().client();
        let (a, b) = (trial_numbers(1, COUNT), trial_numbers(2, COUNT));
        let lines = LINES as usize;
        for (name, a_along, b_along) in TRIALS {
            let actual = run(&client, a_along, b_along, MatrixUnit::Emulated).unwrap();
            let product = |row: usize, column: usize| {
                (0..DEPTHS as usize)
                    .map(|l| entry(&a, a_along, row, l) * entry(&b, b_along, column, l))
                    .sum::<f64>()
            };
            let places = (0..lines * lines).map(|place| (place / lines, place % lines));
            let first: Vec<f64> =
                places.clone().map(|(row, column)| product(row, column)).collect();
            let diff = calc_diff(&actual[..lines * lines], &first);
            assert!(diff < 1e-13, "{name}: calc_diff {diff:e}");
            // Of the sums that the device has, which may lie on the other side of a tie.
            let second: Vec<f64> = places
                .map(|(row, column)| {
                    (0..lines)
                        .map(|l| {
                            let left = bf16::from_f32(actual[row * lines + l]).to_f64();
                            left * entry(&b, b_along, column, l)
                        })
                        .sum()
                })
                .collect();
            let diff = calc_diff(&actual[lines * lines..], &second);
            assert!(diff < 1e-13, "{name}, again: calc_diff {diff:e}");
        }
    }

    /// A unit that computes something else is found out.
    #[test]
    fn the_trial_agrees_with_itself_alone() {
        let client = cubecl::Device::default().client();
        assert_eq!(worst(&client, MatrixUnit::Emulated).unwrap().calc_diff, 0.0);
        let products: Vec<_> = TRIALS
            .into_iter()
            .map(|(_, a, b)| run(&client, a, b, MatrixUnit::Emulated).unwrap())
            .collect();
        for (i, other) in products.iter().enumerate().skip(1) {
            assert!(calc_diff(&products[0], other) > 0.1, "{}", TRIALS[i].0);
        }
    }
}
