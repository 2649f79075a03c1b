//! Weight gradients that are computed later: the W half of a backward pass that is split in two (3.2.1).

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::DispatchTensor;
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

/// A queue of weight gradients. A backward pass leaves in it, for each linear, the quantized input and output gradient; what takes
/// them out computes the same bits that the backward pass would have.
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

    /// Computes every product that waits, in the order in which they came, and adds it to the gradient of its parameter.
    pub fn compute(&self, grads: &mut GradientsParams) {
        let entries = std::mem::take(&mut *self.entries());
        for Entry { param, rank, work } in entries {
            let gradient = work();
            match rank {
                3 => add::<3>(grads, param, Tensor::from_dispatch(gradient)),
                _ => add::<2>(grads, param, Tensor::from_dispatch(gradient)),
            }
        }
    }

    pub(super) fn push(&self, param: ParamId, rank: usize, work: impl FnOnce() -> DispatchTensor + Send + 'static) {
        self.entries().push(Entry { param, rank, work: Box::new(work) });
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add<const D: usize>(grads: &mut GradientsParams, param: ParamId, gradient: Tensor<D>) {
    let sum = match grads.remove::<D>(param) {
        Some(there) => there + gradient,
        None => gradient,
    };
    grads.register::<D>(param, sum);
}
