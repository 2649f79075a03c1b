//! The model types of `config.json`: what each one's own code makes of a key that the file leaves
//! out, and what those of other architectures have that is missing here.

use crate::config::{ScoringFunc, TopkMethod};

/// The model types that are read, for messages.
pub(super) const READ: &str = "deepseek_v3, deepseek_v2, kimi_k2, glm4_moe_lite";

/// A model type that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// DeepSeek-V3, and Moonlight, which is published under the same name.
    DeepseekV3,
    /// DeepSeek-V2 and V2-Lite.
    DeepseekV2,
    /// Kimi-K2: DeepSeek-V3's code under another name.
    KimiK2,
    /// GLM-4.7-Flash.
    Glm4MoeLite,
}

impl Type {
    /// The type called `name`, if it is one that is read.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "deepseek_v3" => Self::DeepseekV3,
            "deepseek_v2" => Self::DeepseekV2,
            "kimi_k2" => Self::KimiK2,
            "glm4_moe_lite" => Self::Glm4MoeLite,
            _ => return None,
        })
    }

    /// What its keys are where the file leaves them out.
    pub(super) fn defaults(self) -> &'static Defaults {
        match self {
            Self::DeepseekV3 | Self::KimiK2 => &DEEPSEEK_V3,
            Self::DeepseekV2 => &DEEPSEEK_V2,
            Self::Glm4MoeLite => &GLM4_MOE_LITE,
        }
    }

    /// The name by which its code also knows `n_routed_experts`.
    pub(super) fn other_name_of_experts(self) -> &'static str {
        match self {
            Self::DeepseekV2 => "num_experts",
            Self::DeepseekV3 | Self::KimiK2 | Self::Glm4MoeLite => "num_local_experts",
        }
    }
}

/// The values of keys that are left out. `None` is a key without one, or one without a number.
pub(super) struct Defaults {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) moe_intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) n_shared_experts: usize,
    pub(super) n_routed_experts: usize,
    /// Without it the file must say it.
    pub(super) num_experts_per_tok: Option<usize>,
    pub(super) n_group: Option<usize>,
    pub(super) topk_group: Option<usize>,
    pub(super) first_k_dense_replace: usize,
    pub(super) moe_layer_freq: usize,
    pub(super) routed_scaling_factor: f64,
    pub(super) scoring_func: ScoringFunc,
    pub(super) topk_method: TopkMethod,
    pub(super) norm_topk_prob: bool,
    pub(super) q_lora_rank: Option<usize>,
    pub(super) kv_lora_rank: usize,
    pub(super) qk_nope_head_dim: usize,
    pub(super) qk_rope_head_dim: usize,
    pub(super) v_head_dim: usize,
    pub(super) attention_bias: bool,
    pub(super) rope_theta: f64,
    pub(super) rope_interleave: bool,
    pub(super) max_position_embeddings: usize,
    pub(super) rms_norm_eps: f64,
    pub(super) initializer_range: f64,
    pub(super) tie_word_embeddings: bool,
    pub(super) num_nextn_predict_layers: usize,
    pub(super) aux_loss_alpha: f64,
    pub(super) bos_token_id: u32,
    pub(super) eos_token_id: u32,
}

const DEEPSEEK_V3: Defaults = Defaults {
    vocab_size: 129_280,
    hidden_size: 7168,
    intermediate_size: 18_432,
    moe_intermediate_size: 2048,
    num_hidden_layers: 61,
    num_attention_heads: 128,
    n_shared_experts: 1,
    n_routed_experts: 256,
    num_experts_per_tok: Some(8),
    n_group: Some(8),
    topk_group: Some(4),
    first_k_dense_replace: 3,
    moe_layer_freq: 1,
    routed_scaling_factor: 2.5,
    scoring_func: ScoringFunc::Sigmoid,
    topk_method: TopkMethod::NoauxTc,
    norm_topk_prob: true,
    q_lora_rank: Some(1536),
    kv_lora_rank: 512,
    qk_nope_head_dim: 128,
    qk_rope_head_dim: 64,
    v_head_dim: 128,
    attention_bias: false,
    rope_theta: 10_000.0,
    rope_interleave: true,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-6,
    initializer_range: 0.02,
    tie_word_embeddings: false,
    num_nextn_predict_layers: 1,
    aux_loss_alpha: 0.0,
    bos_token_id: 0,
    eos_token_id: 1,
};

const DEEPSEEK_V2: Defaults = Defaults {
    vocab_size: 102_400,
    hidden_size: 4096,
    intermediate_size: 11_008,
    moe_intermediate_size: 1407,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    n_shared_experts: 2,
    n_routed_experts: 64,
    num_experts_per_tok: None,
    n_group: None,
    topk_group: None,
    first_k_dense_replace: 0,
    routed_scaling_factor: 1.0,
    scoring_func: ScoringFunc::Softmax,
    topk_method: TopkMethod::Greedy,
    norm_topk_prob: false,
    max_position_embeddings: 2048,
    num_nextn_predict_layers: 0,
    bos_token_id: 1,
    eos_token_id: 2,
    ..DEEPSEEK_V3
};

const GLM4_MOE_LITE: Defaults = Defaults {
    vocab_size: 154_880,
    hidden_size: 2048,
    intermediate_size: 10_240,
    moe_intermediate_size: 1536,
    num_hidden_layers: 47,
    num_attention_heads: 20,
    n_routed_experts: 64,
    num_experts_per_tok: Some(4),
    n_group: Some(1),
    topk_group: Some(1),
    // `mlp_layer_types` is the key; without it the first layer alone is dense.
    first_k_dense_replace: 1,
    routed_scaling_factor: 1.8,
    q_lora_rank: Some(768),
    qk_nope_head_dim: 192,
    v_head_dim: 256,
    max_position_embeddings: 202_752,
    rms_norm_eps: 1e-5,
    num_nextn_predict_layers: 0,
    ..DEEPSEEK_V3
};

/// What model types of other architectures have that this crate does not compute.
const OTHERS: &[(&str, &str)] = &[
    ("deepseek", "its attention has keys and values a head, not a shared latent (MLA)"),
    (
        "deepseek_v32",
        "its sparse attention, in which a lightning indexer (index_topk, index_n_heads) chooses \
         the keys of each query",
    ),
    (
        "deepseek_v4",
        "its attention over compressed keys and a sliding window, its hyper-connections between \
         layers, and its router by a table of tokens",
    ),
    ("deepseek_vl_v2", "its vision encoder; the model of text is its language_config alone"),
    ("deepseek_ocr", "its vision encoder"),
    ("deepseek_ocr2", "its vision encoder"),
    ("dots1", "its attention has keys and values a head and norms on them, not MLA"),
    ("glm4_moe", "its attention has grouped keys and values, half of them rotated, not MLA"),
    (
        "glm_moe_dsa",
        "its sparse attention, in which a lightning indexer (index_topk) chooses the keys of \
         each query",
    ),
    ("kimi_linear", "its linear attention (Kimi Delta Attention)"),
    ("kimi_k25", "its vision encoder; the model of text is its text_config alone"),
    ("kimi_vl", "its vision encoder; the model of text is its text_config alone"),
    ("longcat_flash", "its layers of two attentions each, and its experts that compute nothing"),
    ("minicpm3", "its scaled embeddings and residuals"),
    (
        "qwen2_moe",
        "its attention has grouped keys and values, not MLA, and its gated shared expert",
    ),
    ("qwen3_moe", "its attention has grouped keys and values and norms on them, not MLA"),
    ("qwen3_next", "its linear attention (gated DeltaNet)"),
    ("mixtral", "its attention has grouped keys and values, not MLA"),
    ("gpt_oss", "its attention has grouped keys and values with sinks, not MLA"),
    ("llama", "its attention has grouped keys and values, not MLA"),
    ("llama4", "its attention has grouped keys and values, not MLA"),
    ("mistral", "its attention has grouped keys and values, not MLA"),
    ("qwen2", "its attention has grouped keys and values, not MLA"),
    ("qwen3", "its attention has grouped keys and values and norms on them, not MLA"),
];

/// What is missing here of the architecture called `name`, if it is known.
pub(super) fn missing_part(name: &str) -> Option<&'static str> {
    OTHERS.iter().find(|(other, _)| *other == name).map(|(_, part)| *part)
}
