//! Choices that are given to the routers of a pass.

use std::collections::BTreeMap;

/// The choices of a pass: for each layer the experts of each token, `[tokens * top_k]`, in
/// ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenChoices {
    layers: BTreeMap<usize, Vec<u32>>,
}

/// Numbers that are no choice of experts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "layer {layer}, token {token}: {chosen:?} are not {top_k} different experts of {experts}, in \
     ascending order"
)]
pub struct GivenChoicesError {
    layer: usize,
    token: usize,
    chosen: Vec<u32>,
    top_k: usize,
    experts: usize,
}

impl GivenChoices {
    /// Takes the choices of layers.
    ///
    /// # Errors
    ///
    /// A token that has no `top_k` different experts below `experts`, in ascending order.
    pub fn new(
        top_k: usize,
        experts: usize,
        layers: BTreeMap<usize, Vec<u32>>,
    ) -> Result<Self, GivenChoicesError> {
        for (&layer, choices) in &layers {
            for (token, chosen) in choices.chunks(top_k.max(1)).enumerate() {
                let ascending = chosen.windows(2).all(|pair| pair[0] < pair[1]);
                let known = chosen.last().is_some_and(|&last| (last as usize) < experts);
                if chosen.len() != top_k || !ascending || !known {
                    let chosen = chosen.to_vec();
                    return Err(GivenChoicesError { layer, token, chosen, top_k, experts });
                }
            }
        }
        Ok(Self { layers })
    }

    /// The choices of all layers.
    pub fn layers(&self) -> &BTreeMap<usize, Vec<u32>> {
        &self.layers
    }

    /// The choices of a layer.
    pub fn of_layer(&self, layer: usize) -> Option<&[u32]> {
        self.layers.get(&layer).map(Vec::as_slice)
    }

    /// The choices that a router is to take for its tokens.
    ///
    /// # Panics
    ///
    /// They are those of another pass: whoever gives them knows the pass.
    pub(crate) fn expect(&self, layer: usize, tokens: usize, top_k: usize) -> &[u32] {
        let given = self.of_layer(layer).unwrap_or_default();
        assert_eq!(
            given.len(),
            tokens * top_k,
            "invariant: choices are given for the {tokens} tokens of layer {layer}"
        );
        given
    }
}
