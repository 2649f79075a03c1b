//! Hard edges, random shapes, groups, wrong arguments, threads.

use super::quantized::{Blocks, Columns, Rows};
use super::{PROMOTED, check, on};
use crate::definition::{
    Accumulation, BlockTiled, Fp8Format, KernelError, LinearShape, OperandView, RowTiled, TILE,
};
use crate::host::gemm::*;
use crate::reference;
use crate::test_inputs::{assert_close, assert_thread_independent, offsets_of, random};

#[test]
fn ragged_sizes() {
    for (m, n, k) in [
        (0, 3, 4),
        (3, 0, 4),
        (3, 4, 0),
        (1, 1, 1),
        (1, 33, 130),
        (2, 130, 200),
        (7, 40, 24),
        (13, 31, 127),
        (33, 130, 129),
        (33, 257, 384),
        (130, 200, 33),
        (129, 65, 1025),
        (515, 97, 259),
    ] {
        for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
            check(m, n, k, format);
        }
    }
}

proptest::proptest! {
    #[test]
    fn random_sizes(m in 0usize..60, n in 0usize..150, k in 0usize..300, e5m2: bool) {
        check(m, n, k, if e5m2 { Fp8Format::E5M2 } else { Fp8Format::E4M3 });
    }
}

/// Every pair of codes, subnormals and NaN included: a path that flushed E4M3's subnormals would be
/// caught here.
#[test]
fn products_of_every_pair_of_codes_are_exact() {
    for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
        // Row r holds code r once, at a place of the tile that depends on r; the other operand
        // holds code c everywhere.
        let finite = |code: u8| crate::definition::decode_fp8(code, format).is_finite();
        let mut left = vec![0u32; 256 * TILE / 4];
        for code in 0..=255u8 {
            let place = usize::from(code) * 37 % TILE;
            left[usize::from(code) * TILE / 4 + place / 4] = u32::from(code) << (8 * (place % 4));
        }
        let right: Vec<u32> = (0..=255u8)
            .flat_map(|code| {
                [u32::from_le_bytes([if finite(code) { code } else { 0 }; 4]); TILE / 4]
            })
            .collect();
        let a = RowTiled { codes: &left, scales: &[1.0; 256], rows: 256, depth: TILE, format };
        let b = RowTiled { codes: &right, ..a };
        let expected = reference::fp8_wgrad_nt(&a, &b);
        for path in GemmPath::available() {
            let c = on(path, OperandView::rows_of(&a, 0, 256), OperandView::rows_of(&b, 0, 256));
            for (i, (&c, &expected)) in c.iter().zip(&expected).enumerate() {
                let same = f64::from(c) == expected || (c.is_nan() && expected.is_nan());
                assert!(
                    same,
                    "{path:?} {format:?} codes {:#x} {:#x}: {c} against {expected}",
                    i / 256,
                    i % 256
                );
            }
        }
    }
}

#[test]
fn nan_and_infinite_scales_stay_in_their_row_and_column() {
    let (m, n, k) = (20, 40, 260);
    let (mut a, mut b) =
        (Rows::random(1, m, k, Fp8Format::E4M3), Rows::random(2, n, k, Fp8Format::E4M3));
    a.codes[3 * 65 + 40] = 0x7F;
    a.scales[5 * 3 + 2] = f32::NAN;
    b.scales[7 * 3] = f32::INFINITY;
    for path in GemmPath::available() {
        let c =
            on(path, OperandView::rows_of(&a.view(), 0, m), OperandView::rows_of(&b.view(), 0, n));
        for (i, c) in c.iter().enumerate() {
            let (row, column) = (i / n, i % n);
            assert_eq!(
                c.is_nan(),
                row == 3 || row == 5 || (column == 7 && c.is_nan()),
                "{path:?} {row} {column}: {c}"
            );
            assert!(column != 7 || !c.is_finite());
        }
    }
}

#[test]
fn zero_and_saturated_tiles() {
    let (m, n, k) = (9, 35, 256);
    let mut x = random(1, m * k);
    x[..128].fill(0.0);
    x[k..k + 128].fill(1e30);
    let (a, b) = (
        Rows::new(&x, m, k, Fp8Format::E4M3),
        Blocks::new(&vec![0.0; n * k], n, k, Fp8Format::E4M3),
    );
    assert!(fp8_gemm_nt(&a.view(), &b.view(), PROMOTED).unwrap().iter().all(|&c| c == 0.0));
    let b = Blocks::random(2, n, k, Fp8Format::E4M3);
    let c = fp8_gemm_nt(&a.view(), &b.view(), PROMOTED).unwrap();
    // Row by row: one of them is 1e30 times the others.
    for (row, expected) in reference::fp8_gemm_nt(&a.view(), &b.view(), 0).chunks(n).enumerate() {
        let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        for (c, expected) in c[row * n..].iter().zip(expected) {
            assert!(
                (f64::from(*c) - expected).abs() <= 1e-5 * largest,
                "row {row}: {c} against {expected}"
            );
        }
    }
}

/// A word's codes past the depth must not enter the sum, whatever they are.
#[test]
fn codes_past_the_depth_are_not_read() {
    let (m, n, k) = (8, 40, 129);
    let (a, b) = (Rows::random(1, m, k, Fp8Format::E4M3), Rows::random(2, n, k, Fp8Format::E4M3));
    let dirty = |x: &[u32]| {
        x.iter()
            .enumerate()
            .map(|(i, &w)| if i % 33 == 32 { w | 0x7F7F_7F00 } else { w })
            .collect::<Vec<_>>()
    };
    let (left, right) = (dirty(&a.codes), dirty(&b.codes));
    for path in GemmPath::available() {
        let rows = |x: &RowTiled<'_>, y: &RowTiled<'_>| {
            on(path, OperandView::rows_of(x, 0, m), OperandView::rows_of(y, 0, n))
        };
        let clean = rows(&a.view(), &b.view());
        assert_eq!(
            rows(&RowTiled { codes: &left, ..a.view() }, &RowTiled { codes: &right, ..b.view() }),
            clean,
            "{path:?}"
        );
    }
}

#[test]
fn dgrad_reads_the_transposed_codes_and_the_same_scales() {
    for (m, n, k) in [(5, 130, 260), (40, 256, 128), (3, 1, 300)] {
        let (dy, w) =
            (Rows::random(1, m, n, Fp8Format::E4M3), Blocks::random(2, n, k, Fp8Format::E4M3));
        let codes = w.transposed();
        let dx = fp8_gemm_nt(&dy.view(), &w.transposed_view(&codes), PROMOTED).unwrap();
        let (dy, w) = (
            reference::dequantize_row_tiled(&dy.view()),
            reference::dequantize_block_tiled(&w.view(), 0),
        );
        let shape = LinearShape { rows: m, inputs: k, outputs: n };
        assert_close("dx", &dx, &reference::linear_input_gradient(&dy, &w, &shape), 1e-5);
    }
}

fn check_groups(counts: &[usize], n: usize, k: usize) {
    let offsets = offsets_of(counts);
    let (rows, experts, format) = (offsets[counts.len()], counts.len(), Fp8Format::E4M3);
    let (x, dy) = (random(1, rows * k), random(2, rows * n));
    let (a, w) =
        (Rows::new(&x, rows, k, format), Blocks::new(&random(3, experts * n * k), n, k, format));
    let c = fp8_grouped_gemm_nt(&a.view(), &offsets, &w.view(), PROMOTED).unwrap();
    let mut expected = Vec::new();
    let mut expected_dw = Vec::new();
    for e in 0..experts {
        let part = Rows::new(&x[offsets[e] * k..offsets[e + 1] * k], counts[e], k, format);
        expected.extend(reference::fp8_gemm_nt(&part.view(), &w.view(), e));
        let [dy, x] =
            [(&dy, n), (&x, k)].map(|(x, columns)| Columns::part(x, &offsets, e, columns, format));
        expected_dw.extend(reference::fp8_wgrad_nt(&dy.view(), &x.view()));
    }
    assert_close("grouped", &c, &expected, 1e-5);
    let [dy, columns] =
        [(&dy, n), (&x, k)].map(|(x, columns)| Columns::new(x, &offsets, columns, format));
    let dw = fp8_grouped_wgrad_nt(&dy.view(), &columns.view(), &offsets, PROMOTED).unwrap();
    assert_close("grouped dw", &dw, &expected_dw, 1e-5);
    let mut twice = dw;
    fp8_grouped_wgrad_nt_accumulate(&dy.view(), &columns.view(), &offsets, PROMOTED, &mut twice)
        .unwrap();
    assert_close(
        "grouped dw + dw",
        &twice,
        &expected_dw.iter().map(|dw| 2.0 * dw).collect::<Vec<_>>(),
        1e-5,
    );

    // The same rows, each expert's in a room of its own.
    let max_rows = counts.iter().copied().max().unwrap_or(0) + 1;
    let (mut padded, mut masked) =
        (vec![9.0; experts * max_rows * k], vec![0.0; experts * max_rows * n]);
    for e in 0..experts {
        let (from, count) = (offsets[e], counts[e]);
        padded[e * max_rows * k..][..count * k].copy_from_slice(&x[from * k..][..count * k]);
        masked[e * max_rows * n..][..count * n].copy_from_slice(&c[from * n..][..count * n]);
    }
    let padded = Rows::new(&padded, experts * max_rows, k, format);
    assert_eq!(
        fp8_grouped_gemm_nt_masked(&padded.view(), counts, &w.view(), PROMOTED).unwrap(),
        masked
    );
}

#[test]
fn groups_of_every_kind() {
    let tiny: Vec<usize> = (0..40).map(|e| e % 6).collect();
    for counts in [&[][..], &[0], &[0, 0, 0], &[1], &[0, 5, 0], &[600, 0, 3], &[127, 129, 1], &tiny]
    {
        for (n, k) in [(1, 1), (3, 0), (0, 3), (33, 130), (130, 64)] {
            check_groups(counts, n, k);
        }
    }
}

proptest::proptest! {
    #[test]
    fn random_groups(
        counts in proptest::collection::vec(0usize..30, 0..7),
        n in 0usize..70,
        k in 0usize..150,
    ) {
        check_groups(&counts, n, k);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let format = Fp8Format::E4M3;
    for m in [3, 300, 1100] {
        let (a, w) = (Rows::random(1, m, 520, format), Blocks::random(2, 300, 520, format));
        let b = Rows::random(3, 300, 520, format);
        let experts = Blocks::new(&random(4, 5 * 100 * 520), 100, 520, format);
        assert_thread_independent("fp8_gemm", || {
            let mut sum = random(5, m * 300);
            fp8_wgrad_nt_accumulate(&a.view(), &b.view(), PROMOTED, &mut sum).unwrap();
            let offsets = [0, 1, 1, m / 2, m - 1, m];
            let emulated = Accumulation::Emulated { bits: 14, promote: false };
            vec![
                fp8_gemm_nt(&a.view(), &w.view(), PROMOTED).unwrap(),
                fp8_gemm_nt(&a.view(), &w.view(), emulated).unwrap(),
                fp8_grouped_gemm_nt(&a.view(), &offsets, &experts.view(), PROMOTED).unwrap(),
                sum,
            ]
        });
    }
}

#[test]
fn wrong_arguments_are_named() {
    let (a, w) =
        (Rows::random(1, 4, 130, Fp8Format::E4M3), Blocks::random(2, 6, 130, Fp8Format::E4M3));
    let argument = |error: KernelError| match error {
        KernelError::Length { argument, .. }
        | KernelError::Invalid { argument, .. }
        | KernelError::Index { argument, .. } => argument,
        other => panic!("{other}"),
    };
    let dense =
        |a: RowTiled<'_>, w: BlockTiled<'_>| argument(fp8_gemm_nt(&a, &w, PROMOTED).unwrap_err());
    assert_eq!(dense(RowTiled { rows: 5, ..a.view() }, w.view()), "a.codes");
    assert_eq!(dense(RowTiled { scales: &a.scales[1..], ..a.view() }, w.view()), "a.scales");
    assert_eq!(dense(a.view(), BlockTiled { codes: &w.codes[1..], ..w.view() }), "b.codes");
    assert_eq!(dense(a.view(), BlockTiled { scales: &[], ..w.view() }), "b.scales");
    assert_eq!(dense(RowTiled { depth: 129, ..a.view() }, w.view()), "b.depth");
    for bits in [0, 1, 25] {
        let accumulation = Accumulation::Emulated { bits, promote: true };
        assert_eq!(
            argument(fp8_gemm_nt(&a.view(), &w.view(), accumulation).unwrap_err()),
            "accumulation.bits"
        );
    }
    assert_eq!(
        argument(
            fp8_gemm_nt_accumulate(&a.view(), &w.view(), PROMOTED, &mut [0.0; 23]).unwrap_err()
        ),
        "c"
    );
    assert_eq!(
        argument(
            fp8_wgrad_nt_accumulate(&a.view(), &a.view(), PROMOTED, &mut [0.0; 15]).unwrap_err()
        ),
        "c"
    );
    for offsets in [&[][..], &[0, 3], &[1, 4], &[0, 5, 4]] {
        assert_eq!(
            argument(fp8_grouped_gemm_nt(&a.view(), offsets, &w.view(), PROMOTED).unwrap_err()),
            "offsets",
            "{offsets:?}"
        );
    }
    assert_eq!(
        argument(fp8_grouped_gemm_nt(&a.view(), &[0, 2, 4], &w.view(), PROMOTED).unwrap_err()),
        "weights.codes"
    );
    assert_eq!(
        argument(fp8_grouped_gemm_nt_masked(&a.view(), &[5], &w.view(), PROMOTED).unwrap_err()),
        "counts"
    );
    let columns = Columns::new(&random(1, 20), &[0, 2, 4], 5, Fp8Format::E4M3);
    let wgrad = |dy: ColumnTiled<'_>, x, offsets: &[usize]| {
        argument(fp8_grouped_wgrad_nt(&dy, &x, offsets, PROMOTED).unwrap_err())
    };
    assert_eq!(wgrad(columns.view(), columns.view(), &[0, 4]), "dy.codes");
    assert_eq!(
        wgrad(ColumnTiled { scales: &[], ..columns.view() }, columns.view(), &[0, 2, 4]),
        "dy.scales"
    );
    assert_eq!(
        wgrad(columns.view(), ColumnTiled { columns: 4, ..columns.view() }, &[0, 2, 4]),
        "x.codes"
    );
    assert_eq!(wgrad(columns.view(), columns.view(), &[2, 1]), "offsets");
}
