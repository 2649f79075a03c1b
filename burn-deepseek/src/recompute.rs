//! Recomputation in backward: Burn's gradient checkpointing switched on for a model (3.2.3).

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{GradientCheckpointingStrategy, Tensor};

/// The module with gradient checkpointing on: RMSNorms, MLA up-projections and SwiGLU are computed
/// again in backward, not kept.
///
/// For a module on an autodiff device. What goes through it must come from the same device with
/// [`gradient_checkpointing`](burn::tensor::Device::gradient_checkpointing).
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
