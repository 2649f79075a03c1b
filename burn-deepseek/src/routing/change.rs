//! A choice of experts that is another than the model's own: experts switched off, biases moved,
//! more or fewer groups kept.

use std::collections::BTreeSet;

use crate::config::{DeepSeekConfig, TopkMethod};

/// What is added to the balance bias of one expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BiasDelta {
    /// Index of the layer; MTP module `k` (from 0) is `num_hidden_layers + k`.
    pub layer: usize,
    /// The expert.
    pub expert: usize,
    /// What is added.
    pub delta: f32,
}

/// How a choice of experts is changed. Gate values stay what they are: the unbiased scores of those
/// that are chosen (2.1.2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoutingChange {
    /// Experts that take no token, as layer and expert: their bias is minus infinity.
    pub disabled: BTreeSet<(usize, usize)>,
    /// What is added to biases, in this order.
    pub bias: Vec<BiasDelta>,
    /// Groups that a token may choose from, in every layer, instead of the model's `topk_group`.
    pub kept_groups: Option<usize>,
}

/// A change that a model's routers cannot make.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RoutingChangeError {
    /// A layer without a router.
    #[error("layer {layer} has no routed experts; layers that have: {}", listed(.layers))]
    NoRouter {
        /// The layer.
        layer: usize,
        /// The layers that have a router.
        layers: Vec<usize>,
    },
    /// An expert that the layers do not have.
    #[error("expert {expert} of layer {layer}: there are {experts}, 0 to {}", .experts - 1)]
    NoExpert {
        /// The layer.
        layer: usize,
        /// The expert.
        expert: usize,
        /// Experts of a layer.
        experts: usize,
    },
    /// A bias that is no number.
    #[error("expert {expert} of layer {layer}: {delta} cannot be added to its bias")]
    NotFinite {
        /// The layer.
        layer: usize,
        /// The expert.
        expert: usize,
        /// What was to be added.
        delta: f32,
    },
    /// More groups than there are, or so few that a token finds too few experts in them.
    #[error(
        "topk_group = {kept}: this model has {groups} groups of experts; take {least} to {groups}"
    )]
    Groups {
        /// Groups to be kept.
        kept: usize,
        /// Groups of the model.
        groups: usize,
        /// Groups that have enough experts for a token.
        least: usize,
    },
    /// So few experts left that one which is switched off would have to take tokens.
    #[error(
        "layer {layer}: with these experts switched off a token may find {left} of the {top_k} \
         that it needs; switch fewer off"
    )]
    TooFew {
        /// The layer.
        layer: usize,
        /// Experts left in the kept groups that have the fewest.
        left: usize,
        /// Experts a token.
        top_k: usize,
    },
}

impl RoutingChange {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.disabled.is_empty() && self.bias.is_empty() && self.kept_groups.is_none()
    }

    /// Checks that the routers of a model can choose so, and that no token needs an expert that is
    /// switched off.
    ///
    /// # Errors
    ///
    /// The layer, expert or number that does not fit.
    pub fn check(&self, model: &DeepSeekConfig) -> Result<(), RoutingChangeError> {
        let layers = model.moe_layer_indices();
        let (experts, top_k) = (model.n_routed_experts, model.num_experts_per_tok);
        let deltas = self.bias.iter().map(|delta| (delta.layer, delta.expert));
        for (layer, expert) in self.disabled.iter().copied().chain(deltas) {
            if !layers.contains(&layer) {
                return Err(RoutingChangeError::NoRouter { layer, layers });
            }
            if expert >= experts {
                return Err(RoutingChangeError::NoExpert { layer, expert, experts });
            }
        }
        if let Some(&BiasDelta { layer, expert, delta }) =
            self.bias.iter().find(|delta| !delta.delta.is_finite())
        {
            return Err(RoutingChangeError::NotFinite { layer, expert, delta });
        }
        let grouped = model.topk_method != TopkMethod::Greedy;
        let groups = if grouped { model.n_group.max(1) } else { 1 };
        let own = if grouped { model.topk_group.max(1) } else { 1 };
        let per_group = experts.checked_div(groups).unwrap_or(0);
        let kept = self.kept_groups.unwrap_or(own);
        if self.kept_groups.is_some() && (kept > groups || kept * per_group < top_k) {
            let least = top_k.div_ceil(per_group.max(1));
            return Err(RoutingChangeError::Groups { kept, groups, least });
        }
        let off: BTreeSet<usize> = self.disabled.iter().map(|(layer, _)| *layer).collect();
        for layer in off {
            let mut left = vec![per_group; groups];
            for (_, expert) in self.disabled.iter().filter(|(of, _)| *of == layer) {
                left[expert / per_group] -= 1;
            }
            left.sort_unstable();
            let left: usize = left.iter().take(kept).sum();
            if left < top_k {
                return Err(RoutingChangeError::TooFew { layer, left, top_k });
            }
        }
        Ok(())
    }

    /// Changes the bias of a layer's experts, `[experts]`.
    pub(crate) fn apply(&self, layer: usize, bias: &mut [f32]) {
        for delta in self.bias.iter().filter(|delta| delta.layer == layer) {
            bias[delta.expert] += delta.delta;
        }
        for (_, expert) in self.disabled.iter().filter(|(of, _)| *of == layer) {
            bias[*expert] = f32::NEG_INFINITY;
        }
    }
}

fn listed(layers: &[usize]) -> String {
    if layers.is_empty() {
        return "none".into();
    }
    layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
