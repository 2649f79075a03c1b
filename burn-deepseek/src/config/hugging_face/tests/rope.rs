//! Rope in both forms, and what transformers 5.24 computes of YaRN where a key is left out.

use serde_json::{Value, json};

use crate::attention::RotaryEmbedding;
use crate::config::{DeepSeekConfig, HuggingFaceError};

fn read(rope: Value) -> Result<DeepSeekConfig, HuggingFaceError> {
    let mut root = json!({
        "model_type": "deepseek_v3", "max_position_embeddings": 64, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8, "num_nextn_predict_layers": 0,
    });
    for (key, value) in rope.as_object().unwrap() {
        root[key] = value.clone();
    }
    DeepSeekConfig::from_hugging_face_json(&root.to_string())
}

fn yarn(changes: Value) -> Result<DeepSeekConfig, HuggingFaceError> {
    let mut rope = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
    for (key, value) in changes.as_object().unwrap() {
        rope[key] = value.clone();
    }
    read(json!({"rope_scaling": rope}))
}

/// Factor of cos and sin, scale of the softmax.
fn scales(config: &DeepSeekConfig) -> (f64, f64) {
    (
        config.rope_scaling.as_ref().map_or(1.0, |yarn| yarn.attention_factor()),
        config.softmax_scale(),
    )
}

#[test]
fn theta_and_yarn_are_found_in_either_form() {
    let theta = |rope| read(rope).unwrap().rope_theta;
    assert_eq!(theta(json!({})), 1e4);
    assert_eq!(theta(json!({"rope_theta": 5e4})), 5e4);
    assert_eq!(theta(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}})), 7.0);
    assert_eq!(theta(json!({"rope_parameters": {"rope_type": "default"}, "rope_theta": 9})), 9.0);
    let both = json!({
        "rope_scaling": {}, "rope_theta": 9.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 7.0},
    });
    assert_eq!(theta(both), 7.0);
    // What rope_scaling says stands alone.
    let both = json!({
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        "rope_parameters": {"rope_type": "default", "rope_theta": 7.0},
    });
    let config = read(both).unwrap();
    assert_eq!((config.rope_theta, config.rope_scaling.unwrap().factor), (1e4, 4.0));
    let newer = json!({"rope_parameters": {
        "rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16.0,
        "rope_theta": 5e4, "partial_rotary_factor": 1.0,
    }});
    let config = read(newer).unwrap();
    assert_eq!(config.rope_theta, 5e4);
    assert_eq!(config.rope_scaling.unwrap().original_max_position_embeddings, 16);
}

/// The numbers are `rotary_emb.attention_scaling` and `self_attn.scaling` of transformers 5.24.
#[test]
fn scales_of_yarn_with_and_without_its_optional_keys() {
    let softmax = 0.25;
    for (changes, expected) in [
        (json!({}), (1.138_629_436_111_989, softmax)),
        (json!({"mscale": 0.7}), (1.138_629_436_111_989, softmax)),
        (json!({"mscale_all_dim": 0.7}), (1.138_629_436_111_989, 0.300_874_522_407_395_3)),
        (
            json!({"mscale": 0.5, "mscale_all_dim": 0.7}),
            (0.974_726_653_608_813_5, 0.300_874_522_407_395_3),
        ),
        (json!({"mscale": 0, "mscale_all_dim": 0}), (1.138_629_436_111_989, softmax)),
        (json!({"factor": null}), (1.138_629_436_111_989, softmax)),
        (json!({"factor": 1}), (1.0, softmax)),
        (json!({"factor": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}), (1.0, softmax)),
        (json!({"attention_factor": 1.3}), (1.3, softmax)),
        (json!({"attention_factor": null}), (1.138_629_436_111_989, softmax)),
        (json!({"beta_fast": 0, "beta_slow": null}), (1.138_629_436_111_989, softmax)),
    ] {
        let config = yarn(changes.clone()).unwrap();
        let got = scales(&config);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(got.0, expected.0) && near(got.1, expected.1), "{changes}: {got:?}");
        let written = config.to_hugging_face_json("float32");
        let again = DeepSeekConfig::from_hugging_face_json(&written).unwrap();
        assert_eq!(scales(&again), got, "{changes}");
    }
    let config = yarn(json!({"beta_fast": 0, "beta_slow": null})).unwrap();
    let betas = config.rope_scaling.as_ref().map(|yarn| (yarn.beta_fast, yarn.beta_slow));
    assert_eq!(betas, Some((32.0, 1.0)));
}

/// A factor that only this crate's own form can say is written as transformers understands it.
#[test]
fn the_factor_of_cos_and_sin_survives_writing() {
    let mut config = yarn(json!({})).unwrap();
    for (mscale, all_dim) in [(0.7, 0.0), (0.0, 0.7), (0.0, 0.0), (0.5, 0.7), (1.0, 0.0)] {
        let yarn = config.rope_scaling.as_mut().unwrap();
        (yarn.mscale, yarn.mscale_all_dim) = (mscale, all_dim);
        let written = config.to_hugging_face_json("float32");
        let again = DeepSeekConfig::from_hugging_face_json(&written).unwrap();
        let (got, expected) = (scales(&again), scales(&config));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(got.0, expected.0) && near(got.1, expected.1), "{got:?} {expected:?}");
    }
}

#[test]
fn the_original_length_is_the_whole_one_unless_it_is_said() {
    let original =
        |rope| read(rope).unwrap().rope_scaling.unwrap().original_max_position_embeddings;
    let short = json!({"type": "yarn", "factor": 4.0});
    assert_eq!(original(json!({"rope_scaling": short})), 64);
    let top = json!({"rope_scaling": short, "original_max_position_embeddings": 24});
    assert_eq!(original(top), 24);
}

/// `rotary_emb.inv_freq` of transformers 5.24, where the ramp has no width or nothing is stretched.
#[test]
fn frequencies_of_a_ramp_without_width() {
    let inv_freq = |changes| RotaryEmbedding::new(&yarn(changes).unwrap()).inv_freq().to_vec();
    let plain = RotaryEmbedding::new(&read(json!({})).unwrap()).inv_freq().to_vec();
    for (changes, expected) in RAMPS {
        let changes: Value = serde_json::from_str(changes).unwrap();
        let got = inv_freq(changes.clone());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() <= 1e-6 * expected, "{changes}: {got} {expected}");
        }
    }
    assert_eq!(inv_freq(json!({"factor": 1})), plain);
}

const RAMPS: [(&str, [f32; 4]); 3] = [
    (r#"{"beta_fast": 1, "beta_slow": 1}"#, [1.0, 0.025, 0.0025, 0.000_25]),
    (
        r#"{"beta_fast":1,"beta_slow":1,"original_max_position_embeddings":6283,"factor":32}"#,
        [1.0, 0.1, 0.01, 3.125e-5],
    ),
    // From a dimension to itself.
    (r#"{"beta_fast": 10, "beta_slow": 10}"#, [1.0, 0.025, 0.0025, 0.000_25]),
];

#[test]
fn another_rope_is_refused_by_its_key() {
    for (rope, key) in [
        (json!({"rope_scaling": {"type": "linear", "factor": 2}}), "rope_scaling.type"),
        (json!({"rope_parameters": {"rope_type": "llama3"}}), "rope_parameters.rope_type"),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        (
            json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
            "rope_parameters.partial_rotary_factor",
        ),
    ] {
        let text = read(rope).unwrap_err().to_string();
        assert!(text.contains(&format!("\"{key}\"")), "{text}");
    }
    let text = yarn(json!({"truncate": false})).unwrap_err().to_string();
    assert!(text.contains("rope_scaling.truncate"), "{text}");
    let text = read(json!({"rope_scaling": {"type": "yarn"}})).unwrap_err().to_string();
    assert!(text.contains("\"rope_scaling.factor\" is missing"), "{text}");
    let text = yarn(json!({"original_max_position_embeddings": null})).unwrap_err().to_string();
    assert!(text.contains("rope_scaling.original_max_position_embeddings"), "{text}");
}
