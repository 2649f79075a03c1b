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
        self.feed_for(tokens, tokens.len())
    }

    /// [`feed`](Self::feed) for the hidden states of the last `rows` tokens alone, `[1, rows, d]`:
    /// of a prompt the last layer then computes little.
    pub fn feed_for(&mut self, tokens: &[u32], rows: usize) -> Tensor<3> {
        let mut pass = self.model.pass(self.len(), tokens.len(), &self.compute);
        let tokens = token_tensor(tokens, self.model);
        self.model.last_hidden(tokens, rows, &mut pass, &mut self.caches)
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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::DeepSeekConfig;

    fn model(query_latent: Option<usize>) -> DeepSeek {
        let json = format!(
            r#"{{
                "model_type": "deepseek_v3", "vocab_size": 61, "hidden_size": 24,
                "intermediate_size": 40, "moe_intermediate_size": 16, "num_hidden_layers": 3,
                "num_attention_heads": 2, "q_lora_rank": {}, "kv_lora_rank": 12,
                "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 10,
                "n_routed_experts": 6, "num_experts_per_tok": 2, "n_shared_experts": 1,
                "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
                "num_nextn_predict_layers": 0, "max_position_embeddings": 64
            }}"#,
            query_latent.map_or("null".into(), |rank| rank.to_string())
        );
        let config = DeepSeekConfig::from_hugging_face_json(&json).unwrap();
        DeepSeek::init(&config, 5, &Device::flex()).unwrap()
    }

    #[test]
    fn the_last_tokens_are_those_of_a_whole_pass_and_so_is_what_follows() {
        let tokens: Vec<u32> = (0..33).map(|i| i * 7 % 61).collect();
        for (form, query_latent) in [
            (AttentionForm::Auto, Some(10)),
            (AttentionForm::Absorbed, None),
            (AttentionForm::Expanded, Some(10)),
        ] {
            let model = model(query_latent);
            // After an empty cache and after a full one; absorbed and, of nine, expanded.
            for (before, rows) in [(0, 1), (0, 9), (7, 1), (7, 3), (7, 26)] {
                let mut whole = Decoder::new(&model, form);
                let mut last = Decoder::new(&model, form);
                if before > 0 {
                    whole.feed(&tokens[..before]);
                    last.feed(&tokens[..before]);
                }
                let [fed, next] = [&tokens[before..], &[3, 1]];
                let expected = whole.feed(fed).narrow(1, fed.len() - rows, rows);
                let found = last.feed_for(fed, rows);
                assert_eq!(found.dims(), [1, rows, 24]);
                let close = |a: Tensor<3>, b: Tensor<3>| {
                    let off = (a - b).abs().max().into_scalar::<f32>();
                    assert!(off < 2e-5, "{form:?}, {rows} rows after {before}: {off}");
                };
                close(found, expected);
                assert_eq!(last.len(), whole.len());
                close(last.feed(next), whole.feed(next));
            }
        }
    }

    #[test]
    fn the_last_tokens_of_every_sequence_of_a_batch() {
        let model = model(Some(10));
        let tokens =
            Tensor::<2, Int>::from_data([[1, 2, 3, 4, 5], [60, 50, 40, 30, 20]], &model.device());
        let caches = || vec![LatentCache::new(AttentionForm::Auto); model.layers.len()];
        let pass = || model.pass(0, 5, &Compute::f32());
        let whole = model.hidden(tokens.clone(), &mut pass(), Some(&mut caches()));
        let last = model.last_hidden(tokens, 2, &mut pass(), &mut caches());
        let off = (whole.narrow(1, 3, 2) - last).abs().max().into_scalar::<f32>();
        assert!(off < 2e-5, "{off}");
    }
}
