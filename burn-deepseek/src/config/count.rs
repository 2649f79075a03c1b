//! How many parameters a configuration has, and what its cache costs, without allocating any of
//! them.

use serde::Serialize;

use super::DeepSeekConfig;

/// Parameters by what they are for. The balance bias of a `noaux_tc` router counts as a parameter
/// of the router, as it does in DeepSeek's checkpoints: `total` is then 671,026,419,200 for
/// DeepSeek-V3 (report, 4.2: "671B").
///
/// Counts beyond `u64` saturate; [`DeepSeekConfig::validate`] refuses such a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ParameterCounts {
    /// Token embedding.
    pub embedding: u64,
    /// Output head; 0 where it is the embedding.
    pub head: u64,
    /// Projections of the attention, their biases included.
    pub attention: u64,
    /// Dense SwiGLU layers.
    pub dense: u64,
    /// Routed experts, all of them.
    pub routed: u64,
    /// Shared experts.
    pub shared: u64,
    /// Router weights and balance biases.
    pub router: u64,
    /// RMSNorms: two a layer, the latent ones, the last one.
    pub norms: u64,
    /// The MTP modules' own (embedding and head are the main model's): projection, norms and block.
    pub mtp: u64,
    /// The main model: all of the above but `mtp`.
    pub total: u64,
    /// What one token passes through in the main model: `total` without the routed experts it does
    /// not visit.
    pub active: u64,
}

impl ParameterCounts {
    /// The main model and its MTP modules: what is trained, stored and optimized.
    pub fn total_with_mtp(&self) -> u64 {
        self.total.saturating_add(self.mtp)
    }
}

/// Parameters of one layer or MTP module, by how a run over several ranks treats them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LayerParameters {
    /// Linears that every token passes, their biases included: what FP8 quantizes, and every rank
    /// of a stage holds.
    pub linears: u64,
    /// Routed experts, all of them: quantized too, and shared between ranks.
    pub routed: u64,
    /// Router and norms.
    pub plain: u64,
}

impl DeepSeekConfig {
    /// Parameters of layer `layer`; those of MTP module k, embedding and head apart, at
    /// `num_hidden_layers + k`.
    pub fn layer_parameters(&self, layer: usize) -> LayerParameters {
        let (counts, d) = (LayerCounts::of(self), self.hidden_size);
        let moe = self.is_moe_layer(layer);
        let mut parameters = LayerParameters {
            linears: counts.attention.saturating_add(if moe {
                counts.shared
            } else {
                counts.dense
            }),
            routed: if moe { counts.routed } else { 0 },
            plain: counts.norms.saturating_add(if moe { counts.router } else { 0 }),
        };
        if layer >= self.num_hidden_layers {
            parameters.linears = parameters.linears.saturating_add(product(&[2, d, d]));
            parameters.plain = parameters.plain.saturating_add(product(&[3, d]));
        }
        parameters
    }

    /// Counts the parameters of this configuration; see [`ParameterCounts`].
    pub fn parameter_counts(&self) -> ParameterCounts {
        let d = self.hidden_size;
        let layers = self.num_hidden_layers;
        let moe_layers = self.moe_layers();
        let moe_modules = self.moe_mtp_modules();
        let layer = LayerCounts::of(self);

        let embedding = product(&[self.vocab_size, d]);
        let head = if self.tie_word_embeddings { 0 } else { embedding };
        let attention = times(layers, layer.attention);
        let dense = times(layers - moe_layers, layer.dense);
        let routed = times(moe_layers, layer.routed);
        let shared = times(moe_layers, layer.shared);
        let router = times(moe_layers, layer.router);
        let norms = times(layers, layer.norms).saturating_add(product(&[d]));
        let total = sum(&[embedding, head, attention, dense, routed, shared, router, norms]);
        let visited = times(moe_layers, layer.routed_visited);
        ParameterCounts {
            embedding,
            head,
            attention,
            dense,
            routed,
            shared,
            router,
            norms,
            mtp: times(moe_modules, layer.mtp_module(d, true)).saturating_add(times(
                self.num_nextn_predict_layers - moe_modules,
                layer.mtp_module(d, false),
            )),
            total,
            active: total.saturating_sub(routed).saturating_add(visited),
        }
    }

    /// Bytes that one token adds to the latent KV cache:
    /// `layers * (kv_lora_rank + qk_rope_head_dim)` elements (report, 2.1.1); 70,272 in BF16 for
    /// DeepSeek-V3.
    pub fn kv_cache_bytes_per_token(&self, bytes_per_element: usize) -> u64 {
        let latent = self.kv_lora_rank.saturating_add(self.qk_rope_head_dim);
        product(&[self.num_hidden_layers, latent, bytes_per_element])
    }
}

/// Parameters of one layer, by part.
struct LayerCounts {
    attention: u64,
    norms: u64,
    dense: u64,
    routed: u64,
    routed_visited: u64,
    shared: u64,
    router: u64,
}

impl LayerCounts {
    fn of(config: &DeepSeekConfig) -> Self {
        let d = config.hidden_size;
        let heads = config.num_attention_heads;
        let qk = config.qk_head_dim();
        let kv = config.kv_lora_rank;
        let kv_a = kv.saturating_add(config.qk_rope_head_dim);
        let k_and_v = config.qk_nope_head_dim.saturating_add(config.v_head_dim);

        let query = match config.q_lora_rank {
            Some(rank) => product(&[d, rank]).saturating_add(product(&[rank, heads, qk])),
            None => product(&[d, heads, qk]),
        };
        let bias = if config.attention_bias {
            sum(&[config.q_lora_rank.unwrap_or(0) as u64, kv_a as u64, d as u64])
        } else {
            0
        };
        let attention = sum(&[
            query,
            product(&[d, kv_a]),
            product(&[kv, heads, k_and_v]),
            product(&[heads, config.v_head_dim, d]),
            bias,
        ]);
        let norms = sum(&[product(&[2, d]), config.q_lora_rank.unwrap_or(0) as u64, kv as u64]);

        let expert = product(&[3, d, config.moe_intermediate_size]);
        let balance_bias = if config.has_balance_bias() { config.n_routed_experts } else { 0 };
        Self {
            attention,
            norms,
            dense: product(&[3, d, config.intermediate_size]),
            routed: times(config.n_routed_experts, expert),
            routed_visited: times(config.num_experts_per_tok, expert),
            shared: times(config.n_shared_experts, expert),
            router: product(&[config.n_routed_experts, d]).saturating_add(balance_bias as u64),
        }
    }

    /// A block, `eh_proj` of 2d x d, and the norms of embedding, hidden state and head.
    fn mtp_module(&self, d: usize, moe: bool) -> u64 {
        let mlp = if moe { sum(&[self.routed, self.shared, self.router]) } else { self.dense };
        sum(&[self.attention, self.norms, mlp, product(&[2, d, d]), product(&[3, d])])
    }
}

fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |product: u64, &size| product.saturating_mul(size as u64))
}

fn times(count: usize, each: u64) -> u64 {
    (count as u64).saturating_mul(each)
}

fn sum(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |sum: u64, &part| sum.saturating_add(part))
}

#[cfg(test)]
mod tests {
    use super::super::published;

    #[test]
    fn the_report_s_counts() {
        let v3 = published::deepseek_v3().parameter_counts();
        assert_eq!(v3.total, 671_026_419_200);
        assert_eq!(v3.active, 37_552_297_472);
        assert_eq!(v3.mtp, 11_610_068_224);
        assert_eq!(v3.total_with_mtp(), 671_026_419_200 + 11_610_068_224);

        let v2 = published::deepseek_v2().parameter_counts();
        assert_eq!(v2.total, 235_741_434_880);
        assert_eq!(v2.active, 21_375_800_320);
        assert_eq!(v2.mtp, 0);

        let lite = published::deepseek_v2_lite().parameter_counts();
        assert_eq!(lite.total, 15_706_484_224);
        assert_eq!(lite.active, 2_661_150_208);
    }

    #[test]
    fn layers_and_ends_make_the_whole() {
        for config in
            [published::deepseek_v3(), published::deepseek_v2(), published::deepseek_v2_lite()]
        {
            let counts = config.parameter_counts();
            let sum_of = |layers: std::ops::Range<usize>| -> u64 {
                layers
                    .map(|layer| config.layer_parameters(layer))
                    .map(|part| part.linears + part.routed + part.plain)
                    .sum()
            };
            let (layers, modules) = (config.num_hidden_layers, config.num_nextn_predict_layers);
            let ends = counts.embedding + counts.head + config.hidden_size as u64;
            assert_eq!(sum_of(0..layers) + ends, counts.total);
            assert_eq!(sum_of(layers..layers + modules), counts.mtp);
        }
    }

    #[test]
    fn the_cache_of_deepseek_v3_takes_70272_bytes_a_token() {
        assert_eq!(published::deepseek_v3().kv_cache_bytes_per_token(2), 70_272);
    }

    #[test]
    fn a_tied_head_is_counted_once() {
        let mut config = published::deepseek_v3();
        config.tie_word_embeddings = true;
        assert_eq!(config.parameter_counts().total, 671_026_419_200 - 129_280 * 7168);
    }

    #[test]
    fn biases_are_on_q_a_kv_a_and_o() {
        let mut config = published::deepseek_v3();
        config.attention_bias = true;
        assert_eq!(config.parameter_counts().total, 671_026_419_200 + 61 * (1536 + 576 + 7168));
        let mut lite = published::deepseek_v2_lite();
        lite.attention_bias = true;
        assert_eq!(lite.parameter_counts().total, 15_706_484_224 + 27 * (576 + 2048));
    }

    #[test]
    fn absurd_sizes_saturate_instead_of_overflowing() {
        let mut config = published::deepseek_v3();
        config.hidden_size = usize::MAX;
        config.kv_lora_rank = usize::MAX;
        config.n_routed_experts = usize::MAX;
        assert_eq!(config.parameter_counts().total, u64::MAX);
        assert!(config.kv_cache_bytes_per_token(2) == u64::MAX);
    }
}
