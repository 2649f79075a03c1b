//! The whole model: embedding, layers, head and MTP modules.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use crate::attention::{LatentCache, RotaryEmbedding};
use crate::config::ConfigProblems;
use crate::moe::Router;
use crate::precision::ProductFormat;
use crate::{
    Block, Compute, DeepSeekConfig, Embedding, Linear, MtpModule, Pass, RmsNorm, Weight,
    WeightInit, mtp, ops,
};

/// A DeepSeek-V3 (or V2) language model.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_deepseek::{Compute, DeepSeek, DeepSeekConfig};
///
/// let config = DeepSeekConfig::from_hugging_face_json(
///     r#"{
///         "model_type": "deepseek_v3", "vocab_size": 64, "hidden_size": 16,
///         "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
///         "q_lora_rank": null, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
///         "v_head_dim": 8, "n_routed_experts": 0, "num_nextn_predict_layers": 0,
///         "max_position_embeddings": 32
///     }"#,
/// )?;
/// let device = Device::flex();
/// let model = DeepSeek::init(&config, 1, &device)?;
/// let tokens = Tensor::<2, Int>::from_data([[3, 1, 4, 1], [5, 9, 2, 6]], &device);
/// assert_eq!(model.forward(tokens.clone()).dims(), [2, 4, 64]);
///
/// // In steps: hidden states of a pass, whose precision and positions one may choose, then logits.
/// let mut pass = model.pass(0, 4, &Compute::f32());
/// let hidden = model.hidden(tokens, &mut pass, None);
/// assert_eq!(model.logits(hidden).dims(), [2, 4, 64]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Module, Debug)]
pub struct DeepSeek {
    /// Token embedding, `[vocab, d]`; the MTP modules read it too.
    pub embed_tokens: Embedding,
    /// The transformer layers.
    pub layers: Vec<Block>,
    /// Norm before the head.
    pub norm: RmsNorm,
    /// Output head, `d -> vocab`; none when it is tied to the embedding. The MTP modules use it
    /// too.
    pub lm_head: Option<Linear>,
    /// MTP modules, depth 1 first.
    pub mtp: Vec<MtpModule>,
    #[module(skip)]
    config: DeepSeekConfig,
    #[module(skip)]
    rotary: RotaryEmbedding,
}

impl DeepSeek {
    /// A model with weights from `init`.
    ///
    /// # Errors
    ///
    /// A config that does not describe a model, with every field that is wrong.
    pub fn new(config: &DeepSeekConfig, mut init: WeightInit) -> Result<Self, ConfigProblems> {
        config.validate()?;
        let (d, vocab) = (config.hidden_size, config.vocab_size);
        let init = &mut init;
        Ok(Self {
            embed_tokens: Embedding::new(vocab, d, init),
            layers: (0..config.num_hidden_layers)
                .map(|layer| Block::new(config, layer, init))
                .collect(),
            norm: RmsNorm::new(d, config.rms_norm_eps, init),
            lm_head: (!config.tie_word_embeddings).then(|| Linear::new(d, vocab, false, init)),
            mtp: (0..config.num_nextn_predict_layers)
                .map(|k| MtpModule::new(config, k, init))
                .collect(),
            config: config.clone(),
            rotary: RotaryEmbedding::new(config),
        })
    }

    /// A model with weights drawn from `N(0, initializer_range)`.
    ///
    /// # Errors
    ///
    /// As [`DeepSeek::new`].
    pub fn init(
        config: &DeepSeekConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ConfigProblems> {
        Self::new(config, WeightInit::normal(seed, config.initializer_range, device))
    }

    /// What the model is.
    pub fn config(&self) -> &DeepSeekConfig {
        &self.config
    }

    /// The rotation of its positions.
    pub fn rotary(&self) -> &RotaryEmbedding {
        &self.rotary
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.norm.weight.val().device()
    }

    /// A pass over `seq` positions from `start` on.
    pub fn pass(&self, start: usize, seq: usize, compute: &Compute) -> Pass {
        Pass::new(self.rotary.table(start, seq, &self.device()), compute.clone())
    }

    /// Hidden states after the last norm. `caches`, one a layer where given, hold the tokens before
    /// these.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, seq]`
    /// - output: `[batch, seq, d]`
    pub fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        pass: &mut Pass,
        caches: Option<&mut [LatentCache]>,
    ) -> Tensor<3> {
        let [batch, seq] = tokens.dims();
        if let Some(caches) = caches {
            return self.last_hidden(tokens, seq, pass, caches);
        }
        let mut x = self.embed(tokens, pass);
        for layer in &self.layers {
            x = layer.forward(x, pass, None);
        }
        self.last_norm(x, [batch, seq], pass)
    }

    /// [`hidden`](Self::hidden) of the last `rows` tokens of each sequence, where nobody wants the
    /// others: the last layer computes no more of those than what its cache keeps.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, seq]`, `rows` from 1 to `seq`
    /// - output: `[batch, rows, d]`
    pub fn last_hidden(
        &self,
        tokens: Tensor<2, Int>,
        rows: usize,
        pass: &mut Pass,
        caches: &mut [LatentCache],
    ) -> Tensor<3> {
        let [batch, seq] = tokens.dims();
        assert_eq!(caches.len(), self.layers.len(), "invariant: one cache a layer");
        let mut x = self.embed(tokens, pass);
        for (index, (layer, cache)) in self.layers.iter().zip(caches).enumerate() {
            let is_last = index + 1 == self.layers.len();
            x = match is_last && rows < seq {
                true => layer.forward_last(x, rows, pass, cache),
                false => layer.forward(x, pass, Some(cache)),
            };
        }
        self.last_norm(x, [batch, rows], pass)
    }

    /// Rows of the embedding, `[batch * seq, d]`.
    fn embed(&self, tokens: Tensor<2, Int>, pass: &mut Pass) -> Tensor<2> {
        let embedded = self.embed_tokens.forward(tokens);
        let [batch, seq, d] = embedded.dims();
        let x = embedded.reshape([batch * seq, d]);
        pass.record(|| "embed".into(), &x);
        x
    }

    /// The norm before the head.
    fn last_norm(&self, x: Tensor<2>, [batch, seq]: [usize; 2], pass: &mut Pass) -> Tensor<3> {
        let hidden = self.norm.forward(x);
        pass.record(|| "final_norm".into(), &hidden);
        let [_, d] = hidden.dims();
        hidden.reshape([batch, seq, d])
    }

    /// Hidden states of each MTP depth, post-norm: depth `k` has `seq - k` rows, and its row `i`
    /// predicts token `i + k + 1`.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, seq]`, hidden: `[batch, seq, d]` of the main model
    pub fn mtp_hidden(
        &self,
        tokens: Tensor<2, Int>,
        hidden: Tensor<3>,
        pass: &mut Pass,
    ) -> Vec<Tensor<3>> {
        mtp::chain(&self.mtp, &self.embed_tokens, tokens, hidden, pass)
    }

    /// The head's weight, `[vocab, d]`: its own, or the embedding's when tied.
    pub fn head_weight(&self) -> &Weight<2> {
        self.lm_head.as_ref().map_or(&self.embed_tokens.weight, |head| &head.weight)
    }

    /// Logits of hidden states, in FP32.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, seq, d]`
    /// - output: `[batch, seq, vocab]`
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let [batch, seq, d] = hidden.dims();
        let rows = hidden.reshape([batch * seq, d]);
        let logits = match self.head_weight() {
            Weight::Parameter(w) => ops::linear(rows, w.val(), None, ProductFormat::F32),
            Weight::Stored(w) => ops::stored::linear(rows, w),
        };
        let [_, vocab] = logits.dims();
        logits.reshape([batch, seq, vocab])
    }

    /// Logits of tokens, from an empty context, in FP32.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, seq]`
    /// - output: `[batch, seq, vocab]`
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [_, seq] = tokens.dims();
        let hidden = self.hidden(tokens, &mut self.pass(0, seq, &Compute::f32()), None);
        self.logits(hidden)
    }

    /// The balance bias of each MoE layer as the host sees it, one number an expert (MTP modules
    /// last).
    pub fn balance_biases(&self) -> Vec<Vec<f32>> {
        let blocks = self.layers.iter().chain(self.mtp.iter().map(|module| &module.block));
        blocks.filter_map(Block::router).map(Router::bias).collect()
    }

    /// The routers, with the index of their layer (MTP modules last).
    pub fn routers_mut(&mut self) -> impl Iterator<Item = (usize, &mut Router)> {
        let blocks =
            self.layers.iter_mut().chain(self.mtp.iter_mut().map(|module| &mut module.block));
        blocks.filter_map(Block::router_mut)
    }
}
