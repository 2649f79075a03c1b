//! Writing a configuration as a `config.json` that transformers reads.

use serde_json::{Value, json};

use super::normalizes_and_scales;
use crate::config::{DeepSeekConfig, ScoringFunc, TopkMethod};

impl DeepSeekConfig {
    /// Writes DeepSeek's own form, which every version of transformers reads. `torch_dtype` names
    /// the type of the weights beside it (`float32`, `bfloat16`, `float16`).
    ///
    /// A model without routed experts is written with all layers dense. `model_type` is
    /// `deepseek_v2` for softmax scores without a balance bias, else `deepseek_v3`.
    pub fn to_hugging_face_json(&self, torch_dtype: &str) -> String {
        let v2 = self.scoring_func == ScoringFunc::Softmax
            && self.topk_method != TopkMethod::NoauxTc
            && !normalizes_and_scales(self.norm_topk_prob, self.routed_scaling_factor);
        // The fields carry DeepSeek's own names; what follows is what the two forms differ in.
        let mut root =
            serde_json::to_value(self).expect("invariant: the fields are numbers, flags and names");
        for absent in ["q_lora_rank", "rope_scaling", "bos_token_id", "eos_token_id"] {
            if root.get(absent).is_none() {
                root[absent] = Value::Null;
            }
        }
        if self.rope_scaling.is_some() {
            root["rope_scaling"]["type"] = json!("yarn");
        }
        if self.n_routed_experts == 0 {
            root["n_routed_experts"] = Value::Null;
            root["first_k_dense_replace"] = json!(self.num_hidden_layers);
        }
        if self.n_shared_experts == 0 {
            root["n_shared_experts"] = Value::Null;
        }
        root["architectures"] =
            json!([if v2 { "DeepseekV2ForCausalLM" } else { "DeepseekV3ForCausalLM" }]);
        root["model_type"] = json!(if v2 { "deepseek_v2" } else { "deepseek_v3" });
        root["num_key_value_heads"] = json!(self.num_attention_heads);
        root["hidden_act"] = json!("silu");
        root["attention_dropout"] = json!(0.0);
        root["ep_size"] = json!(1);
        root["seq_aux"] = json!(true);
        root["use_cache"] = json!(true);
        root["torch_dtype"] = json!(torch_dtype);
        format!("{root:#}\n")
    }
}
