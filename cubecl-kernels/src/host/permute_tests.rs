use super::*;
use crate::reference;
use crate::test_inputs::{
    assert_close, assert_gradient, assert_thread_independent, inner, random, widen,
};

/// A permutation of `0..len`.
fn permutation(len: usize) -> Vec<u32> {
    let keys = random(8, len);
    let mut order: Vec<u32> = (0..len as u32).collect();
    order.sort_by(|&a, &b| keys[a as usize].total_cmp(&keys[b as usize]));
    order
}

fn check(tokens: usize, slots: usize, width: usize, spare: usize) {
    let sorted = tokens * slots + spare;
    let shape = PermuteShape { tokens, slots, sorted, width };
    let inverse = permutation(sorted)[..tokens * slots].to_vec();
    let (y, weights, dout) =
        (random(1, sorted * width), random(2, tokens * slots), random(3, tokens * width));
    let (y64, weights64) = (widen(&y), widen(&weights));
    let out = combine(&y, &weights, &inverse, &shape).unwrap();
    assert_close("out", &out, &reference::combine(&y64, &weights64, &inverse, slots, width), 1e-6);
    let (dy64, dweights64) =
        reference::combine_backward(&y64, &weights64, &inverse, &widen(&dout), slots, width);
    let (dy, dweights) = combine_backward(&y, &weights, &inverse, &dout, &shape).unwrap();
    assert_close("dy", &dy, &dy64, 1e-6);
    assert_close("dweights", &dweights, &dweights64, 1e-5);
    let dx = gather_rows_backward(&y, &inverse, &shape).unwrap();
    let ones = vec![1.0; tokens * slots];
    assert_close("dx", &dx, &reference::combine(&y64, &ones, &inverse, slots, width), 1e-6);
    let gathered = gather_rows(&y, &inverse, sorted, width).unwrap();
    for (i, &row) in inverse.iter().enumerate() {
        assert_eq!(gathered[i * width..][..width], y[row as usize * width..][..width]);
    }
}

#[test]
fn hard_edges() {
    for (tokens, slots, width, spare) in
        [(0, 2, 4, 0), (3, 2, 0, 0), (1, 1, 1, 0), (5, 3, 7, 4), (40, 8, 33, 0), (300, 2, 130, 1)]
    {
        check(tokens, slots, width, spare);
    }
    // No slots: the sum is empty, and sorted rows that nobody names get no gradient.
    let shape = PermuteShape { tokens: 3, slots: 0, sorted: 2, width: 4 };
    assert_eq!(combine(&[1.0; 8], &[], &[], &shape).unwrap(), [0.0; 12]);
    assert_eq!(
        combine_backward(&[1.0; 8], &[], &[], &[1.0; 12], &shape).unwrap(),
        (vec![0.0; 8], vec![])
    );
}

proptest::proptest! {
    #[test]
    fn random_shapes(
        tokens in 0usize..30,
        slots in 1usize..5,
        width in 1usize..40,
        spare in 0usize..3,
    ) {
        check(tokens, slots, width, spare);
    }
}

#[test]
fn the_reference_gradients_are_slopes() {
    let inverse = permutation(8);
    let (y, weights, dout) = (widen(&random(1, 24)), widen(&random(2, 8)), widen(&random(3, 12)));
    let (dy, dweights) = reference::combine_backward(&y, &weights, &inverse, &dout, 2, 3);
    assert_gradient("dy", &y, &dy, |y| {
        inner(&reference::combine(y, &weights, &inverse, 2, 3), &dout)
    });
    assert_gradient("dweights", &weights, &dweights, |w| {
        inner(&reference::combine(&y, w, &inverse, 2, 3), &dout)
    });
}

#[test]
fn threads_do_not_change_a_bit() {
    let shape = PermuteShape { tokens: 2000, slots: 3, sorted: 6000, width: 256 };
    let inverse = permutation(6000);
    let (y, weights, dout) = (random(1, 6000 * 256), random(2, 6000), random(3, 2000 * 256));
    assert_thread_independent("permute", || {
        let (dy, dweights) = combine_backward(&y, &weights, &inverse, &dout, &shape).unwrap();
        let out = combine(&y, &weights, &inverse, &shape).unwrap();
        vec![out, dy, dweights, gather_rows_backward(&y, &inverse, &shape).unwrap()]
    });
}

#[test]
fn bad_indices_are_named() {
    let error = gather_rows(&[0.0; 4], &[0, 2], 2, 2).unwrap_err();
    assert_eq!(error.to_string(), "gather_rows: `index[1]` is 2, it must lie in 0..2");
    let shape = PermuteShape { tokens: 1, slots: 2, sorted: 2, width: 1 };
    let error = combine_backward(&[0.0; 2], &[0.0; 2], &[1, 1], &[0.0], &shape).unwrap_err();
    assert!(matches!(error, KernelError::Invalid { argument: "inverse", .. }));
}
