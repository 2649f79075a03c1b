//! One transformer layer: attention and a dense or MoE feed-forward part, each behind a norm and a
//! residual.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::attention::{LatentCache, MultiHeadLatentAttention};
use crate::moe::{MixtureOfExperts, Router};
use crate::{DeepSeekConfig, Mlp, Pass, RmsNorm, WeightInit, ops};

/// The feed-forward part of a layer.
#[derive(Module, Debug)]
// A model has few layers, and a box would show in the paths of parameters.
#[allow(clippy::large_enum_variant)]
pub enum FeedForward {
    /// One SwiGLU.
    Dense(Mlp),
    /// Router, routed experts, shared experts.
    Moe(MixtureOfExperts),
}

/// `h = x + attention(norm(x)); y = h + feed_forward(norm(h))`.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm before attention.
    pub input_layernorm: RmsNorm,
    /// MLA.
    pub self_attn: MultiHeadLatentAttention,
    /// Norm before the feed-forward part.
    pub post_attention_layernorm: RmsNorm,
    /// Dense or MoE.
    pub mlp: FeedForward,
    /// Index of the layer; MTP module `k` (from 0) is `num_hidden_layers + k`.
    pub layer: usize,
}

impl Block {
    /// Layer number `layer`.
    pub fn new(config: &DeepSeekConfig, layer: usize, init: &mut WeightInit) -> Self {
        let (d, eps) = (config.hidden_size, config.rms_norm_eps);
        Self {
            input_layernorm: RmsNorm::new(d, eps, init),
            self_attn: MultiHeadLatentAttention::new(config, init),
            post_attention_layernorm: RmsNorm::new(d, eps, init),
            mlp: if config.is_moe_layer(layer) {
                FeedForward::Moe(MixtureOfExperts::new(config, layer, init))
            } else {
                FeedForward::Dense(Mlp::new(d, config.intermediate_size, init))
            },
            layer,
        }
    }

    /// The router of a MoE layer.
    pub fn router(&self) -> Option<&Router> {
        match &self.mlp {
            FeedForward::Moe(moe) => Some(&moe.gate),
            FeedForward::Dense(_) => None,
        }
    }

    /// The router of a MoE layer, with the index of the layer.
    pub fn router_mut(&mut self) -> Option<(usize, &mut Router)> {
        match &mut self.mlp {
            FeedForward::Moe(moe) => Some((self.layer, &mut moe.gate)),
            FeedForward::Dense(_) => None,
        }
    }

    /// Runs the layer; with a cache, the tokens continue those that it holds.
    ///
    /// # Shapes
    ///
    /// - x, output: `[batch * seq, d]`
    pub fn forward(
        &self,
        x: Tensor<2>,
        pass: &mut Pass,
        cache: Option<&mut LatentCache>,
    ) -> Tensor<2> {
        let attended = self.self_attn.forward(self.input_layernorm.forward(x.clone()), pass, cache);
        self.feed_forward(x, attended, pass)
    }

    /// [`forward`](Self::forward) for what the last `rows` tokens of each sequence become, where
    /// nobody wants the others: of those the cache gets the latents, and nothing else is computed.
    /// From here on the pass has these tokens alone.
    ///
    /// # Shapes
    ///
    /// - x: `[batch * seq, d]`, output: `[batch * rows, d]`
    pub fn forward_last(
        &self,
        x: Tensor<2>,
        rows: usize,
        pass: &mut Pass,
        cache: &mut LatentCache,
    ) -> Tensor<2> {
        let normed = self.input_layernorm.forward(x.clone());
        let attended = self.self_attn.forward_last(normed, rows, pass, cache);
        let x = pass.last_rows(x, rows);
        pass.keep_last(rows);
        self.feed_forward(x, attended, pass)
    }

    /// What follows attention.
    fn feed_forward(&self, x: Tensor<2>, attended: Tensor<2>, pass: &mut Pass) -> Tensor<2> {
        pass.record(|| format!("layer.{}.attn_out", self.layer), &attended);
        let h = ops::residual(x, attended);

        let normed = self.post_attention_layernorm.forward(h.clone());
        let fed = match &self.mlp {
            FeedForward::Dense(mlp) => mlp.forward(normed, &pass.compute),
            FeedForward::Moe(moe) => {
                let (y, routing) = moe.forward(normed, pass);
                pass.routings.push(routing);
                y
            }
        };
        pass.record(|| format!("layer.{}.mlp_out", self.layer), &fed);
        let y = ops::residual(h, fed);
        pass.record(|| format!("layer.{}", self.layer), &y);
        y
    }
}
