//! A sequence being decoded: the model and the latents of the tokens behind it.

use burn::tensor::{Int, Tensor, TensorData};

use super::NotFinite;
use crate::attention::{AttentionForm, LatentCache};
use crate::{Compute, DeepSeek, Pass};

/// One sequence in decoding. Each token passes through the model once; what is kept of it is its
/// latent in every layer.
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a DeepSeek,
    caches: Vec<LatentCache>,
    compute: Compute,
}

impl<'a> Decoder<'a> {
    /// An empty sequence, in FP32.
    pub fn new(model: &'a DeepSeek, form: AttentionForm) -> Self {
        Self::with_compute(model, form, &Compute::f32())
    }

    /// An empty sequence, computed as `compute` says: in its precision, and with its way to experts
    /// that are elsewhere.
    pub fn with_compute(model: &'a DeepSeek, form: AttentionForm, compute: &Compute) -> Self {
        Self {
            model,
            caches: vec![LatentCache::new(form); model.layers.len()],
            compute: compute.clone(),
        }
    }

    /// Tokens fed so far.
    pub fn len(&self) -> usize {
        self.caches.first().map_or(0, LatentCache::len)
    }

    /// Whether no token was fed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all but the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.caches.iter_mut().for_each(|cache| cache.truncate(len));
    }

    /// Feeds tokens that follow those fed before; returns their hidden states after the last norm,
    /// `[1, tokens, d]`.
    pub fn feed(&mut self, tokens: &[u32]) -> Tensor<3> {
        let mut pass = self.model.pass(self.len(), tokens.len(), &self.compute);
        let tokens = token_tensor(tokens, self.model);
        self.model.hidden(tokens, &mut pass, Some(&mut self.caches))
    }

    /// Forgets all but the first `len` tokens, feeds `tokens` again, and says where the values
    /// stopped being finite.
    pub(super) fn probe(&mut self, len: usize, tokens: &[u32]) -> NotFinite {
        self.truncate(len);
        let rope = self.model.rotary().table(len, tokens.len(), &self.model.device());
        let mut pass = Pass::probing(rope, self.compute.clone());
        let tokens = token_tensor(tokens, self.model);
        self.model.hidden(tokens, &mut pass, Some(&mut self.caches));
        NotFinite::found(self.model, &pass)
    }

    /// Logits of the last `rows` of hidden states, row by row.
    pub fn logits(&self, hidden: Tensor<3>, rows: usize) -> Vec<Vec<f32>> {
        host_logits(self.model, hidden, rows)
    }
}

/// Tokens as a batch of one sequence, `[1, tokens]`.
pub(crate) fn token_tensor(tokens: &[u32], model: &DeepSeek) -> Tensor<2, Int> {
    let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
    Tensor::from_data(TensorData::new(ids, [1, tokens.len()]), &model.device())
}

pub(super) fn host_logits(model: &DeepSeek, hidden: Tensor<3>, rows: usize) -> Vec<Vec<f32>> {
    let [_, seq, _] = hidden.dims();
    let logits = model.logits(hidden.narrow(1, seq - rows, rows));
    let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
    values.chunks_exact(model.config().vocab_size).map(<[f32]>::to_vec).collect()
}
