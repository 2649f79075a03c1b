//! Rows by index with their cast: the codes of the copies.

use super::*;
use crate::KernelError;
use crate::host::gather_rows;
use crate::test_inputs::assert_thread_independent;

/// Checks rows of groups of so many, row `i` of which is row `7 i` of a matrix, around its end.
#[track_caller]
fn check(x: &[f32], rows: usize, cols: usize, counts: &[usize], options: &QuantizeOptions) {
    let offsets = offsets_of(counts);
    let index: Vec<u32> =
        (0..offsets[counts.len()]).map(|i| (7 * i % rows.max(1)) as u32).collect();
    let copies = gather_rows(x, &index, rows, cols).unwrap();
    let name = |what: &str| format!("{what} {counts:?} of {rows} x {cols} {options:?}");
    let by_rows = quantize_rows(&copies, index.len(), cols, options).unwrap();
    let by_columns = quantize_columns(&copies, &offsets, cols, options).unwrap();
    let alone = quantize_gathered_rows(x, &index, rows, cols, options).unwrap();
    assert_same(&name("rows"), &alone, &by_rows);
    let both = quantize_gathered(x, &index, &offsets, rows, cols, options).unwrap();
    assert_same(&name("rows of both"), &both.0, &by_rows);
    assert_same(&name("columns of both"), &both.1, &by_columns);
}

#[test]
fn hard_edges() {
    for (rows, counts) in [
        (0, &[0][..]),
        (0, &[0, 0]),
        (3, &[0, 0]),
        (1, &[1, 0, 2]),
        (5, &[3, 0, 5]),
        (40, &[33, 130, 2]),
    ] {
        for cols in [0, 1, 2, 7, 64, 128, 130, 300] {
            let mut x: Vec<f32> = random(1, rows * cols).iter().map(|x| x * 6.0).collect();
            // A row of zeros, and one with a NaN, an infinity and what saturates.
            if rows == 40 {
                x[3 * cols..4 * cols].fill(0.0);
                for (x, hard) in
                    x[7 * cols..8 * cols].iter_mut().zip([f32::NAN, f32::INFINITY, 1e30])
                {
                    *x = hard;
                }
            }
            for options in all_options() {
                check(&x, rows, cols, counts, &options);
            }
        }
    }
}

proptest! {
    #[test]
    fn random_shapes(
        rows in 1usize..60,
        counts in proptest::collection::vec(0usize..60, 1..4),
        cols in 0usize..200,
        options in any_options(),
    ) {
        check(&random(1, rows * cols), rows, cols, &counts, &options);
    }
}

#[test]
fn a_row_that_is_not_there_is_named() {
    let options = QuantizeOptions::default();
    let error = quantize_gathered_rows(&[0.0; 6], &[0, 3], 3, 2, &options).unwrap_err();
    assert!(
        matches!(error, KernelError::Index { argument: "index", position: 1, bound: 3, .. }),
        "{error}"
    );
}

#[test]
fn threads_do_not_change_a_bit() {
    let (rows, cols, options) = (600, 500, QuantizeOptions::default());
    let x = random(1, rows * cols);
    let index: Vec<u32> = (0..2 * rows as u32).map(|i| i * 7 % rows as u32).collect();
    assert_thread_independent("gathered", || {
        let offsets = [0, 129, 129, index.len()];
        let (by_rows, by_columns) =
            quantize_gathered(&x, &index, &offsets, rows, cols, &options).unwrap();
        [by_rows, by_columns]
            .into_iter()
            .flat_map(|q| [q.scales, q.codes.into_iter().map(f32::from_bits).collect()])
            .collect()
    });
}
