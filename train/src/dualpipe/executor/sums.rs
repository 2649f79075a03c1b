//! Gradients summed over the micro-batches of a step, each as soon as it is there.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// The sums so far.
#[derive(Default)]
pub(super) struct GradientSums(GradientsParams);

impl GradientSums {
    /// Adds what there is of a module's gradients.
    pub fn add<M: Module>(&mut self, module: &M, grads: GradientsParams) {
        struct Adding<'a> {
            sums: &'a mut GradientSums,
            grads: GradientsParams,
        }
        impl ModuleVisitor for Adding<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.sums.add_one::<D>(param.id, &mut self.grads);
            }
        }
        module.visit(&mut Adding { sums: self, grads });
    }

    /// Takes the gradient of a parameter of so many dims out of `grads`, and adds it.
    pub fn take(&mut self, param: ParamId, dims: usize, grads: &mut GradientsParams) {
        match dims {
            3 => self.add_one::<3>(param, grads),
            _ => self.add_one::<2>(param, grads),
        }
    }

    fn add_one<const D: usize>(&mut self, param: ParamId, grads: &mut GradientsParams) {
        let Some(gradient) = grads.remove::<D>(param) else { return };
        let sum = match self.0.remove::<D>(param) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.0.register::<D>(param, sum);
    }

    /// The sums of the step.
    pub fn finish(self) -> GradientsParams {
        self.0
    }
}
