//! What a DeepSeek model is: its dimensions, its router, its rope, and what follows from them.

mod activations;
mod count;
mod end_tokens;
mod hugging_face;
#[cfg(test)]
mod published;
#[cfg(test)]
mod tests;
mod validate;
mod yarn;

use serde::{Deserialize, Serialize};

pub use activations::{Keeping, KeptTensor};
pub use count::{LayerParameters, ParameterCounts};
pub use end_tokens::EndTokens;
pub use hugging_face::HuggingFaceError;
pub use validate::{ConfigProblem, ConfigProblems};
pub use yarn::YarnConfig;

/// Under whose name a model of this architecture is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelType {
    /// DeepSeek's: `config.json` says `deepseek_v2` or `deepseek_v3`, whichever has the router.
    #[default]
    #[serde(rename = "deepseek")]
    DeepSeek,
    /// GLM-4.7-Flash's, `glm4_moe_lite`: the architecture of DeepSeek-V3 in other sizes.
    Glm4MoeLite,
}

/// How the router turns logits into scores (report, 2.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoringFunc {
    /// `sigmoid(x W)`, DeepSeek-V3.
    #[default]
    Sigmoid,
    /// `softmax(x W)` over all routed experts, DeepSeek-V2.
    Softmax,
}

/// How the router chooses experts from the scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopkMethod {
    /// Scores plus the balance bias; a group's score is the sum of its two best (DeepSeek-V3,
    /// 2.1.2).
    #[default]
    NoauxTc,
    /// No bias; a group's score is its best (DeepSeek-V2).
    GroupLimitedGreedy,
    /// No bias and no groups: the `num_experts_per_tok` best of all (DeepSeek-V2-Lite).
    Greedy,
}

/// The whole of a DeepSeek-V2 or V3 model: names are those of DeepSeek's own `config.json`.
///
/// Written as TOML it may leave out what has a default (DeepSeek-V3's value, or "without" for a
/// part that is optional). An unknown key is an error.
///
/// ```
/// use burn_deepseek::DeepSeekConfig;
///
/// let dense = r#"{
///     "model_type": "deepseek_v3", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 64,
///     "num_hidden_layers": 2, "num_attention_heads": 2, "q_lora_rank": null, "kv_lora_rank": 16,
///     "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 0,
///     "max_position_embeddings": 64, "hidden_act": "silu"
/// }"#;
/// let config = DeepSeekConfig::from_hugging_face_json(dense)?;
/// assert_eq!(config.qk_head_dim(), 16);
/// // Left out, and so as DeepSeek-V3's own code has it.
/// assert_eq!(config.rms_norm_eps, 1e-6);
/// // In BF16, the latent and the rope key of two layers: what a token adds to the cache.
/// assert_eq!(config.kv_cache_bytes_per_token(2), 2 * 2 * (16 + 8));
///
/// // What this crate does not compute is refused by its key.
/// let error = DeepSeekConfig::from_hugging_face_json(&dense.replace("silu", "relu")).unwrap_err();
/// assert!(error.to_string().contains("hidden_act"));
/// # Ok::<(), burn_deepseek::config::HuggingFaceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeepSeekConfig {
    /// Whose name `config.json` gives the model.
    #[serde(default)]
    pub model_type: ModelType,
    /// Tokens in the vocabulary: rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width `d` of the residual stream.
    pub hidden_size: usize,
    /// Inner width of a dense layer's SwiGLU.
    pub intermediate_size: usize,
    /// Inner width of one expert's SwiGLU.
    #[serde(default)]
    pub moe_intermediate_size: usize,
    /// Transformer layers of the main model (MTP modules not counted).
    pub num_hidden_layers: usize,
    /// Attention heads; MLA has as many key heads.
    pub num_attention_heads: usize,
    /// Shared experts, held as one SwiGLU of `n_shared_experts * moe_intermediate_size`.
    #[serde(default)]
    pub n_shared_experts: usize,
    /// Routed experts of a MoE layer; 0 for a model without MoE.
    #[serde(default)]
    pub n_routed_experts: usize,
    /// Routed experts that a token visits.
    #[serde(default)]
    pub num_experts_per_tok: usize,
    /// Groups that the routed experts are divided into.
    #[serde(default = "one_usize")]
    pub n_group: usize,
    /// Groups that a token may choose from.
    #[serde(default = "one_usize")]
    pub topk_group: usize,
    /// First layers that are dense; all of them where it is `num_hidden_layers` or more.
    #[serde(default)]
    pub first_k_dense_replace: usize,
    /// After the dense ones, every layer whose index is a multiple of this is MoE.
    #[serde(default = "one_usize")]
    pub moe_layer_freq: usize,
    /// What the gate values are multiplied by.
    #[serde(default = "one")]
    pub routed_scaling_factor: f64,
    /// How logits become scores.
    #[serde(default)]
    pub scoring_func: ScoringFunc,
    /// How experts are chosen from the scores.
    #[serde(default)]
    pub topk_method: TopkMethod,
    /// Whether the chosen gate values are divided by their sum.
    #[serde(default = "yes")]
    pub norm_topk_prob: bool,
    /// Width of the query latent; without it the query is one projection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q_lora_rank: Option<usize>,
    /// Width of the key-value latent, the part that is cached.
    pub kv_lora_rank: usize,
    /// Query and key dimensions a head without position.
    pub qk_nope_head_dim: usize,
    /// Query and key dimensions a head that rope rotates.
    pub qk_rope_head_dim: usize,
    /// Value dimensions a head.
    pub v_head_dim: usize,
    /// Biases on `q_a`, `kv_a` and `o`.
    #[serde(default)]
    pub attention_bias: bool,
    /// Base of the rope frequencies.
    #[serde(default = "default_rope_theta")]
    pub rope_theta: f64,
    /// Rope pairs are (even, odd) when true, (first half, second half) when false.
    #[serde(default = "yes")]
    pub rope_interleave: bool,
    /// YaRN; applied whenever it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<YarnConfig>,
    /// Longest sequence in tokens.
    #[serde(default = "default_max_position_embeddings")]
    pub max_position_embeddings: usize,
    /// Epsilon of the RMSNorms; the two latent norms always use 1e-6.
    #[serde(default = "default_rms_norm_eps")]
    pub rms_norm_eps: f64,
    /// Standard deviation of the initial weights (report, 4.2: 0.006).
    #[serde(default = "default_initializer_range")]
    pub initializer_range: f64,
    /// Whether the head is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// MTP modules (report, 2.2).
    #[serde(default)]
    pub num_nextn_predict_layers: usize,
    /// Weight of the sequence-wise balance loss that the model was published with; a training run
    /// sets its own.
    #[serde(default)]
    pub aux_loss_alpha: f64,
    /// Token that begins a document. Like an end token it may be beyond a reduced vocabulary, and
    /// then never occurs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text, the one that ends a document first.
    #[serde(default, skip_serializing_if = "EndTokens::is_empty")]
    pub eos_token_id: EndTokens,
}

impl DeepSeekConfig {
    /// Whether layer `layer` (0-based) is MoE; MTP modules, at `num_hidden_layers + k`, follow the
    /// same rule.
    pub fn is_moe_layer(&self, layer: usize) -> bool {
        self.n_routed_experts > 0
            && layer >= self.first_k_dense_replace
            && layer.is_multiple_of(self.moe_layer_freq.max(1))
    }

    /// Indices of the MoE layers, those of MTP modules last.
    pub fn moe_layer_indices(&self) -> Vec<usize> {
        (0..self.num_hidden_layers + self.num_nextn_predict_layers)
            .filter(|&layer| self.is_moe_layer(layer))
            .collect()
    }

    /// MoE layers of the main model.
    pub fn moe_layers(&self) -> usize {
        self.moe_layers_below(self.num_hidden_layers)
    }

    /// MTP modules whose block is MoE.
    pub fn moe_mtp_modules(&self) -> usize {
        let end = self.num_hidden_layers.saturating_add(self.num_nextn_predict_layers);
        self.moe_layers_below(end) - self.moe_layers()
    }

    /// MoE layers among the layers `0..end`, MTP modules counted as layers.
    fn moe_layers_below(&self, end: usize) -> usize {
        if self.n_routed_experts == 0 {
            return 0;
        }
        let freq = self.moe_layer_freq.max(1);
        let dense = self.first_k_dense_replace.min(end);
        end.div_ceil(freq) - dense.div_ceil(freq)
    }

    /// Query and key dimensions a head: `qk_nope_head_dim + qk_rope_head_dim`.
    pub fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }

    /// What scores are multiplied by before the softmax: `qk_head_dim^-1/2`, times YaRN's
    /// `mscale(mscale_all_dim)^2`.
    pub fn softmax_scale(&self) -> f64 {
        let scale = (self.qk_head_dim() as f64).powf(-0.5);
        scale * self.rope_scaling.as_ref().map_or(1.0, YarnConfig::softmax_factor)
    }

    /// Routed experts of one group.
    pub fn experts_per_group(&self) -> usize {
        self.n_routed_experts / self.n_group.max(1)
    }

    /// Inner width of the shared experts together: `n_shared_experts * moe_intermediate_size`.
    pub fn shared_intermediate_size(&self) -> usize {
        self.n_shared_experts * self.moe_intermediate_size
    }

    /// Whether the router has the balance bias `e_score_correction_bias`.
    pub fn has_balance_bias(&self) -> bool {
        self.topk_method == TopkMethod::NoauxTc
    }
}

fn one() -> f64 {
    1.0
}

fn one_usize() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn default_rope_theta() -> f64 {
    10_000.0
}

fn default_max_position_embeddings() -> usize {
    4096
}

fn default_rms_norm_eps() -> f64 {
    1e-6
}

fn default_initializer_range() -> f64 {
    0.006
}
