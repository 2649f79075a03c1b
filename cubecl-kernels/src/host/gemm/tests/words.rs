//! What holds of FP32 words alone: a product in FP8 is the FP32 product of what its codes stand for.

use super::quantized::{Blocks, Rows};
use super::{PROMOTED, on};
use crate::definition::{Fp8Format, OperandView, TILE, decode_fp8};
use crate::host::gemm::output::{Output, build_f32};
use crate::host::gemm::path::GemmPath;
use crate::host::gemm::route::Route;
use crate::host::gemm::source::{Floats, Group, Source, Taken};
use crate::host::gemm::task::product;
use crate::host::parallel::Threads;

/// What an operand stands for.
fn numbers(x: &OperandView<'_>) -> Vec<f32> {
    let entry = |row: usize, i: usize| {
        let code = x.codes[row * x.row_words + i / 4].to_le_bytes()[i % 4];
        x.scale(row, i / TILE) * decode_fp8(code, x.format)
    };
    (0..x.rows).flat_map(|row| (0..x.depth).map(move |i| entry(row, i))).collect()
}

/// A packing that took another row's scale, or another tile's, would be caught here to the bit,
/// and so would sums in another order.
#[test]
fn a_product_of_codes_is_that_of_what_they_stand_for() {
    for (m, n, k) in
        [(1, 1, 1), (7, 40, 24), (13, 31, 127), (33, 130, 129), (50, 65, 513), (130, 290, 1100)]
    {
        for format in [Fp8Format::E4M3, Fp8Format::E5M2] {
            let (a, b) = (Rows::random(1, m, k, format), Blocks::random(2, n, k, format));
            let columns = Rows::random(3, n, k, format);
            let left = OperandView::rows_of(&a.view(), 0, m);
            for right in
                [OperandView::expert_of(&b.view(), 0), OperandView::rows_of(&columns.view(), 0, n)]
            {
                let (x, w) = (numbers(&left), numbers(&right));
                let [x, w] = [(&x, m), (&w, n)]
                    .map(|(x, rows)| Source::Floats(Floats::new(x, rows, k, k, Taken::Whole)));
                for path in GemmPath::available().filter(|path| path.has_words()) {
                    let group = Group { left: x, right: w, start: 0 };
                    let fp32 = |c: &Output<'_>| {
                        product(Route::only(path), &[group], PROMOTED, c, Threads::Pool);
                    };
                    // SAFETY: a product writes all of its result.
                    let fp32 = unsafe { build_f32(m * n, n, fp32) };
                    assert!(on(path, left, right) == fp32, "{path} {format:?} {m} {n} {k}");
                }
            }
        }
    }
}
