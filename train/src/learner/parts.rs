//! The parts of a model that norms are told of, and which parameter is of which.

use std::collections::HashMap;

use burn::module::ParamId;
use burn_deepseek::DeepSeek;
use burn_deepseek::weights::parameter_ids;

/// A part of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The embedding (and the head, where they are one).
    Embedding,
    /// The linears of attention.
    Attention,
    /// The routers' centroids.
    Router,
    /// The routed experts.
    Experts,
    /// Dense layers and shared experts.
    Mlp,
    /// Every RMSNorm of the main model.
    Norms,
    /// All of the MTP modules.
    Mtp,
    /// The output head.
    Head,
}

impl Part {
    /// All of them, each at its own number.
    pub const ALL: [Self; 8] = [
        Self::Embedding,
        Self::Attention,
        Self::Router,
        Self::Experts,
        Self::Mlp,
        Self::Norms,
        Self::Mtp,
        Self::Head,
    ];
}

/// What the name of a parameter of the main model has, and whose it then is: **the table**. The
/// first row that fits counts.
const PARTS: [(&str, Part); 7] = [
    ("embed_tokens.", Part::Embedding),
    ("lm_head.", Part::Head),
    ("norm.weight", Part::Norms),
    (".self_attn.", Part::Attention),
    (".mlp.gate.weight", Part::Router),
    (".mlp.experts.", Part::Experts),
    (".mlp.", Part::Mlp),
];

/// A buffer, which no gradient reaches: it is of no part.
const BALANCE_BIAS: &str = ".gate.e_score_correction_bias";

/// The part that a parameter is of, by its path in the model (as
/// [`parameter_ids`] has it); none for a balance bias.
fn part_of(path: &str) -> Option<Part> {
    if path.ends_with(BALANCE_BIAS) {
        return None;
    }
    if path.starts_with("mtp.") {
        return Some(Part::Mtp);
    }
    PARTS.iter().find(|(name, _)| path.contains(name)).map(|(_, part)| *part)
}

/// The part of each parameter of a model.
#[derive(Clone, Debug)]
pub struct Parts(HashMap<ParamId, Part>);

impl Parts {
    /// Those of a model, or of one that its parameters were cut out of.
    pub fn of(model: &DeepSeek) -> Self {
        let ids = parameter_ids(model).into_iter();
        Self(ids.filter_map(|(path, (id, _))| Some((id, part_of(&path)?))).collect())
    }
}

/// Norms of values that a model's parameters have: the parameters themselves, or their gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PartNorms {
    /// Of all parts.
    pub global: f64,
    parts: [Option<f64>; 8],
}

impl PartNorms {
    /// From the sums of squares of each parameter's values, or of pieces of it, which are `scale`
    /// times too large.
    pub fn of(squares: &[(ParamId, f64)], parts: &Parts, scale: f64) -> Self {
        let mut sums: [Option<f64>; 8] = [None; 8];
        for part in parts.0.values() {
            sums[*part as usize] = Some(0.0);
        }
        let mut global = 0.0;
        for (id, square) in squares {
            if let Some(part) = parts.0.get(id) {
                global += square;
                *sums[*part as usize].get_or_insert(0.0) += square;
            }
        }
        let norm = |square: f64| square.sqrt() / scale;
        Self { global: norm(global), parts: sums.map(|sum| sum.map(norm)) }
    }

    /// That of one part; none where the model has not that part.
    pub fn part(&self, part: Part) -> Option<f64> {
        self.parts[part as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve_model;
    use burn::tensor::Device;

    fn model(preset: &str, set: &[&str]) -> DeepSeek {
        let small = ["hidden_size=16", "num_hidden_layers=2", "vocab_size=260"];
        let set: Vec<String> = small.iter().chain(set).map(|key| format!("model.{key}")).collect();
        DeepSeek::init(&resolve_model(Some(preset), None, &set).unwrap(), 3, &Device::flex())
            .unwrap()
    }

    /// Every parameter is of one part, every part has parameters, and no buffer is of any.
    #[test]
    fn the_table_covers_every_parameter_once() {
        let models = [
            model("tiny", &[]),
            model("tiny", &["q_lora_rank=8", "attention_bias=true", "n_shared_experts=2"]),
            model("tiny", &["tie_word_embeddings=true", "topk_method=\"greedy\"", "n_group=1"]),
        ];
        for (n, model) in models.iter().enumerate() {
            let mut seen = [0; 8];
            for (path, _) in parameter_ids(model) {
                match part_of(&path) {
                    Some(part) => seen[part as usize] += 1,
                    None => assert!(path.ends_with(BALANCE_BIAS), "{path}"),
                }
            }
            let missing: Vec<Part> =
                Part::ALL.into_iter().filter(|part| seen[*part as usize] == 0).collect();
            let expected = if n == 2 { vec![Part::Head] } else { vec![] };
            assert_eq!(missing, expected, "{n}");
        }
        for (at, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, at);
        }
    }

    #[test]
    fn each_name_is_of_the_part_that_it_says() {
        for (path, part) in [
            ("embed_tokens.weight", Some(Part::Embedding)),
            ("lm_head.weight", Some(Part::Head)),
            ("norm.weight", Some(Part::Norms)),
            ("layers.0.input_layernorm.weight", Some(Part::Norms)),
            ("layers.0.self_attn.query.q_a_layernorm.weight", Some(Part::Norms)),
            ("layers.0.self_attn.query.q_a_proj.bias", Some(Part::Attention)),
            ("layers.0.mlp.gate_up", Some(Part::Mlp)),
            ("layers.1.mlp.gate.weight", Some(Part::Router)),
            ("layers.1.mlp.gate.e_score_correction_bias", None),
            ("layers.1.mlp.experts.down", Some(Part::Experts)),
            ("layers.1.mlp.shared_experts.gate_up", Some(Part::Mlp)),
            ("mtp.0.enorm.weight", Some(Part::Mtp)),
            ("mtp.0.block.mlp.experts.down", Some(Part::Mtp)),
            ("somewhere.else", None),
        ] {
            assert_eq!(part_of(path), part, "{path}");
        }
    }

    #[test]
    fn squares_of_parts_add_up() {
        let model = model("tiny", &["num_nextn_predict_layers=0"]);
        let (parts, ids) = (Parts::of(&model), parameter_ids(&model));
        let id = |path: &str| ids[path].0;
        let bias = "layers.1.mlp.gate.e_score_correction_bias";
        let squares = [
            (id("embed_tokens.weight"), 16.0),
            (id("layers.1.mlp.experts.down"), 2.0),
            (id("layers.1.mlp.experts.down"), 2.0),
            (id("lm_head.weight"), 16.0),
            (id(bias), 100.0),
        ];
        let norms = PartNorms::of(&squares, &parts, 2.0);
        assert_eq!(norms.global, 3.0);
        assert_eq!(norms.part(Part::Embedding), Some(2.0));
        assert_eq!(norms.part(Part::Experts), Some(1.0));
        assert_eq!(norms.part(Part::Attention), Some(0.0));
        assert_eq!(norms.part(Part::Mtp), None);
    }
}
