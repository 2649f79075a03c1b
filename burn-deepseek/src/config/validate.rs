//! Whether a configuration is a model that can be built: every problem at once, each with its
//! field.

use std::fmt;

use super::{DeepSeekConfig, ModelType, ScoringFunc, TopkMethod, YarnConfig};

/// No size may be larger: far beyond any model, and small enough that products of a few of them
/// stay representable.
const MAX_SIZE: usize = 1 << 24;
/// Nor may there be more layers, modules of MTP among them: what is worked out about a model goes
/// through all of them, and a file of a thousand bytes may claim any number.
const MAX_LAYERS: usize = 1 << 9;
/// Nor more experts in a layer.
const MAX_EXPERTS: usize = 1 << 16;
/// No model may have more parameters.
const MAX_PARAMETERS: u64 = 1_000_000_000_000_000;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The field to change.
    pub field: &'static str,
    /// Its value, and what would be right.
    pub problem: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)
    }
}

/// Everything that is wrong with a configuration; never empty when returned as an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl DeepSeekConfig {
    /// Checks every field and every rule between fields.
    ///
    /// # Errors
    /// All problems found, each with the field, its value and what would be right.
    pub fn validate(&self) -> Result<(), ConfigProblems> {
        let mut problems = Problems::default();
        self.check_sizes(&mut problems);
        self.check_attention(&mut problems);
        if self.n_routed_experts > 0 {
            self.check_experts(&mut problems);
        }
        self.check_model_type(&mut problems);
        self.check_numbers(&mut problems);
        self.check_mtp(&mut problems);
        if problems.0.is_empty() {
            let parameters = self.parameter_counts().total_with_mtp();
            if parameters > MAX_PARAMETERS {
                problems.add(
                    "hidden_size",
                    format!(
                        "and the other sizes make {parameters} \
                                                     parameters; the most is {MAX_PARAMETERS}"
                    ),
                );
            }
        }
        if problems.0.is_empty() { Ok(()) } else { Err(ConfigProblems(problems.0)) }
    }

    fn check_sizes(&self, problems: &mut Problems) {
        problems.positive("vocab_size", self.vocab_size);
        problems.positive("hidden_size", self.hidden_size);
        problems.positive("intermediate_size", self.intermediate_size);
        problems.counted("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS);
        problems.positive("num_attention_heads", self.num_attention_heads);
        problems.positive("kv_lora_rank", self.kv_lora_rank);
        problems.positive("qk_nope_head_dim", self.qk_nope_head_dim);
        problems.positive("qk_rope_head_dim", self.qk_rope_head_dim);
        problems.positive("v_head_dim", self.v_head_dim);
        problems.positive("max_position_embeddings", self.max_position_embeddings);
        problems.positive("moe_layer_freq", self.moe_layer_freq);
        problems.at_most("moe_intermediate_size", self.moe_intermediate_size, MAX_SIZE);
        problems.at_most("num_nextn_predict_layers", self.num_nextn_predict_layers, MAX_LAYERS);
        problems.at_most("n_routed_experts", self.n_routed_experts, MAX_EXPERTS);
        problems.at_most("n_shared_experts", self.n_shared_experts, MAX_EXPERTS);
    }

    fn check_attention(&self, problems: &mut Problems) {
        if let Some(rank) = self.q_lora_rank {
            if rank == 0 {
                problems.add(
                    "q_lora_rank",
                    "= 0 is no latent; leave it out for a query without one".into(),
                );
            }
            problems.at_most("q_lora_rank", rank, MAX_SIZE);
        }
        if self.qk_rope_head_dim % 2 == 1 {
            problems.add(
                "qk_rope_head_dim",
                format!(
                    "= {} is odd; rope rotates pairs, so it must be even",
                    self.qk_rope_head_dim
                ),
            );
        }
        problems.above_zero("rope_theta", self.rope_theta);
        if let Some(yarn) = &self.rope_scaling {
            yarn.check(problems);
        }
    }

    fn check_experts(&self, problems: &mut Problems) {
        let (experts, groups, kept) = (self.n_routed_experts, self.n_group, self.topk_group);
        problems.positive("moe_intermediate_size", self.moe_intermediate_size);
        problems.positive("num_experts_per_tok", self.num_experts_per_tok);
        if groups == 0 || experts % groups != 0 {
            problems
                .add("n_group", format!("= {groups} does not divide n_routed_experts = {experts}"));
            return;
        }
        if kept == 0 || kept > groups {
            problems.add(
                "topk_group",
                format!("= {kept} must be at least 1 and at most n_group = {groups}"),
            );
            return;
        }
        if self.topk_method == TopkMethod::Greedy && groups > 1 {
            problems.add(
                "n_group",
                format!(
                    "= {groups}, but topk_method = \"greedy\" knows no groups; n_group must be 1"
                ),
            );
        }
        let per_group = self.experts_per_group();
        let selectable = kept * per_group;
        if self.num_experts_per_tok > selectable {
            problems.add(
                "num_experts_per_tok",
                format!(
                    "= {} is more than the {selectable} experts of the {kept} kept group(s) of \
                     {per_group} (topk_group, n_group, n_routed_experts)",
                    self.num_experts_per_tok
                ),
            );
        }
        if self.topk_method == TopkMethod::NoauxTc && groups > 1 && per_group < 2 {
            problems.add(
                "n_group",
                format!(
                    "= {groups} leaves {per_group} expert a group; noaux_tc scores a group by \
                         its two best, so a group needs 2"
                ),
            );
        }
    }

    fn check_model_type(&self, problems: &mut Problems) {
        let of_glm = self.scoring_func == ScoringFunc::Sigmoid
            && self.topk_method == TopkMethod::NoauxTc
            && self.moe_layer_freq == 1;
        if self.model_type == ModelType::Glm4MoeLite && !of_glm {
            problems.add(
                "model_type",
                "= \"glm4_moe_lite\" is sigmoid scores, noaux_tc and a moe_layer_freq of 1; for \
                 another router it must be \"deepseek\""
                    .into(),
            );
        }
    }

    fn check_numbers(&self, problems: &mut Problems) {
        problems.above_zero("routed_scaling_factor", self.routed_scaling_factor);
        problems.above_zero("rms_norm_eps", self.rms_norm_eps);
        problems.not_negative("initializer_range", self.initializer_range);
        problems.not_negative("aux_loss_alpha", self.aux_loss_alpha);
    }

    fn check_mtp(&self, problems: &mut Problems) {
        let depth = self.num_nextn_predict_layers;
        if depth == 0 {
            return;
        }
        if self.vocab_size == 0 {
            problems.add(
                "num_nextn_predict_layers",
                format!(
                    "= {depth} predicts tokens, but vocab_size is 0; a depth needs a vocabulary"
                ),
            );
        }
        if depth.saturating_add(1) >= self.max_position_embeddings {
            problems.add(
                "num_nextn_predict_layers",
                format!(
                    "= {depth} looks past a sequence of max_position_embeddings = {}; it must be \
                     at most two less",
                    self.max_position_embeddings
                ),
            );
        }
    }
}

impl YarnConfig {
    fn check(&self, problems: &mut Problems) {
        if !(self.factor.is_finite() && self.factor >= 1.0) {
            problems.add(
                "rope_scaling.factor",
                format!("= {} must be at least 1 (1 stretches nothing)", self.factor),
            );
        }
        problems.positive(
            "rope_scaling.original_max_position_embeddings",
            self.original_max_position_embeddings,
        );
        problems.above_zero("rope_scaling.beta_slow", self.beta_slow);
        // Equal ones, as Kimi-K2 has them, are a ramp of no width.
        if !(self.beta_fast.is_finite() && self.beta_fast >= self.beta_slow) {
            problems.add(
                "rope_scaling.beta_fast",
                format!(
                    "= {} must be at least rope_scaling.beta_slow = {}",
                    self.beta_fast, self.beta_slow
                ),
            );
        }
        problems.not_negative("rope_scaling.mscale", self.mscale);
        problems.not_negative("rope_scaling.mscale_all_dim", self.mscale_all_dim);
        if let Some(factor) = self.attention_factor {
            problems.above_zero("rope_scaling.attention_factor", factor);
        }
    }
}

/// The problems found so far.
#[derive(Default)]
struct Problems(Vec<ConfigProblem>);

impl Problems {
    fn add(&mut self, field: &'static str, problem: String) {
        self.0.push(ConfigProblem { field, problem });
    }

    fn positive(&mut self, field: &'static str, size: usize) {
        self.counted(field, size, MAX_SIZE);
    }

    fn counted(&mut self, field: &'static str, size: usize, most: usize) {
        if size == 0 {
            self.add(field, "= 0 must be at least 1".into());
        }
        self.at_most(field, size, most);
    }

    fn at_most(&mut self, field: &'static str, size: usize, most: usize) {
        if size > most {
            self.add(field, format!("= {size} is too large; the most is {most}"));
        }
    }

    fn above_zero(&mut self, field: &'static str, number: f64) {
        if !(number.is_finite() && number > 0.0) {
            self.add(field, format!("= {number} must be a number above 0"));
        }
    }

    fn not_negative(&mut self, field: &'static str, number: f64) {
        if !(number.is_finite() && number >= 0.0) {
            self.add(field, format!("= {number} must be a number of at least 0"));
        }
    }
}
