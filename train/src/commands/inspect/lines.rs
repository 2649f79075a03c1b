//! Everything that is known of a text, one JSON object a line.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::durable::replace_file;
use crate::failure::Result;
use crate::microscope::{Look, Microscope, Text, WhatIf};

/// Version of the lines.
const VERSION: u32 = 1;

/// Writes the lines of all looks.
pub(super) fn write_lines(
    path: &Path,
    scope: &Microscope,
    text: &Text,
    base: &Look,
    what_if: Option<(&WhatIf, &Look)>,
    other: Option<(&Path, &Look)>,
) -> Result<()> {
    let folder = scope.path();
    replace_file(path, |out| {
        let mut put = |line: Value| -> io::Result<()> {
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"\n")
        };
        look_lines(&mut put, scope, text, "base", &folder, base, Value::Null)?;
        if let Some((what_if, look)) = what_if {
            look_lines(&mut put, scope, text, "what-if", &folder, look, asked(what_if))?;
        }
        if let Some((folder, look)) = other {
            look_lines(&mut put, scope, text, "other", folder, look, Value::Null)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// A line on the look, one a layer, one a token.
fn look_lines(
    put: &mut impl FnMut(Value) -> io::Result<()>,
    scope: &Microscope,
    text: &Text,
    variant: &str,
    folder: &Path,
    look: &Look,
    what_if: Value,
) -> io::Result<()> {
    let model = scope.config();
    put(json!({
        "kind": "inspection",
        "version": VERSION,
        "variant": variant,
        "checkpoint": folder,
        "format": look.format,
        "tokens": text.tokens.len(),
        "mean_loss": look.inspection.mean_loss(),
        "layers": look.layers(),
        "experts": model.n_routed_experts,
        "chosen": model.num_experts_per_tok,
        "groups": model.n_group,
        "kept_groups": model.topk_group,
        "mtp_depths": look.inspection.mtp_greedy.len(),
        "what_if": what_if,
    }))?;
    for record in &look.inspection.layers {
        let bias = record.detail.as_ref().map(|detail| &detail.bias);
        put(json!({"kind": "layer", "variant": variant, "layer": record.layer, "bias": bias}))?;
    }
    let inspected = look.inspected(text);
    for (token, view) in inspected.tokens.iter().enumerate() {
        let layers: Vec<Routed> = look
            .path(token, None)
            .layers
            .into_iter()
            .map(|layer| Routed {
                layer: layer.layer,
                scores: layer.scores,
                kept_groups: layer.kept_groups,
                chosen: layer.chosen,
                gates: layer.gates,
            })
            .collect();
        put(json!({
            "kind": "token",
            "variant": variant,
            "token": token,
            "id": view.id,
            "text": view.text,
            "loss": view.loss,
            "mtp_agrees": view.mtp_agrees,
            "layers": layers,
        }))?;
    }
    Ok(())
}

/// What a router did with a token; its biases are in the line of the layer.
#[derive(Serialize)]
struct Routed {
    layer: usize,
    scores: Vec<f32>,
    kept_groups: Vec<u32>,
    chosen: Vec<u32>,
    gates: Vec<f32>,
}

/// What was to be other.
fn asked(what_if: &WhatIf) -> Value {
    json!({
        "disabled": what_if.disabled,
        "bias": what_if.bias,
        "topk_group": what_if.topk_group,
        "format": what_if.format,
    })
}
