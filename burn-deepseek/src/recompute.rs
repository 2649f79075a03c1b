//! Recomputation in backward: Burn's gradient checkpointing switched on for a device and a model
//! (3.2.3).

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, GradientCheckpointingStrategy, Tensor};

/// The device with autodiff, and with gradient checkpointing where `recompute`: where the inputs of
/// a model in training are placed.
pub fn training_device(device: &Device, recompute: bool) -> Device {
    let device = device.clone().autodiff();
    if recompute { device.gradient_checkpointing() } else { device }
}

/// The module on the autodiff form of its device, [`recomputing`] where `recompute`: what is fed
/// from [`training_device`].
pub fn in_training<M: Module>(module: M, recompute: bool) -> M {
    let module = module.train();
    if recompute { recomputing(module) } else { module }
}

/// The module with gradient checkpointing on: RMSNorms, MLA up-projections and SwiGLU are computed
/// again in backward, not kept.
///
/// For a module on an autodiff device. What goes through it must come from the same device with
/// [`gradient_checkpointing`](Device::gradient_checkpointing).
pub fn recomputing<M: Module>(module: M) -> M {
    module.map(&mut Checkpointing)
}

struct Checkpointing;

impl ModuleMapper for Checkpointing {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(
            id,
            tensor.with_gradient_checkpointing_strategy(GradientCheckpointingStrategy::Balanced),
            mapper,
        )
    }
}
