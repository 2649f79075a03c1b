//! What if: the changes that can be asked for, as they are written.

use burn_deepseek::routing::{BiasDelta, RoutingChange};
use serde::{Deserialize, Serialize};

use crate::config::Format;

/// One expert of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertOf {
    /// Index of the layer; MTP modules follow the main model's layers.
    pub layer: usize,
    /// The expert.
    pub expert: usize,
}

/// What is added to the bias of an expert.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BiasMove {
    /// Index of the layer; MTP modules follow the main model's layers.
    pub layer: usize,
    /// The expert.
    pub expert: usize,
    /// What is added.
    pub delta: f32,
}

/// What is to be other than the checkpoint has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WhatIf {
    /// Experts that are switched off.
    pub disabled: Vec<ExpertOf>,
    /// Biases that are moved.
    pub bias: Vec<BiasMove>,
    /// Groups that a token may choose from.
    pub topk_group: Option<usize>,
    /// What the linears compute in.
    pub format: Option<Format>,
}

impl WhatIf {
    /// Whether nothing is to be other.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What of it is for the routers.
    pub fn change(&self) -> RoutingChange {
        let moved =
            |&BiasMove { layer, expert, delta }: &BiasMove| BiasDelta { layer, expert, delta };
        RoutingChange {
            disabled: self.disabled.iter().map(|of| (of.layer, of.expert)).collect(),
            bias: self.bias.iter().map(moved).collect(),
            kept_groups: self.topk_group,
        }
    }
}
