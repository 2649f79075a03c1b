//! The names that TensorBoard shows a record's numbers under. It groups them by what stands before
//! the first slash.

use serde_json::{Map, Value};

/// Keys that say where or what a line is, and have no curve.
const NO_CURVES: [&str; 7] =
    ["kind", "version", "step", "layers", "expert_loads", "expert_biases", "temperature"];
/// Keys of every line; a step's have curves.
const STAMP: [&str; 3] = ["elapsed_seconds", "samples", "tokens"];
/// Keys of a step that follow the schedule.
const SCHEDULED: [&str; 6] =
    ["lr", "global_batch", "batch_tokens", "bias_update_speed", "seq_aux_alpha", "mtp_lambda"];
/// What begins keys of which there is one for the whole and one for each part of the model.
const BY_PART: [&str; 2] = ["grad_norm_", "param_norm_"];
/// Groups that are known by how a key of a step begins.
const GROUPS: [(&str, &str); 3] =
    [("exchange_", "exchange/"), ("fp8_", "fp8/"), ("rank_", "ranks/")];
/// Keys of the experts, of steps and evaluations.
const EXPERTS: [&str; 4] = ["layer_violation", "max_violation", "dead_experts", "gate_entropy"];

/// Name and value of every number in a line, given as its keys.
pub(super) fn scalars(line: &Map<String, Value>) -> Vec<(String, f64)> {
    let kind = line.get("kind").and_then(Value::as_str).unwrap_or_default();
    let layers = line.get("layers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut found = Vec::new();
    let has_curve =
        |key: &str| !NO_CURVES.contains(&key) && (kind == "step" || !STAMP.contains(&key));
    for (key, value) in line.iter().filter(|(key, _)| has_curve(key)) {
        match value {
            Value::Number(number) => {
                found.extend(number.as_f64().map(|number| (tag(kind, key), number)));
            }
            Value::Array(row) => {
                let tag = tag(kind, key);
                let numbers = row.iter().map(Value::as_f64).enumerate();
                found.extend(numbers.filter_map(|(index, number)| {
                    Some((format!("{tag}/{}", member(key, index, layers, row.len())), number?))
                }));
            }
            _ => {}
        }
    }
    found
}

/// The name of a key.
fn tag(kind: &str, key: &str) -> String {
    let valid = if kind == "evaluation" { "valid_moe" } else { "moe" };
    match key {
        key if STAMP.contains(&key) => return format!("progress/{key}"),
        "mtp_losses" => return "train/mtp_loss".into(),
        "valid_mtp_losses" => return "valid/mtp_loss".into(),
        "layer_violation" => return format!("{valid}/max_violation"),
        key if EXPERTS.contains(&key) => return format!("{valid}/{key}"),
        key if key.starts_with("bias_") && kind == "evaluation" => return format!("moe/{key}"),
        _ => {}
    }
    match kind {
        "system" | "sample" => format!("{kind}/{key}"),
        _ if key.ends_with("_seconds") && !key.starts_with("rank_") => format!("time/{key}"),
        _ if key == "tokens_per_second" => format!("time/{key}"),
        "evaluation" => format!("valid/{}", key.strip_prefix("valid_").unwrap_or(key)),
        _ if SCHEDULED.contains(&key) => format!("schedule/{key}"),
        _ => {
            for norm in BY_PART {
                if let Some(part) = key.strip_prefix(norm) {
                    return format!("train/{}/{part}", norm.trim_end_matches('_'));
                }
            }
            let group = GROUPS.iter().find(|(begin, _)| key.starts_with(begin));
            group.map_or_else(
                || format!("train/{key}"),
                |(begin, group)| format!("{group}{}", &key[begin.len()..]),
            )
        }
    }
}

/// What a member of a row is called: an MTP module from 1, a rank from 0, or a layer.
fn member(key: &str, index: usize, layers: &[Value], length: usize) -> String {
    match layers.get(index) {
        _ if key.ends_with("mtp_losses") => (index + 1).to_string(),
        _ if key.starts_with("rank_") => format!("rank_{index}"),
        Some(layer) if layers.len() == length => format!("layer_{layer}"),
        _ => index.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(line: &str) -> Vec<(String, f64)> {
        scalars(&serde_json::from_str(line).unwrap())
    }

    #[test]
    fn every_number_has_a_name() {
        let line = r#"{"kind": "step", "version": 9, "time": "now", "step": 4, "tokens": 64,
            "loss": 2.5, "perplexity": null, "mtp_losses": [3.0, null, 3.5], "layers": [1, 4],
            "layer_violation": [0.5, 0.25], "max_violation": 0.5, "expert_loads": [[1], [2]],
            "lr": 0.1, "step_seconds": 7, "grad_norm": 1, "grad_norm_router": 2,
            "exchange_fast_bytes": 3, "fp8_weights_saturated": 0.125, "rank_busy_seconds": [8, 9],
            "new_key": 6, "gate_entropy": [0.75, 0.5]}"#;
        let expected = [
            ("exchange/fast_bytes", 3.0),
            ("fp8/weights_saturated", 0.125),
            ("moe/gate_entropy/layer_1", 0.75),
            ("moe/gate_entropy/layer_4", 0.5),
            ("train/grad_norm", 1.0),
            ("train/grad_norm/router", 2.0),
            ("moe/max_violation/layer_1", 0.5),
            ("moe/max_violation/layer_4", 0.25),
            ("train/loss", 2.5),
            ("schedule/lr", 0.1),
            ("moe/max_violation", 0.5),
            ("train/mtp_loss/1", 3.0),
            ("train/mtp_loss/3", 3.5),
            ("train/new_key", 6.0),
            ("ranks/busy_seconds/rank_0", 8.0),
            ("ranks/busy_seconds/rank_1", 9.0),
            ("time/step_seconds", 7.0),
            ("progress/tokens", 64.0),
        ];
        assert_eq!(tags(line), expected.map(|(tag, value)| (tag.to_string(), value)));
    }

    #[test]
    fn evaluations_and_the_machine_have_groups_of_their_own() {
        let line = r#"{"kind": "evaluation", "valid_loss": 2.5, "valid_mtp_losses": [3.5],
            "evaluation_seconds": 0.5, "layers": [3], "layer_violation": [1.5], "bias_min": [-1]}"#;
        let expected = [
            ("moe/bias_min/layer_3", -1.0),
            ("time/evaluation_seconds", 0.5),
            ("valid_moe/max_violation/layer_3", 1.5),
            ("valid/loss", 2.5),
            ("valid/mtp_loss/1", 3.5),
        ];
        assert_eq!(tags(line), expected.map(|(tag, value)| (tag.to_string(), value)));
        assert_eq!(
            tags(r#"{"kind": "system", "tokens": 64, "cpu_cores": 1.5, "resident_bytes": null}"#),
            [("system/cpu_cores".to_string(), 1.5)]
        );
        assert_eq!(
            tags(r#"{"kind": "sample", "temperature": 0.8, "mtp_acceptance": 0.5, "text": "a"}"#),
            [("sample/mtp_acceptance".to_string(), 0.5)]
        );
    }
}
