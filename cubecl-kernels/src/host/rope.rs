//! Rotary position embedding of the last entries of each head, and its gradient.

use std::mem::MaybeUninit;

use super::output::{build, for_rows};
use super::parallel::rows_a_task;
use super::simd::{madd, multiversion};
use crate::definition::{KernelError, RopeLayout, RopeShape, check_length};

/// Elements that one task rotates or copies.
const ELEMENTS_A_TASK: usize = 1 << 15;

/// Rotates each pair of the last `dr` entries of every head,
/// `(a, b) -> (a cos - b sin, a sin + b cos)`; the rest is copied.
///
/// The pairs are those of [`RopeLayout`], and stay where they are. Pair `j` of row `i` turns by the
/// angle of `cos[i, j]` and `sin[i, j]`, the same for every sequence and head.
///
/// # Shapes
/// - `x [b, t, h, head_dim]`, `cos` and `sin [t, dr / 2]` -> `[b, t, h, head_dim]`
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Invalid`] where `dr` is odd or above
/// `head_dim`.
///
/// Source: Su et al., 2021 (arXiv 2104.09864); technical report 2.1.1.
pub fn rope(
    x: &[f32],
    cos: &[f32],
    sin: &[f32],
    shape: &RopeShape,
) -> Result<Vec<f32>, KernelError> {
    rotate("rope", x, cos, sin, shape, 1.0)
}

/// Computes the gradient of [`rope`], which is the rotation by the negative angle.
///
/// # Shapes
/// - `dy [b, t, h, head_dim]`, `cos` and `sin [t, dr / 2]` -> `[b, t, h, head_dim]`
///
/// # Errors
/// The errors of [`rope`].
pub fn rope_backward(
    dy: &[f32],
    cos: &[f32],
    sin: &[f32],
    shape: &RopeShape,
) -> Result<Vec<f32>, KernelError> {
    rotate("rope_backward", dy, cos, sin, shape, -1.0)
}

fn rotate(
    op: &'static str,
    x: &[f32],
    cos: &[f32],
    sin: &[f32],
    shape: &RopeShape,
    sign: f32,
) -> Result<Vec<f32>, KernelError> {
    let RopeShape { batch, tokens, heads, head_dim, rope_dim, layout } = *shape;
    if rope_dim % 2 != 0 || rope_dim > head_dim {
        return Err(KernelError::Invalid {
            op,
            argument: "shape",
            requirement: "must have an even rope_dim <= head_dim",
        });
    }
    check_length(op, "x", x.len(), &[batch, tokens, heads, head_dim])?;
    check_length(op, "cos", cos.len(), &[tokens, rope_dim / 2])?;
    check_length(op, "sin", sin.len(), &[tokens, rope_dim / 2])?;
    let (row, half) = (heads * head_dim, rope_dim / 2);
    // SAFETY: `rotate_row` writes all of a row, for each of a task's rows.
    Ok(unsafe {
        build(x.len(), |out| {
            for_rows(out, row, rows_a_task(ELEMENTS_A_TASK, row), x.len(), |rows, out| {
                for (r, out) in rows.zip(out.chunks_exact_mut(row)) {
                    let (x, table) = (&x[r * row..][..row], r % tokens * half);
                    let (cos, sin) = (&cos[table..][..half], &sin[table..][..half]);
                    rotate_row(x, cos, sin, sign, head_dim, layout, out);
                }
            });
        })
    })
}

multiversion! {
    fn rotate_row(
        x: &[f32],
        cos: &[f32],
        sin: &[f32],
        sign: f32,
        head_dim: usize,
        layout: RopeLayout,
        out: &mut [MaybeUninit<f32>],
    ) {
        let half = cos.len();
        for (x, out) in x.chunks_exact(head_dim.max(1)).zip(out.chunks_exact_mut(head_dim.max(1))) {
            let (nope, x) = x.split_at(head_dim - 2 * half);
            let (copied, out) = out.split_at_mut(nope.len());
            copied.write_copy_of_slice(nope);
            match layout {
                RopeLayout::Interleaved => {
                    let pairs = x.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<2>().0);
                    for (([a, b], out), (&c, &s)) in pairs.zip(cos.iter().zip(sin)) {
                        let s = sign * s;
                        out[0].write(madd::<S>(*a, c, -(b * s)));
                        out[1].write(madd::<S>(*a, s, b * c));
                    }
                }
                RopeLayout::Halves => {
                    let ((a, b), (out_a, out_b)) = (x.split_at(half), out.split_at_mut(half));
                    let pairs = a.iter().zip(b).zip(out_a.iter_mut().zip(out_b));
                    for (((&a, &b), (out_a, out_b)), (&c, &s)) in pairs.zip(cos.iter().zip(sin)) {
                        let s = sign * s;
                        out_a.write(madd::<S>(a, c, -(b * s)));
                        out_b.write(madd::<S>(a, s, b * c));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::test_inputs::{
        assert_close, assert_gradient, assert_thread_independent, inner, random, widen,
    };

    fn tables(tokens: usize, half: usize) -> (Vec<f32>, Vec<f32>) {
        let angles: Vec<f32> = random(9, tokens * half).iter().map(|x| x * 7.0).collect();
        (angles.iter().map(|a| a.cos()).collect(), angles.iter().map(|a| a.sin()).collect())
    }

    fn check([batch, tokens, heads, head_dim, half]: [usize; 5]) {
        for layout in [RopeLayout::Interleaved, RopeLayout::Halves] {
            let shape = RopeShape { batch, tokens, heads, head_dim, rope_dim: 2 * half, layout };
            let x = random(1, batch * tokens * heads * head_dim);
            let (cos, sin) = tables(tokens, half);
            let expected = reference::rope(&widen(&x), &widen(&cos), &widen(&sin), &shape);
            let y = rope(&x, &cos, &sin, &shape).unwrap();
            assert_close("y", &y, &expected, 1e-6);
            let back = rope_backward(&y, &cos, &sin, &shape).unwrap();
            assert_close("there and back", &back, &widen(&x), 1e-6);
        }
    }

    #[test]
    fn hard_edges() {
        for dims in [
            [0, 3, 2, 8, 2],
            [2, 0, 2, 8, 2],
            [1, 1, 1, 2, 1],
            [2, 3, 2, 7, 0],
            [2, 3, 0, 4, 2],
            [2, 5, 3, 11, 4],
            [1, 3, 2, 0, 0],
        ] {
            check(dims);
        }
    }

    #[test]
    fn pairs_stay_where_they_are() {
        let shape = RopeShape {
            batch: 1,
            tokens: 1,
            heads: 1,
            head_dim: 5,
            rope_dim: 4,
            layout: RopeLayout::Interleaved,
        };
        let (x, cos, sin) = ([9.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0], [1.0, 0.0]);
        assert_eq!(rope(&x, &cos, &sin, &shape).unwrap(), [9.0, -2.0, 1.0, 3.0, 4.0]);
        let shape = RopeShape { layout: RopeLayout::Halves, ..shape };
        assert_eq!(rope(&x, &cos, &sin, &shape).unwrap(), [9.0, -3.0, 2.0, 1.0, 4.0]);
    }

    proptest::proptest! {
        #[test]
        fn random_shapes(
            batch in 1usize..3,
            tokens in 1usize..9,
            heads in 1usize..4,
            nope in 0usize..9,
            half in 0usize..20,
        ) {
            check([batch, tokens, heads, nope + 2 * half, half]);
        }
    }

    #[test]
    fn backward_is_the_slope() {
        let shape = RopeShape {
            batch: 2,
            tokens: 3,
            heads: 2,
            head_dim: 7,
            rope_dim: 4,
            layout: RopeLayout::Interleaved,
        };
        let (x, dy, (cos, sin)) = (random(1, 84), random(2, 84), tables(3, 2));
        let dx = rope_backward(&dy, &cos, &sin, &shape).unwrap();
        let (cos, sin, dy) = (widen(&cos), widen(&sin), widen(&dy));
        assert_gradient("dx", &widen(&x), &widen(&dx), |x| {
            inner(&reference::rope(x, &cos, &sin, &shape), &dy)
        });
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let shape = RopeShape {
            batch: 4,
            tokens: 500,
            heads: 8,
            head_dim: 48,
            rope_dim: 16,
            layout: RopeLayout::Interleaved,
        };
        let (x, (cos, sin)) = (random(1, 4 * 500 * 8 * 48), tables(500, 8));
        assert_thread_independent("rope", || vec![rope(&x, &cos, &sin, &shape).unwrap()]);
    }

    #[test]
    fn wrong_arguments_are_named() {
        let shape = RopeShape {
            batch: 1,
            tokens: 2,
            heads: 1,
            head_dim: 4,
            rope_dim: 4,
            layout: RopeLayout::Halves,
        };
        let error = rope(&[0.0; 8], &[0.0; 3], &[0.0; 4], &shape).unwrap_err();
        assert!(matches!(error, KernelError::Length { argument: "cos", .. }));
        for rope_dim in [3, 6] {
            let shape = RopeShape { rope_dim, ..shape };
            assert!(matches!(rope(&[0.0; 8], &[], &[], &shape), Err(KernelError::Invalid { .. })));
        }
    }
}
