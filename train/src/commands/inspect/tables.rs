//! Looks at a text as tables that fit the terminal.

use std::path::Path;

use crate::fold::{Columns, fold};
use crate::microscope::{Look, Microscope, Moved, Text, WhatIf};

/// Characters of a token that are shown at most.
const TOKEN_COLUMNS: usize = 14;
/// Experts whose gate values stand beside them, at most: more would not fit.
const GATED: usize = 4;
/// Tokens that moved which are shown, those whose loss changed most.
const SHOWN_MOVED: usize = 20;

/// What is shown, and in how many columns.
pub(super) struct Shown<'a> {
    pub scope: &'a Microscope,
    pub text: &'a Text,
    pub base: &'a Look,
    pub width: usize,
}

impl Shown<'_> {
    /// What was looked at, through what, and the loss.
    pub fn heading(&self) -> String {
        let model = self.scope.config();
        let step =
            self.scope.step().map_or_else(String::new, |step| format!(", after step {step}"));
        let mut text = format!(
            "checkpoint  {}{step}, computed in {}\n",
            self.scope.path().display(),
            self.base.format
        );
        text += &format!("text        {} tokens", self.text.tokens.len());
        if let Some(loss) = self.base.inspection.mean_loss() {
            text +=
                &format!(", loss {loss:.4} nats a token predicted (perplexity {:.3})", loss.exp());
        }
        text.push('\n');
        let layers = self.base.layers();
        if layers.is_empty() {
            text += "experts     none: the model is dense\n";
        } else {
            let groups = match model.n_group {
                0 | 1 => String::new(),
                groups => format!(", from {} of {groups} groups", model.topk_group),
            };
            text += &format!(
                "experts     {} of {} a token{groups}, in layers {}\n",
                model.num_experts_per_tok,
                model.n_routed_experts,
                joined(&layers, ", ")
            );
        }
        fold(&text, self.width) + "\n"
    }

    /// The experts of each token in all layers.
    pub fn experts(&self) -> String {
        let layers = self.base.layers();
        let names: Vec<String> = layers.iter().map(|layer| format!("<layer {layer}")).collect();
        let mut table = self.table(&names);
        for token in 0..self.text.tokens.len() {
            let mut cells = self.cells(token);
            let of_layer = |place| joined(self.base.chosen(place, token), " ");
            cells.extend((0..layers.len()).map(of_layer));
            table.row(cells);
        }
        table.without_empty_columns().text(self.width)
    }

    /// Experts, gate values, kept groups and scores of one layer.
    pub fn layer(&self, layer: usize) -> String {
        let layers = self.base.layers();
        let Some(place) = layers.iter().position(|of| *of == layer) else { return String::new() };
        let grouped = self.scope.config().n_group > 1;
        let names = ["<experts: gate values", "<groups", "best score", "bias of it"];
        let mut table = self.table(&names.map(str::to_string));
        for token in 0..self.text.tokens.len() {
            let mut cells = self.cells(token);
            let path = self.base.path(token, None);
            if let Some(of) = path.layers.iter().find(|of| of.layer == layer) {
                let best = best_of(&of.scores);
                cells.extend([
                    self.gated(place, token),
                    if grouped { joined(&of.kept_groups, " ") } else { String::new() },
                    best.map_or("-".into(), |best| format!("{:.3} ({best})", of.scores[best])),
                    best.map_or("-".into(), |best| format!("{:+.3}", of.bias[best])),
                ]);
            }
            table.row(cells);
        }
        table.without_empty_columns().text(self.width)
    }

    /// What is other where something else is asked.
    pub fn what_if(&self, what_if: &WhatIf, changed: &Look) -> String {
        let mut asked: Vec<String> = Vec::new();
        for of in &what_if.disabled {
            asked.push(format!("expert {} of layer {} off", of.expert, of.layer));
        }
        for of in &what_if.bias {
            asked
                .push(format!("bias of expert {} of layer {} {:+}", of.expert, of.layer, of.delta));
        }
        if let Some(groups) = what_if.topk_group {
            asked.push(format!("{groups} groups kept"));
        }
        if changed.format != self.base.format {
            asked.push(format!("computed in {}", changed.format));
        }
        if asked.is_empty() {
            asked.push("nothing is other".into());
        }
        let label = format!("\nwhat if     {}\n", asked.join("; "));
        label + &self.moved(changed)
    }

    /// What another checkpoint makes of it.
    pub fn beside(&self, path: &Path, look: &Look) -> String {
        format!("\nother       {}\n", path.display()) + &self.moved(look)
    }

    /// What moved, and what the loss does.
    fn moved(&self, changed: &Look) -> String {
        let moved = Moved::between(self.base, changed);
        let mut text = String::new();
        let losses = self.base.inspection.mean_loss().zip(changed.inspection.mean_loss());
        if let Some((base, then)) = losses {
            let change = then - base;
            text += &format!("loss        {base:.4} -> {then:.4} nats a token ({change:+.4})\n");
        }
        let layers: Vec<String> = moved
            .layers
            .iter()
            .map(|of| format!("layer {} {} of {}", of.layer, of.moved, of.tokens))
            .collect();
        if !layers.is_empty() {
            text += &format!(
                "moved       {} of {} tokens have other experts: {}\n",
                moved.tokens.len(),
                self.text.tokens.len(),
                layers.join(", ")
            );
        }
        text = fold(&text, self.width) + "\n";
        let mut tokens = moved.tokens;
        let change = |token: usize| Some(changed.loss(token)? - self.base.loss(token)?);
        tokens.sort_by(|&a, &b| {
            let size = |token| change(token).map_or(0.0, f32::abs);
            size(b).total_cmp(&size(a)).then(a.cmp(&b))
        });
        if tokens.is_empty() {
            return text;
        }
        let left = tokens.len().saturating_sub(SHOWN_MOVED);
        let mut table =
            Columns::new(["at", "<token", "loss", "then", "change", "<experts, then others"]);
        for &token in tokens.iter().take(SHOWN_MOVED) {
            let number = |loss: Option<f32>| loss.map_or("-".into(), |loss| format!("{loss:.3}"));
            let others: Vec<String> = (0..moved.layers.len())
                .filter(|&place| self.base.chosen(place, token) != changed.chosen(place, token))
                .map(|place| {
                    format!(
                        "{}: {} > {}",
                        moved.layers[place].layer,
                        joined(self.base.chosen(place, token), " "),
                        joined(changed.chosen(place, token), " ")
                    )
                })
                .collect();
            table.row([
                token.to_string(),
                shortened(&self.text.shown[token]),
                number(self.base.loss(token)),
                number(changed.loss(token)),
                change(token).map_or("-".into(), |change| format!("{change:+.3}")),
                some_of(&others, 34),
            ]);
        }
        text += &table.text(self.width);
        if left > 0 {
            text += &format!("and {left} more tokens\n");
        }
        text
    }

    /// A table with a row a token: its place, what it is, its loss, what MTP says, then more.
    fn table(&self, more: &[String]) -> Columns {
        let names = ["at", "<token", "loss", "<MTP"];
        Columns::new(names.into_iter().chain(more.iter().map(String::as_str)))
    }

    fn cells(&self, token: usize) -> Vec<String> {
        let agrees = self.base.mtp_agrees(token).into_iter().map(|agrees| match agrees {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        });
        vec![
            token.to_string(),
            shortened(&self.text.shown[token]),
            self.base.loss(token).map_or("-".into(), |loss| format!("{loss:.3}")),
            agrees.collect::<Vec<_>>().join(" "),
        ]
    }

    /// `3:0.512 7:0.488`, or the experts alone where there are many.
    fn gated(&self, place: usize, token: usize) -> String {
        let chosen = self.base.chosen(place, token);
        if chosen.len() > GATED {
            return joined(chosen, " ");
        }
        let gates = chosen.iter().zip(self.base.gates(place, token));
        let gates: Vec<String> =
            gates.map(|(expert, gate)| format!("{expert}:{gate:.3}")).collect();
        gates.join(" ")
    }
}

/// The number of the largest; none where there is none.
fn best_of(scores: &[f32]) -> Option<usize> {
    (0..scores.len()).reduce(|best, next| if scores[next] > scores[best] { next } else { best })
}

fn joined<T: ToString>(numbers: &[T], between: &str) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// As many of the texts as fit, and how many more there are.
fn some_of(texts: &[String], columns: usize) -> String {
    let mut said = String::new();
    for (index, text) in texts.iter().enumerate() {
        let gap = if index == 0 { "" } else { "; " };
        if index > 0 && said.chars().count() + gap.len() + text.chars().count() > columns {
            return said + &format!("; {} more", texts.len() - index);
        }
        said += gap;
        said += text;
    }
    said
}

/// A token in quotes, its spaces and line breaks seen, cut where it is long.
fn shortened(token: &str) -> String {
    let quoted = format!("{token:?}");
    if quoted.chars().count() <= TOKEN_COLUMNS {
        return quoted;
    }
    quoted.chars().take(TOKEN_COLUMNS - 2).collect::<String>() + ".."
}
