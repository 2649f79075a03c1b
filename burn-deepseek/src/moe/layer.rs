//! A MoE layer: every token goes to its routed experts and to the shared ones (2.1.2).

use burn::module::Module;
use burn::tensor::{Tensor, assert_shape};

use super::Router;
use crate::definition::ExpertGroups;
use crate::{Compute, DeepSeekConfig, LayerRouting, Mlp, Pass, Weight, WeightInit, ops};

/// The routed experts of a layer, their weights stacked so that one grouped product serves all.
#[derive(Module, Debug)]
pub struct Experts {
    /// Gate and up projections, `[experts, 2 * inter, d]`, gate first.
    pub gate_up: Weight<3>,
    /// Down projections, `[experts, d, inter]`.
    pub down: Weight<3>,
}

impl Experts {
    /// Runs each expert on its own rows.
    ///
    /// # Shapes
    ///
    /// - x, output: `[rows, d]`, sorted by expert as `groups` says
    pub fn forward(&self, x: Tensor<2>, groups: &ExpertGroups, compute: &Compute) -> Tensor<2> {
        compute.experts(x, &self.gate_up, &self.down, groups)
    }
}

/// Router, routed experts and shared experts.
#[derive(Module, Debug)]
pub struct MixtureOfExperts {
    /// Chooses the experts.
    pub gate: Router,
    /// The routed experts.
    pub experts: Experts,
    /// The shared experts as one SwiGLU of their widths' sum; every token passes through it.
    pub shared_experts: Option<Mlp>,
}

impl MixtureOfExperts {
    /// The MoE part of layer `layer`.
    pub fn new(config: &DeepSeekConfig, layer: usize, init: &mut WeightInit) -> Self {
        let (d, inter, experts) =
            (config.hidden_size, config.moe_intermediate_size, config.n_routed_experts);
        Self {
            gate: Router::new(config, layer, init),
            experts: Experts {
                gate_up: init.experts([experts, 2 * inter, d]).into(),
                down: init.experts([experts, d, inter]).into(),
            },
            shared_experts: (config.n_shared_experts > 0)
                .then(|| Mlp::new(d, inter * config.n_shared_experts, init)),
        }
    }

    /// Routes and computes `y = sum of gate * expert(x) + shared(x)`; no token is dropped.
    ///
    /// # Shapes
    ///
    /// - x, output: `[batch * seq, d]`
    pub fn forward(&self, x: Tensor<2>, pass: &Pass) -> (Tensor<2>, LayerRouting) {
        let shape @ [batch, seq] = pass.shape(&x);
        assert_shape!(x, [batch * seq, _]);
        let (detailed, control) = (pass.compute.is_detailed(), pass.compute.routing());
        let routing = self.gate.forward(x.clone(), shape, detailed, control);
        let x = ops::fork(x);
        let layer = self.gate.layer();
        let Experts { gate_up, down } = &self.experts;
        let routed = pass.compute.routed_experts(
            x.clone(),
            routing.weights.clone(),
            [gate_up, down],
            &routing.groups,
            layer,
        );
        let y = match &self.shared_experts {
            Some(shared) => ops::residual(routed, shared.forward(x, &pass.compute)),
            None => routed,
        };
        (y, routing)
    }
}
