//! What is other in one look than in another at the same text.

use serde::Serialize;

use super::Look;

/// What moved from one look to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// By how much the mean loss is higher, nats a token.
    pub mean_loss_change: Option<f64>,
    /// Layer by layer.
    pub layers: Vec<LayerMoved>,
    /// Tokens that have other experts in some layer.
    pub tokens: Vec<usize>,
}

/// What moved in a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerMoved {
    /// Index of the layer.
    pub layer: usize,
    /// Tokens that have at least one other expert.
    pub moved: usize,
    /// Tokens that the layer sees.
    pub tokens: usize,
}

impl Moved {
    /// What is other in `changed` than in `base`, two looks at one text with the same layers.
    pub fn between(base: &Look, changed: &Look) -> Self {
        let count = base.inspection.greedy.len();
        let differs =
            |layer: usize, token: usize| base.chosen(layer, token) != changed.chosen(layer, token);
        let layers = base.inspection.layers.iter().enumerate();
        let of_layer = |(place, record): (usize, &burn_deepseek::routing::LayerRecord)| {
            let tokens = record.batch * record.seq;
            let moved = (0..tokens).filter(|&token| differs(place, token)).count();
            LayerMoved { layer: record.layer, moved, tokens }
        };
        let places = 0..base.inspection.layers.len();
        let anywhere = |&token: &usize| places.clone().any(|place| differs(place, token));
        let losses = base.inspection.mean_loss().zip(changed.inspection.mean_loss());
        Self {
            mean_loss_change: losses.map(|(base, changed)| changed - base),
            layers: layers.map(of_layer).collect(),
            tokens: (0..count).filter(anywhere).collect(),
        }
    }
}
