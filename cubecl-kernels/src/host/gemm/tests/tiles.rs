//! What holds of tiles alone: the hardware's bits and the emulation's, rows and depths that do not
//! fill them, numbers that count as zero, and both ways of packing.

use super::quantized::{Blocks, Rows};
use super::{PROMOTED, on};
use crate::definition::{Fp8Format, OperandView};
use crate::host::gemm::left::LeftLayout;
use crate::host::gemm::output::Output;
use crate::host::gemm::path::GemmPath;
use crate::host::gemm::route::Route;
use crate::host::gemm::source::{Floats, Group, Source, Taken};
use crate::host::gemm::task::product;
use crate::host::output::as_uninit;
use crate::host::parallel::Threads;
use crate::test_inputs::{assert_thread_independent, random};

/// Sizes that fill tiles, that miss by one, and that need several strips, chunks and reaches.
const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (1, 130, 200),
    (16, 16, 32),
    (17, 31, 33),
    (32, 32, 128),
    (33, 65, 129),
    (64, 160, 513),
    (40, 96, 1100),
    (5, 48, 24),
];

/// The product of two operands on a path, into rows of `stride`, added to `start` or written.
fn strided(
    path: GemmPath,
    left: Source<'_>,
    right: Source<'_>,
    start: &[f32],
    stride: usize,
    add: bool,
) -> Vec<f32> {
    let mut c = start.to_vec();
    let out = if add {
        Output::accumulate(&mut c, stride)
    } else {
        Output::new(as_uninit(&mut c), stride)
    };
    let group = Group { left, right, start: 0 };
    product(Route::only(path), &[group], PROMOTED, &out, Threads::Pool);
    c
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { 0x7FC0_0000 } else { x.to_bits() }).collect()
}

/// Both operands of every kind of product: FP8 in both forms and formats, numbers, and numbers that
/// lie transposed.
fn each_kind(m: usize, n: usize, k: usize, mut f: impl FnMut(&str, Source<'_>, Source<'_>)) {
    for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
        let (a, b) = (Rows::random(1, m, k, format), Blocks::random(2, n, k, format));
        let rows = Rows::random(3, n, k, format);
        let left = Source::Codes(OperandView::rows_of(&a.view(), 0, m));
        f("block", left, Source::Codes(OperandView::expert_of(&b.view(), 0)));
        f("row", left, Source::Codes(OperandView::rows_of(&rows.view(), 0, n)));
    }
    let (x, w) = (random(4, m * k), random(5, n * k));
    for (taken, kind, transposed) in [
        (Taken::High, "bf16", "bf16 transposed"),
        (Taken::Middle, "middle", "middle transposed"),
        (Taken::Low, "low", "low transposed"),
    ] {
        let [left, right] =
            [(&x, m), (&w, n)].map(|(x, rows)| Source::Floats(Floats::new(x, rows, k, k, taken)));
        f(kind, left, right);
        let [left, right] = [(&x, m), (&w, n)]
            .map(|(x, rows)| Source::Floats(Floats::new(x, k, rows, rows, taken).t()));
        f(transposed, left, right);
    }
}

#[test]
fn the_hardware_and_its_emulation_give_the_same_bits() {
    if !GemmPath::Amx.is_available() {
        println!("skipped: no AMX to compare the emulation with");
        return;
    }
    for (m, n, k) in SIZES.into_iter().chain([(300, 1100, 700), (515, 97, 259)]) {
        let (stride, start) = (n + 5, random(6, m * (n + 5)));
        each_kind(m, n, k, |kind, left, right| {
            for add in [false, true] {
                let [tiles, emulated] = [GemmPath::Amx, GemmPath::AmxEmulated]
                    .map(|path| bits(&strided(path, left, right, &start, stride, add)));
                assert!(tiles == emulated, "{kind} {m} {n} {k} add {add}");
            }
        });
    }
}

#[test]
fn gaps_between_rows_keep_what_they_had() {
    for (m, n, k) in SIZES {
        let (stride, start) = (n + 7, random(6, m * (n + 7)));
        each_kind(m, n, k, |kind, left, right| {
            for path in GemmPath::available() {
                for add in [false, true] {
                    let c = strided(path, left, right, &start, stride, add);
                    let rows = c.chunks(stride).zip(start.chunks(stride));
                    for (c, start) in rows {
                        assert_eq!(c[n..], start[n..], "{path} {kind} {m} {n} {k} add {add}");
                    }
                }
            }
        });
    }
}

#[test]
fn threads_do_not_change_a_bit_on_tiles() {
    let format = Fp8Format::E4M3;
    let (m, n, k) = (500, 700, 300);
    let (a, w) = (Rows::random(1, m, k, format), Blocks::random(2, n, k, format));
    let rows = Rows::random(3, n, k, format);
    let left = OperandView::rows_of(&a.view(), 0, m);
    let path = GemmPath::AmxEmulated;
    assert_thread_independent("tiles", || {
        vec![
            on(path, left, OperandView::expert_of(&w.view(), 0)),
            on(path, left, OperandView::rows_of(&rows.view(), 0, n)),
        ]
    });
}

#[test]
fn groups_on_tiles_are_products_alone() {
    let format = Fp8Format::E4M3;
    let (n, k, counts) = (90, 200, [0, 3, 70, 1, 33]);
    let experts: Vec<_> = counts
        .iter()
        .enumerate()
        .map(|(e, &m)| {
            let seed = 2 * e as u64;
            (m, Rows::random(seed, m, k, format), Blocks::random(seed + 1, n, k, format))
        })
        .collect();
    let path = GemmPath::AmxEmulated;
    let (mut start, mut groups, mut alone) = (0, Vec::new(), Vec::new());
    for (m, a, b) in &experts {
        let left = OperandView::rows_of(&a.view(), 0, *m);
        let right = OperandView::expert_of(&b.view(), 0);
        groups.push(Group { left: Source::Codes(left), right: Source::Codes(right), start });
        alone.extend(on(path, left, right));
        start += m * n;
    }
    let mut c = vec![0.0; start];
    let out = Output::new(as_uninit(&mut c), n);
    product(Route::only(path), &groups, PROMOTED, &out, Threads::Pool);
    assert_eq!(c, alone);
}

/// 2^-127 counts as zero and 2^-126 does not; a sum below 2^-126 is zero as well.
#[test]
fn subnormal_numbers_are_zero_on_tiles() {
    let product_of = |x: f32, y: f32| {
        let (x, y) = ([x], [y]);
        let [x, y] = [&x, &y].map(|x| Source::Floats(Floats::new(x, 1, 1, 1, Taken::High)));
        strided(GemmPath::AmxEmulated, x, y, &[1.0], 1, false)[0]
    };
    assert_eq!(product_of(2f32.powi(-127), 2f32.powi(100)), 0.0);
    assert_eq!(product_of(2f32.powi(-126), 2f32.powi(100)), 2f32.powi(-26));
    assert_eq!(product_of(2f32.powi(-64), 2f32.powi(-63)), 0.0);
    assert_eq!(product_of(2f32.powi(-63), 2f32.powi(-63)), 2f32.powi(-126));
}

#[test]
fn numbers_that_are_not_finite_stay_in_their_row() {
    let (m, n, k) = (50, 70, 200);
    let (mut x, w) = (random(1, m * k), random(2, n * k));
    x[7 * k + 150] = f32::INFINITY;
    x[9 * k] = f32::NAN;
    let [left, right] =
        [(&x, m), (&w, n)].map(|(x, rows)| Source::Floats(Floats::new(x, rows, k, k, Taken::High)));
    for path in GemmPath::available() {
        let c = strided(path, left, right, &vec![0.0; m * n], n, false);
        for (i, c) in c.iter().enumerate() {
            match i / n {
                7 => assert!(c.is_infinite(), "{path}: {c}"),
                row => assert_eq!(c.is_nan(), row == 9, "{path} {row}: {c}"),
            }
        }
    }
}

/// Words that both ways of packing write of an operand, as far as tiles read them.
#[cfg(target_arch = "x86_64")]
#[test]
fn both_ways_of_packing_give_the_same_words() {
    use crate::definition::{TILE, tiles};
    use crate::host::gemm::left::ROW_WORDS;
    use crate::host::gemm::pack::Pack;
    use crate::host::gemm::pack_pairs::{Avx512Pairs, PlainPairs};

    if !GemmPath::Avx512Bf16.is_available() {
        println!("skipped: no AVX512-BF16 that packs");
        return;
    }
    const UNWRITTEN: u32 = 0xDEAD_BEEF;
    for (m, n, k) in SIZES {
        each_kind(m, n, k, |kind, left, _| {
            let rows = m.min(32);
            // Pairs of the depth that tiles read, rounded up to whole steps.
            let (tiles, read) = (tiles(k), k.div_ceil(32) * 16);
            let pack = |right: bool, plain: bool| {
                let mut words = vec![UNWRITTEN; tiles * 32 * ROW_WORDS];
                let (to, layout) = (words.as_mut_ptr(), LeftLayout::BLOCKS);
                // SAFETY: there is room for 32 rows of every tile, and the instruction set has been
                // found.
                unsafe {
                    match (right, plain) {
                        (false, true) => PlainPairs::left(&left, 0..rows, 0..k, layout, to),
                        (false, false) => Avx512Pairs::left(&left, 0..rows, 0..k, layout, to),
                        (true, true) => PlainPairs::right(&left, 0..rows, 2, 0..k, to),
                        (true, false) => Avx512Pairs::right(&left, 0..rows, 2, 0..k, to),
                    }
                }
                words
            };
            let what = format!("{kind} {m} {k}");
            let [plain, fast] = [true, false].map(|plain| pack(true, plain));
            assert!(plain[..read * 32] == fast[..read * 32], "{what} right");
            assert!(!plain[..read * 32].contains(&UNWRITTEN), "{what} right");
            let [plain, fast] = [true, false].map(|plain| pack(false, plain));
            for step in 0..read / 16 {
                let at = step * 32 * 16;
                let (plain, fast) = (&plain[at..][..rows * 16], &fast[at..][..rows * 16]);
                assert!(plain == fast && !plain.contains(&UNWRITTEN), "{what} left, step {step}");
            }
            assert_eq!(TILE / 2, ROW_WORDS);
        });
    }
}
