//! Everything that is known of a text, one JSON object a line.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::durable::replace_file;
use crate::failure::Result;
use crate::microscope::{Look, Microscope, Text, TokenView, WhatIf};

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
        let mut lines = Lines { out, scope, text };
        lines.look("base", &folder, base, None)?;
        if let Some((what_if, look)) = what_if {
            lines.look("what-if", &folder, look, Some(what_if))?;
        }
        if let Some((folder, look)) = other {
            lines.look("other", folder, look, None)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Where lines go, and what they are of.
struct Lines<'a> {
    out: &'a mut dyn Write,
    scope: &'a Microscope,
    text: &'a Text,
}

/// The biases of a layer.
#[derive(Serialize)]
struct LayerLine<'a> {
    kind: &'static str,
    variant: &'static str,
    layer: usize,
    bias: Option<&'a [f32]>,
}

/// One token, and what every router did with it.
#[derive(Serialize)]
struct TokenLine<'a> {
    kind: &'static str,
    variant: &'static str,
    token: usize,
    #[serde(flatten)]
    view: &'a TokenView,
    layers: Vec<Routed>,
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

impl Lines<'_> {
    /// A line on the look, one a layer, one a token.
    fn look(
        &mut self,
        variant: &'static str,
        folder: &Path,
        look: &Look,
        what_if: Option<&WhatIf>,
    ) -> io::Result<()> {
        let model = self.scope.config();
        self.put(&json!({
            "kind": "inspection",
            "version": VERSION,
            "variant": variant,
            "checkpoint": folder,
            "format": look.format,
            "tokens": self.text.tokens.len(),
            "mean_loss": look.inspection.mean_loss(),
            "layers": look.layers(),
            "experts": model.n_routed_experts,
            "chosen": model.num_experts_per_tok,
            "groups": model.n_group,
            "kept_groups": model.topk_group,
            "mtp_depths": look.inspection.mtp_greedy.len(),
            "what_if": what_if.map(asked),
        }))?;
        for record in &look.inspection.layers {
            let bias = record.detail.as_ref().map(|detail| detail.bias.as_slice());
            self.put(&LayerLine { kind: "layer", variant, layer: record.layer, bias })?;
        }
        for (token, view) in look.inspected(self.text).tokens.iter().enumerate() {
            let path = look.path(token, None).layers.into_iter();
            let layers = path.map(|of| Routed {
                layer: of.layer,
                scores: of.scores,
                kept_groups: of.kept_groups,
                chosen: of.chosen,
                gates: of.gates,
            });
            let layers = layers.collect();
            self.put(&TokenLine { kind: "token", variant, token, view, layers })?;
        }
        Ok(())
    }

    fn put(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self.out, line)?;
        self.out.write_all(b"\n")
    }
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
