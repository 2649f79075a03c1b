//! The MLA layer: low-rank queries, a shared latent for keys and values, decoupled rope (2.1.1).

use burn::module::Module;
use burn::tensor::{Tensor, assert_shape};

use super::query::LATENT_NORM_EPS;
use super::{AttentionForm, LatentCache, Query};
use crate::definition::RopeTable;
use crate::precision::Operation;
use crate::{Compute, DeepSeekConfig, Linear, Pass, RmsNorm, WeightInit, ops};

/// Up to so many queries are attended in absorbed form where there are more keys.
const ABSORBED_UP_TO: usize = 8;

/// Multi-head Latent Attention.
///
/// `q = q_b(norm(q_a(x)))`, per head `[q_nope | q_rope]`; `[c_kv | k_rope] = kv_a(x)`; per head
/// `[k_nope | v] = kv_b(norm(c_kv))`; `k_rope` is one head shared by all. Scores over
/// `[nope | rope]`, scaled by `(nope + rope)^-1/2` (times YaRN's factor).
#[derive(Module, Debug)]
pub struct MultiHeadLatentAttention {
    /// `d -> heads * (nope + rope)`, by way of a latent where `q_lora_rank` is given.
    pub query: Query,
    /// `d -> kv_lora_rank + rope`.
    pub kv_a_proj_with_mqa: Linear,
    /// Norm of the key-value latent.
    pub kv_a_layernorm: RmsNorm,
    /// `kv_lora_rank -> heads * (nope + v)`.
    pub kv_b_proj: Linear,
    /// `heads * v -> d`.
    pub o_proj: Linear,
    heads: usize,
    nope_dim: usize,
    v_dim: usize,
    softmax_scale: f64,
}

impl MultiHeadLatentAttention {
    /// A new layer.
    pub fn new(config: &DeepSeekConfig, init: &mut WeightInit) -> Self {
        let d = config.hidden_size;
        let heads = config.num_attention_heads;
        let bias = config.attention_bias;
        Self {
            query: Query::new(config, init),
            kv_a_proj_with_mqa: Linear::new(
                d,
                config.kv_lora_rank + config.qk_rope_head_dim,
                bias,
                init,
            ),
            kv_a_layernorm: RmsNorm::new(config.kv_lora_rank, LATENT_NORM_EPS, init),
            kv_b_proj: Linear::new(
                config.kv_lora_rank,
                heads * (config.qk_nope_head_dim + config.v_head_dim),
                false,
                init,
            ),
            o_proj: Linear::new(heads * config.v_head_dim, d, bias, init),
            heads,
            nope_dim: config.qk_nope_head_dim,
            v_dim: config.v_head_dim,
            softmax_scale: config.softmax_scale(),
        }
    }

    /// Causal attention over the given tokens and those in the cache.
    ///
    /// # Shapes
    ///
    /// - x, output: `[batch * seq, d]`, the positions of `pass`
    pub fn forward(&self, x: Tensor<2>, pass: &Pass, cache: Option<&mut LatentCache>) -> Tensor<2> {
        let (q, kv_a) = self.query.forward_with(x, &self.kv_a_proj_with_mqa, &pass.compute);
        self.attend(q, &pass.rope, kv_a, pass, cache)
    }

    /// [`forward`](Self::forward) for the last `rows` tokens of each sequence alone; the cache gets
    /// all of them.
    ///
    /// # Shapes
    ///
    /// - x: `[batch * seq, d]`, the positions of `pass`
    /// - output: `[batch * rows, d]`
    pub fn forward_last(
        &self,
        x: Tensor<2>,
        rows: usize,
        pass: &Pass,
        cache: &mut LatentCache,
    ) -> Tensor<2> {
        let last = pass.last_rows(x.clone(), rows);
        let kv_a = pass.compute.linear(Operation::KeyValueDown, x, &self.kv_a_proj_with_mqa);
        let q = self.query.forward(last, &pass.compute);
        self.attend(q, &pass.rope.last(rows), kv_a, pass, Some(cache))
    }

    /// Attention of queries at the positions of `rope`, the last of `pass`.
    ///
    /// # Shapes
    ///
    /// - q: `[batch * queries, heads * (nope + rope)]`
    /// - kv_a: `[batch * seq, kv_lora_rank + rope]`, of all positions of `pass`
    /// - output: `[batch * queries, d]`
    fn attend(
        &self,
        q: Tensor<2>,
        rope: &RopeTable,
        kv_a: Tensor<2>,
        pass: &Pass,
        cache: Option<&mut LatentCache>,
    ) -> Tensor<2> {
        let [batch, seq] = pass.shape(&kv_a);
        let (queries, compute) = (rope.len(), &pass.compute);
        let rope_dim = rope.rope_dim();
        let rank = self.kv_a_layernorm.weight.shape()[0];

        let q = ops::rope(q.reshape([batch, queries, self.heads, self.nope_dim + rope_dim]), rope);
        assert_shape!(kv_a, [batch * seq, rank + rope_dim]);
        let latents = self.kv_a_layernorm.forward(kv_a.clone().narrow(1, 0, rank));
        let k_rope = kv_a.narrow(1, rank, rope_dim).reshape([batch, seq, 1, rope_dim]);
        let k_rope = ops::rope(k_rope, &pass.rope).reshape([batch, seq, rope_dim]);

        let out = match cache {
            None => self.expanded(q, latents, k_rope, compute),
            Some(cache) => {
                let (latents, k_rope) = cache.append(latents.reshape([batch, seq, rank]), k_rope);
                let keys = latents.dims()[1];
                let absorbed = match cache.form {
                    AttentionForm::Expanded => false,
                    AttentionForm::Absorbed => true,
                    AttentionForm::Auto => queries <= ABSORBED_UP_TO && queries < keys,
                };
                if absorbed {
                    let kv_b = self.kv_b_proj.weight.val();
                    ops::mla_absorbed_attention(q, latents, k_rope, kv_b, self.softmax_scale)
                } else {
                    self.expanded(q, latents.reshape([batch * keys, rank]), k_rope, compute)
                }
            }
        };
        compute.linear(
            Operation::AttentionOutput,
            out.reshape([batch * queries, self.heads * self.v_dim]),
            &self.o_proj,
        )
    }

    /// `kv_b` makes keys and values of every head from the latents, `[batch * keys, rank]`.
    fn expanded(
        &self,
        q: Tensor<4>,
        latents: Tensor<2>,
        k_rope: Tensor<3>,
        compute: &Compute,
    ) -> Tensor<4> {
        let [batch, keys, _] = k_rope.dims();
        let kv = compute.linear(Operation::KeyValueUp, latents, &self.kv_b_proj);
        let kv = kv.reshape([batch, keys, self.heads, self.nope_dim + self.v_dim]);
        ops::mla_attention(
            q,
            kv,
            k_rope,
            self.softmax_scale,
            compute.plain_format(Operation::Attention),
        )
    }
}
