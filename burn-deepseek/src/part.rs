//! A part of a model: some of its layers and perhaps its ends, which is what one rank of a pipeline
//! holds (3.2).

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Int, Tensor, assert_shape};

use crate::attention::RotaryEmbedding;
use crate::loss::{LossHead, PartialLoss, balance_of};
use crate::moe::Router;
use crate::{
    Block, Compute, DeepSeek, DeepSeekConfig, Embedding, FeedForward, LayerRouting, Linear,
    LossWeights, MtpModule, Pass, RmsNorm,
};

/// Consecutive layers of a model, with what comes before the first and after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Indices of the layers; may be empty.
    pub layers: Range<usize>,
    /// Whether it begins with the embedding.
    pub begins: bool,
    /// Whether it ends with the last norm, the head, the MTP modules and the losses.
    pub ends: bool,
}

/// What follows the last layer.
#[derive(Module, Debug)]
pub struct ModelEnd {
    /// Norm before the head.
    pub norm: RmsNorm,
    /// Output head; none when it is tied to the embedding.
    pub lm_head: Option<Linear>,
    /// MTP modules, depth 1 first.
    pub mtp: Vec<MtpModule>,
}

/// Some layers of a model and perhaps its ends. Parameters have the ids that they have in the
/// whole.
#[derive(Module, Debug)]
pub struct ModelPart {
    /// The token embedding, where a stage begins with it, or MTP modules or a tied head need it.
    pub embed_tokens: Option<Embedding>,
    /// Layers in ascending order, not necessarily consecutive.
    pub layers: Vec<Block>,
    /// The end of the model.
    pub end: Option<ModelEnd>,
    #[module(skip)]
    config: DeepSeekConfig,
    #[module(skip)]
    rotary: RotaryEmbedding,
}

/// What a stage gives.
#[derive(Debug)]
pub struct StageOutput {
    /// Rows for the next stage, `[batch * seq, d]`; none of the last.
    pub hidden: Option<Tensor<2>>,
    /// Mean cross entropy of the next token, `[1]`; of the last stage alone.
    pub main: Option<Tensor<1>>,
    /// Mean cross entropy of each MTP depth, `[1]` each; of the last stage alone.
    pub mtp: Vec<Tensor<1>>,
    /// Sequence-wise balance loss of each MoE layer of the stage at alpha = 1, `[1]` each.
    pub balances: Vec<Tensor<1>>,
    /// The stage's own terms of the loss, weighted and summed, `[1]`: to be differentiated beside
    /// the gradient of `hidden`.
    pub loss: Option<Tensor<1>>,
    /// Routing of the stage's MoE layers, MTP modules last.
    pub routings: Vec<LayerRouting>,
}

impl ModelPart {
    /// The part of `model` that computes `stages`, with the experts of the range alone in each MoE
    /// layer.
    pub fn new(model: &DeepSeek, stages: &[Stage], experts: Range<usize>) -> Self {
        let config = model.config();
        let ends = stages.iter().any(|stage| stage.ends);
        let embeds = stages.iter().any(|stage| stage.begins)
            || (ends && (config.tie_word_embeddings || !model.mtp.is_empty()));
        let in_stages =
            |block: &&Block| stages.iter().any(|stage| stage.layers.contains(&block.layer));
        let block = |block: &Block| with_experts(block.clone(), experts.clone());
        let mtp = |module: &MtpModule| MtpModule { block: block(&module.block), ..module.clone() };
        Self {
            embed_tokens: embeds.then(|| model.embed_tokens.clone()),
            layers: model.layers.iter().filter(in_stages).map(block).collect(),
            end: ends.then(|| ModelEnd {
                norm: model.norm.clone(),
                lm_head: model.lm_head.clone(),
                mtp: model.mtp.iter().map(mtp).collect(),
            }),
            config: config.clone(),
            rotary: model.rotary().clone(),
        }
    }

    /// What the whole model is.
    pub fn config(&self) -> &DeepSeekConfig {
        &self.config
    }

    /// The part of this part that computes one of its stages.
    pub fn stage(&self, stage: &Stage) -> Self {
        let needs_embedding = stage.begins
            || (stage.ends
                && (self.config.tie_word_embeddings || self.config.num_nextn_predict_layers > 0));
        Self {
            embed_tokens: self.embed_tokens.clone().filter(|_| needs_embedding),
            layers: self
                .layers
                .iter()
                .filter(|block| stage.layers.contains(&block.layer))
                .cloned()
                .collect(),
            end: self.end.clone().filter(|_| stage.ends),
            config: self.config.clone(),
            rotary: self.rotary.clone(),
        }
    }

    /// Runs the layers that are here: from `hidden`, or from the embedding where there is none, to
    /// the rows after the last layer, or to the losses where the end is here.
    ///
    /// # Shapes
    ///
    /// - tokens, targets: `[batch, seq]`; hidden: `[batch * seq, d]`
    pub fn forward(
        &self,
        hidden: Option<Tensor<2>>,
        tokens: Tensor<2, Int>,
        targets: Tensor<2, Int>,
        weights: &LossWeights,
        compute: &Compute,
    ) -> StageOutput {
        let [batch, seq] = tokens.dims();
        let d = self.config.hidden_size;
        let mut x = hidden.unwrap_or_else(|| {
            let embedding = self
                .embed_tokens
                .as_ref()
                .expect("invariant: a stage without input begins with the embedding");
            embedding.forward(tokens.clone()).reshape([batch * seq, d])
        });
        assert_shape!(x, [batch * seq, d]);
        let mut pass = Pass::new(self.rotary.table(0, seq, &x.device()), compute.clone());
        for layer in &self.layers {
            x = layer.forward(x, &mut pass, None);
        }
        let Some(end) = &self.end else {
            let balances: Vec<_> = pass.routings.iter().map(balance_of).collect();
            let loss = PartialLoss::new(None, balances.clone(), weights).total;
            return StageOutput {
                hidden: Some(x),
                main: None,
                mtp: Vec::new(),
                balances,
                loss,
                routings: pass.routings,
            };
        };
        let hidden = end.norm.forward(x).reshape([batch, seq, d]);
        let (main, mtp) =
            self.head(end).cross_entropies(hidden, tokens, targets, weights, &mut pass);
        let balances: Vec<_> = pass.routings.iter().map(balance_of).collect();
        let loss = PartialLoss::new(Some((main.clone(), &mtp)), balances.clone(), weights).total;
        StageOutput { hidden: None, main: Some(main), mtp, balances, loss, routings: pass.routings }
    }

    /// The routers, with the index of their layer (MTP modules last).
    pub fn routers_mut(&mut self) -> impl Iterator<Item = (usize, &mut Router)> {
        let mtp =
            self.end.iter_mut().flat_map(|end| end.mtp.iter_mut().map(|module| &mut module.block));
        self.layers.iter_mut().chain(mtp).filter_map(Block::router_mut)
    }

    fn head<'a>(&'a self, end: &'a ModelEnd) -> LossHead<'a> {
        let embedding = self.embed_tokens.as_ref();
        let weight = match (&end.lm_head, embedding) {
            (Some(head), _) => &head.weight,
            (None, embedding) => {
                &embedding.expect("invariant: a tied head has its embedding").weight
            }
        };
        LossHead { embed_tokens: embedding, weight, mtp: &end.mtp }
    }
}

/// The block with the experts of the range alone.
fn with_experts(mut block: Block, range: Range<usize>) -> Block {
    if let FeedForward::Moe(moe) = &mut block.mlp {
        moe.experts.gate_up = moe.experts.gate_up.clone().with_experts(range.clone());
        moe.experts.down = moe.experts.down.clone().with_experts(range);
    }
    block
}
