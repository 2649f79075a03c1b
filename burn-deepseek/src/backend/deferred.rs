//! Weight gradients that are computed later: the W half of a backward pass that is split in two
//! (3.2.1).

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, BackendTensor, DispatchKindConversion, DispatchTensor};
use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Computes one weight gradient, without autodiff.
type Work = Box<dyn FnOnce() -> DispatchTensor + Send>;

struct Entry {
    param: ParamId,
    rank: usize,
    work: Work,
}

/// A queue of weight gradients. A backward pass leaves in it, for each linear, its input and output
/// gradient (quantized, in FP8); what takes them out computes the same bits that the backward pass
/// would have.
#[derive(Clone, Default)]
pub struct WeightGradientQueue(Arc<Mutex<Vec<Entry>>>);

impl std::fmt::Debug for WeightGradientQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WeightGradientQueue({} waiting)", self.len())
    }
}

impl WeightGradientQueue {
    /// Products that wait.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Computes every product that waits, in the order in which they came, and adds it to the
    /// gradient of its parameter.
    pub fn compute(&self, grads: &mut GradientsParams) {
        self.compute_each(grads, |_, _, _| {});
    }

    /// [`compute`](Self::compute), one parameter after the other: when the gradient of one is
    /// complete in `grads`, `take` is told whose it is and how many dims it has. So a gradient need
    /// not wait for those of all others.
    pub fn compute_each(
        &self,
        grads: &mut GradientsParams,
        mut take: impl FnMut(ParamId, usize, &mut GradientsParams),
    ) {
        let mut left = std::mem::take(&mut *self.entries());
        while let Some(first) = left.first() {
            let (param, dims) = (first.param, first.rank);
            let (own, others): (Vec<Entry>, _) =
                left.into_iter().partition(|entry| entry.param == param);
            left = others;
            for Entry { work, .. } in own {
                let gradient = work();
                match dims {
                    3 => add::<3>(grads, param, Tensor::from_dispatch(gradient)),
                    _ => add::<2>(grads, param, Tensor::from_dispatch(gradient)),
                }
            }
            take(param, dims, grads);
        }
    }

    fn push(&self, entry: Entry) {
        self.entries().push(entry);
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A parameter whose gradient is computed later.
#[derive(Clone, Debug)]
pub struct DeferredWeight {
    /// Whose gradient it is.
    pub param: ParamId,
    /// Where the work is put.
    pub queue: WeightGradientQueue,
}

impl DeferredWeight {
    /// Leaves the product that gives a gradient, without autodiff.
    pub(crate) fn push_tensor<const D: usize>(
        &self,
        product: impl FnOnce() -> Tensor<D> + Send + 'static,
    ) {
        let work = Box::new(move || product().into_dispatch());
        self.queue.push(Entry { param: self.param, rank: D, work });
    }

    /// Leaves the product that gives a gradient of `rank` dims.
    pub(super) fn push<B: Backend>(
        self,
        rank: usize,
        product: impl FnOnce() -> FloatTensor<B> + Send + 'static,
    ) where
        DispatchTensor: DispatchKindConversion<B>,
    {
        let work = Box::new(move || DispatchTensor::from_backend(BackendTensor::Float(product())));
        self.queue.push(Entry { param: self.param, rank, work });
    }
}

fn add<const D: usize>(grads: &mut GradientsParams, param: ParamId, gradient: Tensor<D>) {
    let sum = match grads.remove::<D>(param) {
        Some(there) => there + gradient,
        None => gradient,
    };
    grads.register::<D>(param, sum);
}
