//! The shape of a model's routing, which a file of saved routings is bound to, and the file's
//! header.

use std::fmt;

use burn_deepseek::DeepSeekConfig;
use serde::{Deserialize, Serialize};

/// The command that saves a routing, which is the one that can replay it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MadeBy {
    /// `train --save-routing`: windows are samples of the run, and windows of its evaluations.
    Train,
    /// `eval --save-routing`: windows are those of the measured data.
    Eval,
    /// `inspect --routing-out`: the one window is the text.
    Inspect,
}

impl fmt::Display for MadeBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train --save-routing",
            Self::Eval => "eval --save-routing",
            Self::Inspect => "inspect --routing-out",
        })
    }
}

/// What of a model decides the form of its choices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingShape {
    /// Layers of the main model; those from here on are of MTP modules.
    pub hidden_layers: usize,
    /// Indices of the MoE layers, those of MTP modules last.
    pub layers: Vec<usize>,
    /// Routed experts of a layer.
    pub experts: usize,
    /// Experts a token.
    pub chosen: usize,
}

impl RoutingShape {
    /// The shape of a model.
    pub fn of(model: &DeepSeekConfig) -> Self {
        Self {
            hidden_layers: model.num_hidden_layers,
            layers: model.moe_layer_indices(),
            experts: model.n_routed_experts,
            chosen: model.num_experts_per_tok,
        }
    }

    /// Tokens that a layer sees of a window: the MTP module of depth `k` does not see the last `k`.
    pub fn tokens_of(&self, layer: usize, seq_len: usize) -> usize {
        seq_len.saturating_sub((layer + 1).saturating_sub(self.hidden_layers))
    }

    /// Numbers of a window in the first `layers` layers.
    pub(super) fn numbers(&self, layers: usize, seq_len: usize) -> u64 {
        let tokens = self.layers.iter().take(layers).map(|&layer| self.tokens_of(layer, seq_len));
        tokens.map(|tokens| tokens as u64 * self.chosen as u64).sum()
    }

    /// MoE layers that run over windows of so many tokens, with the MTP modules or without.
    pub(super) fn layers_run(&self, seq_len: usize, mtp: bool) -> usize {
        let runs = |&layer: &usize| {
            layer < self.hidden_layers || (mtp && self.tokens_of(layer, seq_len) > 0)
        };
        self.layers.iter().take_while(|layer| runs(layer)).count()
    }

    /// Bytes of an expert's number.
    pub(super) fn width(&self) -> usize {
        if self.experts <= 256 { 1 } else { 2 }
    }
}

impl fmt::Display for RoutingShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers: Vec<String> = self.layers.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{} of {} experts in layers {} of {}",
            self.chosen,
            self.experts,
            layers.join(", "),
            self.hidden_layers
        )
    }
}

/// What stands at the beginning of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub made_by: MadeBy,
    pub shape: RoutingShape,
}
