//! Output head and cross entropy in one: logits exist for a chunk of rows at a time.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use super::head::{Head, HeadWeight, chunk_rows};
use super::{CrossEntropy, check_targets, rows, weighted};
use crate::definition::{KernelError, LinearShape, ProductFormat, check_length, element_count};
use crate::host::output::{Parts, as_uninit};
use crate::host::parallel::{Threads, chunk, for_each};
use crate::host::product::{View, product, product_add, product_of};

/// What [`linear_cross_entropy_with_gradients`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearCrossEntropyGradients {
    /// The loss of all rows and of each.
    pub loss: CrossEntropy,
    /// The gradient for `x`, `[rows, inputs]`.
    pub dx: Vec<f32>,
    /// The gradient for `w`, `[vocab, inputs]`.
    pub dw: Vec<f32>,
}

/// Computes the cross entropy of `x w^T`, whose logits never exist whole; `shape.outputs` is the
/// vocabulary, and `format` that of the products' operands.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [vocab, inputs]`, `targets [rows]` (negative: ignored, at no cost),
///   `weights [rows]` (one each where absent)
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Index`] naming the row whose target
/// is outside the vocabulary.
pub fn linear_cross_entropy(
    x: &[f32],
    w: &[f32],
    targets: &[i64],
    weights: Option<&[f32]>,
    shape: &LinearShape,
    format: ProductFormat,
) -> Result<CrossEntropy, KernelError> {
    check("linear_cross_entropy", x, w, targets, weights, shape)?;
    let LinearShape { rows, inputs, outputs: vocab } = *shape;
    let mut live = Live::new(x, targets, weights, inputs);
    let live_rows = live.targets.len();
    let weight = HeadWeight::new(w, format, &mut live.x, live_rows);
    let head = Head::new(&weight, live_rows, [inputs, vocab]);
    let losses = live.run([inputs, vocab], |x, rows, out| head.logits(x, rows, out), None);
    Ok(weighted(live.spread(losses, 1, rows), weights))
}

/// The cross entropy of logits that `logits(x, rows, out)` computes for some rows at a time; dims
/// are `[rows, inputs, vocab]`.
///
/// # Errors
/// Those of [`linear_cross_entropy`] about `targets`.
pub(in crate::host) fn cross_entropy_of(
    op: &'static str,
    x: &[f32],
    targets: &[i64],
    [rows, inputs, vocab]: [usize; 3],
    logits: impl Fn(&[f32], usize, &mut [MaybeUninit<f32>]),
) -> Result<CrossEntropy, KernelError> {
    check_targets(op, targets, None, rows, vocab)?;
    element_count(op, "logits", &[rows, vocab])?;
    let live = Live::new(x, targets, None, inputs);
    let losses = live.run([inputs, vocab], logits, None);
    Ok(weighted(live.spread(losses, 1, rows), None))
}

/// Computes [`linear_cross_entropy`] and its gradients, given that the loss's own is one.
///
/// # Shapes
/// - as [`linear_cross_entropy`]; output: [`LinearCrossEntropyGradients`]
///
/// # Errors
/// The errors of [`linear_cross_entropy`].
pub fn linear_cross_entropy_with_gradients(
    x: &[f32],
    w: &[f32],
    targets: &[i64],
    weights: Option<&[f32]>,
    shape: &LinearShape,
    format: ProductFormat,
) -> Result<LinearCrossEntropyGradients, KernelError> {
    check("linear_cross_entropy_with_gradients", x, w, targets, weights, shape)?;
    let LinearShape { rows, inputs, outputs: vocab } = *shape;
    let mut live = Live::new(x, targets, weights, inputs);
    let live_rows = live.targets.len();
    let weight = HeadWeight::new(w, format, &mut live.x, live_rows);
    let head = Head::new(&weight, live_rows, [inputs, vocab]);
    let mut dx = Vec::with_capacity(live.targets.len() * inputs);
    let mut dw = Vec::new();
    let losses = live.run(
        [inputs, vocab],
        |x, rows, out| head.logits(x, rows, out),
        Some(Gradients { head: &head, dx: &mut dx, dw: &mut dw }),
    );
    let loss = weighted(live.spread(losses, 1, rows), weights);
    Ok(LinearCrossEntropyGradients { loss, dx: live.spread(dx, inputs, rows), dw })
}

fn check(
    op: &'static str,
    x: &[f32],
    w: &[f32],
    targets: &[i64],
    weights: Option<&[f32]>,
    shape: &LinearShape,
) -> Result<(), KernelError> {
    let LinearShape { rows, inputs, outputs: vocab } = *shape;
    check_length(op, "x", x.len(), &[rows, inputs])?;
    check_length(op, "w", w.len(), &[vocab, inputs])?;
    check_targets(op, targets, weights, rows, vocab)?;
    element_count(op, "logits", &[rows, vocab]).map(|_| ())
}

/// Where the gradients go, and the head that they are of.
struct Gradients<'a> {
    head: &'a Head<'a>,
    dx: &'a mut Vec<f32>,
    dw: &'a mut Vec<f32>,
}

/// The rows that have a target.
struct Live<'a> {
    x: Cow<'a, [f32]>,
    targets: Vec<usize>,
    weights: Vec<f32>,
    /// Their places among all rows; empty where all rows are live.
    places: Vec<usize>,
}

impl<'a> Live<'a> {
    fn new(x: &'a [f32], targets: &[i64], weights: Option<&[f32]>, inputs: usize) -> Self {
        let mut places: Vec<usize> = (0..targets.len()).filter(|&r| targets[r] >= 0).collect();
        let live_targets = places.iter().map(|&r| targets[r] as usize).collect();
        let live_weights = places.iter().map(|&r| weights.map_or(1.0, |w| w[r])).collect();
        let x = if places.len() == targets.len() {
            places.clear();
            x.into()
        } else {
            places
                .iter()
                .flat_map(|&r| &x[r * inputs..][..inputs])
                .copied()
                .collect::<Vec<_>>()
                .into()
        };
        Self { x, targets: live_targets, weights: live_weights, places }
    }

    /// Puts rows of `width` back among all rows, zero between.
    fn spread(&self, live: Vec<f32>, width: usize, rows: usize) -> Vec<f32> {
        if self.targets.len() == rows {
            return live;
        }
        let mut all = vec![0.0; rows * width];
        for (i, &r) in self.places.iter().enumerate() {
            all[r * width..][..width].copy_from_slice(&live[i * width..][..width]);
        }
        all
    }

    /// The live rows' losses, and into `gradients` their `dx` and `dw`.
    fn run(
        &self,
        [inputs, vocab]: [usize; 2],
        compute_logits: impl Fn(&[f32], usize, &mut [MaybeUninit<f32>]),
        mut gradients: Option<Gradients<'_>>,
    ) -> Vec<f32> {
        let rows = self.targets.len();
        let chunk_rows = chunk_rows(vocab).min(rows.max(1));
        let mut losses = vec![0.0; rows];
        let mut logits = Vec::with_capacity(chunk_rows * vocab);
        let of_dx = gradients.as_ref().map(|of| of.head.for_dx());
        if let Some(Gradients { dx, dw, .. }) = &mut gradients {
            dx.reserve_exact(rows * inputs);
            dw.reserve_exact(vocab * inputs);
            if rows == 0 {
                dw.resize(vocab * inputs, 0.0);
            }
        }
        for index in 0..rows.div_ceil(chunk_rows) {
            let part = chunk(index, chunk_rows, rows);
            let x = &self.x[part.start * inputs..part.end * inputs];
            let size = part.len() * vocab;
            logits.clear();
            compute_logits(x, part.len(), &mut logits.spare_capacity_mut()[..size]);
            // SAFETY: the product has just written them all, and the capacity is that of the
            // largest chunk.
            unsafe { logits.set_len(size) };
            self.losses(
                &mut logits,
                &mut losses[part.clone()],
                part.start,
                vocab,
                gradients.as_ref().map(|of| of.head.weight.rounded),
            );
            let (Some(Gradients { head, dx, dw }), Some(of_dx)) = (&mut gradients, &of_dx) else {
                continue;
            };
            let format = head.weight.format;
            let x = View::new(x, part.len(), inputs);
            let d_logits = View::new(&logits, part.len(), vocab);
            let rows = &mut dx.spare_capacity_mut()[..part.len() * inputs];
            product_of(rows, inputs, d_logits, of_dx);
            // SAFETY: the product has just written these rows, for which room was reserved.
            unsafe { dx.set_len(part.end * inputs) };
            if index == 0 {
                product(
                    &mut dw.spare_capacity_mut()[..vocab * inputs],
                    d_logits.t(),
                    x,
                    format,
                    Threads::Pool,
                );
                // SAFETY: the product has just written all of it.
                unsafe { dw.set_len(vocab * inputs) };
            } else {
                product_add(dw, d_logits.t(), x, format, Threads::Pool);
            }
        }
        losses
    }

    /// The losses of a chunk of rows from `first` on; with `gradient`, logits become their
    /// gradients, and are rounded to BF16 where it says so.
    fn losses(
        &self,
        logits: &mut [f32],
        losses: &mut [f32],
        first: usize,
        vocab: usize,
        gradient: Option<bool>,
    ) {
        let count = losses.len();
        let (logits, losses) = (Parts::new(as_uninit(logits)), Parts::new(as_uninit(losses)));
        for_each(count, count * vocab * rows::WORK, |r| {
            // SAFETY: a row is one task's, and was initialised.
            let row = unsafe { logits.written(r * vocab, vocab) };
            let (target, weight) = (self.targets[first + r], self.weights[first + r]);
            let loss = match gradient {
                None => rows::loss(row, target),
                Some(false) => rows::loss_into_gradient::<0>(row, target, weight),
                Some(true) => rows::loss_into_gradient::<1>(row, target, weight),
            };
            // SAFETY: a row's loss is one task's.
            unsafe { losses.part(r, 1)[0].write(loss) };
        });
    }
}
