//! Products of an operand that was packed before, which have the bits of those that pack it
//! themselves.

use super::PROMOTED;
use crate::host::gemm::output::build_f32;
use crate::host::gemm::packed::PackedRight;
use crate::host::gemm::path::GemmPath;
use crate::host::gemm::route::Route;
use crate::host::gemm::source::{Floats, Group, Source, Taken};
use crate::host::gemm::task::{product, product_of_packed};
use crate::host::parallel::Threads;
use crate::test_inputs::random;

#[test]
fn a_packed_operand_changes_no_bit() {
    let taken = |path: GemmPath| match path.has_words() {
        true => [Taken::Whole, Taken::High],
        false => [Taken::High, Taken::Thirds],
    };
    // The largest have several tasks, several chunks of depth, and panels that are not full.
    for [rows, columns, depth] in [
        [1, 1, 1],
        [3, 40, 16],
        [33, 70, 300],
        [300, 70, 129],
        [130, 600, 1100],
        [5, 7, 0],
        [0, 9, 9],
    ] {
        let (x, w) = (random(1, rows * depth), random(2, columns * depth));
        for path in GemmPath::available() {
            for (taken, transposed) in taken(path).into_iter().flat_map(|t| [(t, false), (t, true)])
            {
                let left = Source::Floats(Floats::new(&x, rows, depth, depth, taken));
                let right = Source::Floats(match transposed {
                    true => Floats::new(&w, depth, columns, columns, taken).t(),
                    false => Floats::new(&w, columns, depth, depth, taken),
                });
                let group = || Group { left, right, start: 0 };
                let build = |packed: Option<&PackedRight>, route: Route| {
                    // SAFETY: a product writes all of its result.
                    unsafe {
                        build_f32(rows * columns, columns, |out| match packed {
                            None => product(route, &[group()], PROMOTED, out, Threads::Pool),
                            packed => product_of_packed(route, group(), packed, out, Threads::Pool),
                        })
                    }
                };
                let route = Route::only(path);
                let expected = build(None, route);
                let packed = PackedRight::new(path, &right);
                for _ in 0..2 {
                    let found = build(Some(&packed), route);
                    assert!(found == expected, "{path} {taken:?} {rows}x{columns}x{depth}");
                }
                // Of another path it is of no use, and does no harm.
                let other = PackedRight::new(GemmPath::Baseline, &right);
                if taken != Taken::Thirds {
                    assert!(build(Some(&other), route) == expected, "{path} beside another's");
                }
            }
        }
    }
}
