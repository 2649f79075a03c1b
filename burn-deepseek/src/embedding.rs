//! The token embedding, shared with the MTP modules and, when tied, with the head.

use burn::module::Module;
use burn::tensor::{Int, Tensor};

use crate::{Weight, WeightInit, ops};

/// A table of one row a token.
#[derive(Module, Debug)]
pub struct Embedding {
    /// A row for each token, `[vocab, d]`.
    pub weight: Weight<2>,
}

impl Embedding {
    /// A new table.
    pub fn new(vocab: usize, d: usize, init: &mut WeightInit) -> Self {
        Self { weight: init.weight([vocab, d]).into() }
    }

    /// Looks tokens up.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, seq]`
    /// - output: `[batch, seq, d]`
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        match &self.weight {
            Weight::Parameter(table) => ops::embedding(table.val(), tokens),
            Weight::Stored(table) => ops::stored::embedding(table, tokens),
        }
    }
}
