//! The query of MLA: projected directly, or by way of a latent of its own (2.1.1).

use burn::module::Module;
use burn::tensor::Tensor;

use crate::precision::Operation;
use crate::{Compute, DeepSeekConfig, Linear, RmsNorm, WeightInit};

/// Epsilon of the norms of both latents, whatever `rms_norm_eps` says.
pub(super) const LATENT_NORM_EPS: f64 = 1e-6;

/// How a layer makes its queries, `[rows, heads * (nope + rope)]`.
#[derive(Module, Debug)]
// A model has few layers, and a box would show in the paths of parameters.
#[allow(clippy::large_enum_variant)]
pub enum Query {
    /// `q_proj(x)`, where `q_lora_rank` is absent: `d -> heads * (nope + rope)`.
    Direct(Linear),
    /// `q_b(norm(q_a(x)))`.
    Latent(QueryLatent),
}

/// A query of low rank.
#[derive(Module, Debug)]
pub struct QueryLatent {
    /// `d -> q_lora_rank`.
    pub q_a_proj: Linear,
    /// Norm of the query latent.
    pub q_a_layernorm: RmsNorm,
    /// `q_lora_rank -> heads * (nope + rope)`.
    pub q_b_proj: Linear,
}

impl Query {
    /// The query of a new layer.
    pub fn new(config: &DeepSeekConfig, init: &mut WeightInit) -> Self {
        let d = config.hidden_size;
        let width = config.num_attention_heads * config.qk_head_dim();
        match config.q_lora_rank {
            None => Self::Direct(Linear::new(d, width, false, init)),
            Some(rank) => Self::Latent(QueryLatent {
                q_a_proj: Linear::new(d, rank, config.attention_bias, init),
                q_a_layernorm: RmsNorm::new(rank, LATENT_NORM_EPS, init),
                q_b_proj: Linear::new(rank, width, false, init),
            }),
        }
    }

    /// Queries.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, d]`, output: `[rows, heads * (nope + rope)]`
    pub fn forward(&self, x: Tensor<2>, compute: &Compute) -> Tensor<2> {
        match self {
            Self::Direct(q_proj) => compute.linear(Operation::QueryDown, x, q_proj),
            Self::Latent(latent) => {
                let q_a = compute.linear(Operation::QueryDown, x, &latent.q_a_proj);
                latent.up(q_a, compute)
            }
        }
    }

    /// Queries, and what `kv_a` makes of the same input, which is quantized once for both.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, d]`; kv_a: `d -> kv_width`
    /// - output: `[rows, heads * (nope + rope)]` and `[rows, kv_width]`
    pub fn forward_with(
        &self,
        x: Tensor<2>,
        kv_a: &Linear,
        compute: &Compute,
    ) -> (Tensor<2>, Tensor<2>) {
        let operations = [Operation::QueryDown, Operation::KeyValueDown];
        match self {
            Self::Direct(q_proj) => compute.linears(operations, x, [q_proj, kv_a]).into(),
            Self::Latent(latent) => {
                let [q_a, kv] = compute.linears(operations, x, [&latent.q_a_proj, kv_a]);
                (latent.up(q_a, compute), kv)
            }
        }
    }
}

impl QueryLatent {
    /// Queries of latents, `[rows, q_lora_rank]`.
    fn up(&self, q_a: Tensor<2>, compute: &Compute) -> Tensor<2> {
        compute.linear(Operation::QueryUp, self.q_a_layernorm.forward(q_a), &self.q_b_proj)
    }
}
