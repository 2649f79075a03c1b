//! Writing a configuration as a `config.json` that transformers reads.

use serde_json::{Value, json};

use super::normalizes_and_scales;
use crate::config::{DeepSeekConfig, ModelType, ScoringFunc, TopkMethod};

impl DeepSeekConfig {
    /// Writes DeepSeek's own form, which every version of transformers reads. `torch_dtype` names
    /// the type of the weights beside it (`float32`, `bfloat16`, `float16`).
    ///
    /// A model without routed experts is written with all layers dense. Where the model's own
    /// [`model_type`](Self::model_type) is DeepSeek's, it is written as `deepseek_v2` for softmax
    /// scores without a balance bias, else as `deepseek_v3`, Kimi-K2 too: its code is that, and
    /// every library knows that name.
    pub fn to_hugging_face_json(&self, torch_dtype: &str) -> String {
        let (model_type, architecture) = self.published_names();
        // The fields carry DeepSeek's own names; what follows is what the two forms differ in.
        let mut root =
            serde_json::to_value(self).expect("invariant: the fields are numbers, flags and names");
        for absent in ["q_lora_rank", "rope_scaling", "bos_token_id", "eos_token_id"] {
            if root.get(absent).is_none() {
                root[absent] = Value::Null;
            }
        }
        if let Some(yarn) = &self.rope_scaling {
            root["rope_scaling"]["type"] = json!("yarn");
            // Of a file with one of the two alone transformers takes neither.
            if yarn.mscale == 0.0 || (yarn.mscale_all_dim == 0.0 && yarn.mscale != 1.0) {
                root["rope_scaling"]["attention_factor"] = json!(yarn.attention_factor());
            }
        }
        let layers = self.num_hidden_layers;
        if self.n_routed_experts == 0 {
            root["first_k_dense_replace"] = json!(layers);
        }
        if self.model_type == ModelType::Glm4MoeLite {
            let kind = |layer| if self.is_moe_layer(layer) { "sparse" } else { "dense" };
            root["mlp_layer_types"] = (0..layers).map(kind).collect();
        }
        root["architectures"] = json!([architecture]);
        root["model_type"] = json!(model_type);
        root["num_key_value_heads"] = json!(self.num_attention_heads);
        root["hidden_act"] = json!("silu");
        root["attention_dropout"] = json!(0.0);
        root["ep_size"] = json!(1);
        root["seq_aux"] = json!(true);
        root["use_cache"] = json!(true);
        root["torch_dtype"] = json!(torch_dtype);
        format!("{root:#}\n")
    }

    /// `model_type` and the class of transformers that computes it.
    fn published_names(&self) -> (&'static str, &'static str) {
        let v2 = self.scoring_func == ScoringFunc::Softmax
            && self.topk_method != TopkMethod::NoauxTc
            && !normalizes_and_scales(self.norm_topk_prob, self.routed_scaling_factor);
        match self.model_type {
            ModelType::Glm4MoeLite => ("glm4_moe_lite", "Glm4MoeLiteForCausalLM"),
            ModelType::DeepSeek if v2 => ("deepseek_v2", "DeepseekV2ForCausalLM"),
            ModelType::DeepSeek => ("deepseek_v3", "DeepseekV3ForCausalLM"),
        }
    }
}
