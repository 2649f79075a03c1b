//! Parameters and gradients of a module as flat tensors, by parameter, and back in the shapes that
//! they have in the module.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn_deepseek::with_value;

/// Parameters of a module, in its order; none of them is made for that.
pub(super) fn parameters_in_order<M: Module>(module: &M) -> Vec<ParamId> {
    struct Order(Vec<ParamId>);
    impl ModuleVisitor for Order {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.id);
        }
    }
    let mut order = Order(Vec::new());
    module.visit(&mut order);
    order.0
}

/// The values of a module's parameters, flat.
pub(super) fn flat_values<M: Module>(module: &M) -> HashMap<ParamId, Tensor<1>> {
    struct Flat(HashMap<ParamId, Tensor<1>>);
    impl ModuleVisitor for Flat {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let count = value.shape().num_elements();
            self.0.insert(param.id, value.reshape([count]));
        }
    }
    let mut flat = Flat(HashMap::new());
    module.visit(&mut flat);
    flat.0
}

/// The gradients of a module's parameters, flat.
pub(super) fn flat_gradients<M: Module>(
    module: &M,
    grads: GradientsParams,
) -> HashMap<ParamId, Tensor<1>> {
    struct Flattened {
        grads: GradientsParams,
        flat: HashMap<ParamId, Tensor<1>>,
    }
    impl ModuleVisitor for Flattened {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.grads.remove::<D>(param.id) {
                let count = gradient.shape().num_elements();
                self.flat.insert(param.id, gradient.reshape([count]));
            }
        }
    }
    let mut flattened = Flattened { grads, flat: HashMap::new() };
    module.visit(&mut flattened);
    flattened.flat
}

/// Flat gradients in the shapes of a module's parameters.
pub(super) fn shaped_gradients<M: Module>(
    module: &M,
    flat: HashMap<ParamId, Tensor<1>>,
) -> GradientsParams {
    struct Shaped {
        flat: HashMap<ParamId, Tensor<1>>,
        grads: GradientsParams,
    }
    impl ModuleVisitor for Shaped {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.flat.remove(&param.id) {
                self.grads.register::<D>(param.id, gradient.reshape(param.val().dims()));
            }
        }
    }
    let mut shaped = Shaped { flat, grads: GradientsParams::new() };
    module.visit(&mut shaped);
    shaped.grads
}

/// A module with new values, given flat, for some of its parameters.
pub(super) fn replaced<M: Module>(module: M, values: HashMap<ParamId, Tensor<1>>) -> M {
    struct Replaced(HashMap<ParamId, Tensor<1>>);
    impl ModuleMapper for Replaced {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.0.remove(&param.id) {
                Some(value) => with_value(param, value),
                None => param,
            }
        }
    }
    module.map(&mut Replaced(values))
}
