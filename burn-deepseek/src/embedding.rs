//! The token embedding, shared with the MTP modules and, when tied, with the head.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};

use crate::{WeightInit, ops};

/// A table of one row a token.
#[derive(Module, Debug)]
pub struct Embedding {
    /// A row for each token, `[vocab, d]`.
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    /// A new table.
    pub fn new(vocab: usize, d: usize, init: &mut WeightInit) -> Self {
        Self { weight: init.weight([vocab, d]) }
    }

    /// Looks tokens up.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, seq]`
    /// - output: `[batch, seq, d]`
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        ops::embedding(self.weight.val(), tokens)
    }
}
