//! One look at a text, and what of it goes to people and programs.

use burn_deepseek::Inspection;
use burn_deepseek::routing::LayerRecord;
use serde::Serialize;

use super::Text;

/// What a checkpoint makes of a text, in one precision and with one way to choose experts.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// What it was computed in: `f32`, `bf16`, `fp8`.
    pub format: &'static str,
    /// Everything that is known.
    pub inspection: Inspection,
    /// Experts a token.
    pub(super) chosen: usize,
}

/// A look without scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspected {
    /// Mean of the tokens' losses, nats a token.
    pub mean_loss: Option<f64>,
    /// Token by token.
    pub tokens: Vec<TokenView>,
    /// Experts of each token, by layer and token; none for the last tokens of an MTP module, which
    /// does not see them.
    pub experts: Vec<Vec<Vec<u32>>>,
    /// Gate values in their order.
    pub gates: Vec<Vec<Vec<f32>>>,
}

/// One token of a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenView {
    /// Its id.
    pub id: u32,
    /// What is shown of it.
    pub text: String,
    /// `-ln p` of it after the tokens before it, in nats; none for the first.
    pub loss: Option<f32>,
    /// For each MTP depth whether it and the main model would have the same token here
    /// ([`Inspection::mtp_agrees`]).
    pub mtp_agrees: Vec<Option<bool>>,
}

/// The way of one token through the layers of experts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenPath {
    /// Layer by layer; of MTP modules those that see the token.
    pub layers: Vec<LayerPath>,
}

/// What one router did with a token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerPath {
    /// Index of the layer.
    pub layer: usize,
    /// Scores of all experts, without the bias.
    pub scores: Vec<f32>,
    /// Biases of all experts, as they were changed; null in JSON for one that is switched off.
    pub bias: Vec<f32>,
    /// Groups that the token could choose from.
    pub kept_groups: Vec<u32>,
    /// Experts that it chose.
    pub chosen: Vec<u32>,
    /// Their gate values.
    pub gates: Vec<f32>,
    /// What it chose in another look.
    pub changed_chosen: Option<Vec<u32>>,
}

impl Look {
    /// Indices of the layers of experts.
    pub fn layers(&self) -> Vec<usize> {
        self.inspection.layers.iter().map(|record| record.layer).collect()
    }

    /// Experts of a token in a layer, given by its place among the layers; none that it does not
    /// see.
    pub fn chosen(&self, layer: usize, token: usize) -> &[u32] {
        let layer = self.inspection.layers.get(layer);
        layer.map_or(&[], |record| row(&record.chosen, self.chosen, token))
    }

    /// Gate values of a token in a layer, in the order of its experts.
    pub fn gates(&self, layer: usize, token: usize) -> &[f32] {
        let detail = self.inspection.layers.get(layer).and_then(|record| record.detail.as_ref());
        detail.map_or(&[], |detail| row(&detail.gates, self.chosen, token))
    }

    /// The loss of a token; none for the first.
    pub fn loss(&self, token: usize) -> Option<f32> {
        self.inspection.losses.get(token.checked_sub(1)?).copied()
    }

    /// What each MTP depth has to do with a token.
    pub fn mtp_agrees(&self, token: usize) -> Vec<Option<bool>> {
        let depths = self.inspection.mtp_greedy.len();
        (1..=depths).map(|k| self.inspection.mtp_agrees(k, token)).collect()
    }

    /// The look without scores.
    pub fn inspected(&self, text: &Text) -> Inspected {
        let tokens = text.tokens.len();
        let of_tokens = |layer: usize| -> Vec<Vec<u32>> {
            (0..tokens).map(|token| self.chosen(layer, token).to_vec()).collect()
        };
        let gates = |layer: usize| -> Vec<Vec<f32>> {
            (0..tokens).map(|token| self.gates(layer, token).to_vec()).collect()
        };
        let layers = 0..self.inspection.layers.len();
        let view = |(token, (&id, shown)): (usize, (&u32, &String))| TokenView {
            id,
            text: shown.clone(),
            loss: self.loss(token),
            mtp_agrees: self.mtp_agrees(token),
        };
        Inspected {
            mean_loss: self.inspection.mean_loss(),
            tokens: text.tokens.iter().zip(&text.shown).enumerate().map(view).collect(),
            experts: layers.clone().map(of_tokens).collect(),
            gates: layers.map(gates).collect(),
        }
    }

    /// The way of one token, beside what it chose in another look of the same layers.
    pub fn path(&self, token: usize, changed: Option<&Self>) -> TokenPath {
        let of_layer = |(place, record): (usize, &LayerRecord)| {
            let detail = record.detail.as_ref()?;
            let tokens = record.batch * record.seq;
            if token >= tokens {
                return None;
            }
            Some(LayerPath {
                layer: record.layer,
                scores: row(&detail.scores, detail.bias.len(), token).to_vec(),
                bias: detail.bias.clone(),
                kept_groups: row(&detail.kept_groups, detail.kept_groups.len() / tokens, token)
                    .to_vec(),
                chosen: self.chosen(place, token).to_vec(),
                gates: self.gates(place, token).to_vec(),
                changed_chosen: changed.map(|other| other.chosen(place, token).to_vec()),
            })
        };
        TokenPath {
            layers: self.inspection.layers.iter().enumerate().filter_map(of_layer).collect(),
        }
    }
}

/// The numbers of one token; none where it is not seen.
fn row<T>(numbers: &[T], width: usize, token: usize) -> &[T] {
    numbers.chunks(width.max(1)).nth(token).unwrap_or_default()
}
