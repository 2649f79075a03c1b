//! Embedding rows by token id, and the gradient of the table.

use super::output::{Parts, as_uninit, build, for_rows};
use super::parallel::{chunk, for_each, rows_a_task};
use crate::definition::{KernelError, check_length, element_count};

/// Elements that one task copies.
const ELEMENTS_A_TASK: usize = 1 << 15;

/// Tasks that the table's gradient is cut into.
const GRADIENT_TASKS: usize = 16;

/// Looks up the table's rows of some tokens, `out[i] = table[ids[i]]`.
///
/// # Shapes
/// - `table [vocab, width]`, `ids [n]` -> `[n, width]`
///
/// # Errors
/// [`KernelError::Length`] naming `table`, [`KernelError::Index`] naming the place in `ids`.
pub fn embedding(
    table: &[f32],
    ids: &[i64],
    vocab: usize,
    width: usize,
) -> Result<Vec<f32>, KernelError> {
    check_length("embedding", "table", table.len(), &[vocab, width])?;
    check_ids("embedding", ids, vocab)?;
    let size = element_count("embedding", "out", &[ids.len(), width])?;
    // SAFETY: each task writes all of its rows.
    Ok(unsafe {
        build(size, |out| {
            for_rows(out, width, rows_a_task(ELEMENTS_A_TASK, width), size, |rows, out| {
                for (&id, out) in ids[rows].iter().zip(out.chunks_exact_mut(width)) {
                    out.write_copy_of_slice(&table[id as usize * width..][..width]);
                }
            });
        })
    })
}

/// Computes the gradient of [`embedding`] for its table,
/// `dtable[id] = sum of dy[i] over ids[i] = id`, in the order of `i`.
///
/// # Shapes
/// - `dy [n, width]`, `ids [n]` -> `[vocab, width]`
///
/// # Errors
/// [`KernelError::Length`] naming `dy`, [`KernelError::Index`] naming the place in `ids`.
pub fn embedding_backward(
    dy: &[f32],
    ids: &[i64],
    vocab: usize,
    width: usize,
) -> Result<Vec<f32>, KernelError> {
    check_length("embedding_backward", "dy", dy.len(), &[ids.len(), width])?;
    check_ids("embedding_backward", ids, vocab)?;
    let size = element_count("embedding_backward", "dtable", &[vocab, width])?;
    let ids_a_task = vocab.div_ceil(GRADIENT_TASKS).max(1);
    // From the allocator, so that pages the system has just zeroed are not zeroed again.
    let mut gradient = vec![0.0; size];
    let out = Parts::new(as_uninit(&mut gradient));
    for_each(vocab.div_ceil(ids_a_task), dy.len() + ids.len() * GRADIENT_TASKS, |task| {
        // A task owns a range of ids and looks for them among all tokens: no sorting, and the order
        // of `i`.
        let own = chunk(task, ids_a_task, vocab);
        // SAFETY: tasks own different rows, and all are initialised.
        let rows = unsafe { out.written(own.start * width, own.len() * width) };
        for (i, &id) in ids.iter().enumerate() {
            let id = id as usize;
            if own.contains(&id) {
                let row = &mut rows[(id - own.start) * width..][..width];
                row.iter_mut().zip(&dy[i * width..]).for_each(|(sum, &x)| *sum += x);
            }
        }
    });
    Ok(gradient)
}

/// Checks that every id is one of the table's rows.
pub(super) fn check_ids(op: &'static str, ids: &[i64], vocab: usize) -> Result<(), KernelError> {
    match ids.iter().position(|&id| usize::try_from(id).map_or(true, |id| id >= vocab)) {
        None => Ok(()),
        Some(position) => Err(KernelError::Index {
            op,
            argument: "ids",
            position,
            value: ids[position],
            bound: vocab,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::test_inputs::{
        assert_close, assert_gradient, assert_thread_independent, inner, random, random_indices,
        widen,
    };

    fn check(n: usize, vocab: usize, width: usize) {
        let (table, dy) = (random(1, vocab * width), random(2, n * width));
        let ids: Vec<i64> =
            random_indices(3, n, vocab.max(1)).into_iter().map(|id| id as i64).collect();
        let expected = reference::embedding(&widen(&table), &ids, width);
        assert_close("out", &embedding(&table, &ids, vocab, width).unwrap(), &expected, 0.0);
        let expected = reference::embedding_backward(&widen(&dy), &ids, vocab, width);
        assert_close(
            "dtable",
            &embedding_backward(&dy, &ids, vocab, width).unwrap(),
            &expected,
            1e-5,
        );
    }

    #[test]
    fn hard_edges() {
        for (n, vocab, width) in
            [(0, 5, 3), (0, 0, 3), (4, 5, 0), (1, 1, 1), (300, 1, 17), (300, 7, 33), (50, 4000, 16)]
        {
            check(n, vocab, width);
        }
    }

    proptest::proptest! {
        #[test]
        fn random_shapes(n in 0usize..60, vocab in 1usize..30, width in 1usize..40) {
            check(n, vocab, width);
        }
    }

    #[test]
    fn the_reference_gradient_is_a_slope() {
        let (table, dy, ids) = (widen(&random(1, 12)), widen(&random(2, 15)), [3, 0, 3, 1, 3]);
        let gradient = reference::embedding_backward(&dy, &ids, 4, 3);
        assert_gradient("dtable", &table, &gradient, |t| {
            inner(&reference::embedding(t, &ids, 3), &dy)
        });
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let dy = random(2, 3000 * 200);
        let ids: Vec<i64> = random_indices(3, 3000, 37).into_iter().map(|id| id as i64).collect();
        assert_thread_independent("embedding", || {
            vec![embedding_backward(&dy, &ids, 37, 200).unwrap()]
        });
    }

    #[test]
    fn a_bad_id_is_named() {
        let error = embedding(&[0.0; 6], &[2, -1], 3, 2).unwrap_err();
        assert_eq!(error.to_string(), "embedding: `ids[1]` is -1, it must lie in 0..3");
        assert!(embedding_backward(&[0.0; 2], &[3], 3, 2).is_err());
    }
}
