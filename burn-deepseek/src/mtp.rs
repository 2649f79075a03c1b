//! Multi-Token Prediction: sequential modules that predict further tokens and keep the causal chain
//! (2.2).

use burn::module::Module;
use burn::tensor::{Int, Tensor, assert_shape};

use crate::attention::LatentCache;
use crate::precision::Operation;
use crate::{Block, DeepSeekConfig, Embedding, Linear, Pass, RmsNorm, WeightInit};

/// Module `k` of the chain: `h^k = block(eh_proj [enorm(Emb(t_{i+k})) ; hnorm(h^{k-1}_i)])`, then
/// its own norm and the shared head.
///
/// Released weights and the libraries that load them put the embedding first and chain the
/// *post-norm* hidden state, the opposite of the report's Eq. 21; so does this.
#[derive(Module, Debug)]
pub struct MtpModule {
    /// Norm of the next token's embedding.
    pub enorm: RmsNorm,
    /// Norm of the previous depth's hidden state.
    pub hnorm: RmsNorm,
    /// `2 d -> d`, embedding first.
    pub eh_proj: Linear,
    /// The module's transformer layer.
    pub block: Block,
    /// Norm before the head, which is the main model's.
    pub norm: RmsNorm,
}

impl MtpModule {
    /// Module number `k`, counted from 0; its layer index is `num_hidden_layers + k`.
    pub fn new(config: &DeepSeekConfig, k: usize, init: &mut WeightInit) -> Self {
        let (d, eps) = (config.hidden_size, config.rms_norm_eps);
        Self {
            enorm: RmsNorm::new(d, eps, init),
            hnorm: RmsNorm::new(d, eps, init),
            eh_proj: Linear::new(2 * d, d, false, init),
            block: Block::new(config, config.num_hidden_layers + k, init),
            norm: RmsNorm::new(d, eps, init),
        }
    }

    /// Hidden states of this depth, after its norm.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, seq, d]`, post-norm, of the depth before; embedded: `[batch, seq, d]`, of
    ///   the tokens `k` further on
    /// - output: `[batch, seq, d]`
    pub fn forward(
        &self,
        hidden: Tensor<3>,
        embedded: Tensor<3>,
        pass: &mut Pass,
        cache: Option<&mut LatentCache>,
    ) -> Tensor<3> {
        let [batch, seq, d] = hidden.dims();
        assert_shape!(embedded, [batch, seq, d]);
        let rows = |x: Tensor<3>| x.reshape([batch * seq, d]);
        let joined = Tensor::cat(
            vec![self.enorm.forward(rows(embedded)), self.hnorm.forward(rows(hidden))],
            1,
        );
        let h = pass.compute.linear(Operation::MtpProjection, joined, &self.eh_proj);
        let h = self.block.forward(h, pass, cache);
        self.norm.forward(h).reshape([batch, seq, d])
    }
}

/// Hidden states of each depth of a chain, post-norm: depth `k` has `seq - k` rows, and its row `i`
/// predicts token `i + k + 1`.
///
/// # Shapes
///
/// - tokens: `[batch, seq]`, hidden: `[batch, seq, d]` of the main model
pub(crate) fn chain(
    modules: &[MtpModule],
    embed_tokens: &Embedding,
    tokens: Tensor<2, Int>,
    hidden: Tensor<3>,
    pass: &mut Pass,
) -> Vec<Tensor<3>> {
    let [batch, seq, _] = hidden.dims();
    assert_shape!(tokens, [batch, seq]);
    let full_rope = pass.rope.clone();
    let mut depths: Vec<Tensor<3>> = Vec::with_capacity(modules.len());
    for (k, module) in (1..seq).zip(modules) {
        let previous = depths.last().unwrap_or(&hidden).clone().narrow(1, 0, seq - k);
        let embedded = embed_tokens.forward(tokens.clone().narrow(1, k, seq - k));
        pass.rope = full_rope.first(seq - k);
        depths.push(module.forward(previous, embedded, pass, None));
    }
    pass.rope = full_rope;
    depths
}
