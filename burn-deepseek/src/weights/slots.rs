//! The weights of a model that may stay as a checkpoint stores them, by the paths of their
//! parameters.

use crate::attention::Query;
use crate::definition::StoredWeight;
use crate::{Block, DeepSeek, FeedForward, Linear, Mlp, Weight};

/// A weight to be replaced.
pub(super) enum Slot<'a> {
    /// One matrix.
    Matrix(&'a mut Weight<2>),
    /// A matrix for each expert.
    Experts(&'a mut Weight<3>),
}

impl Slot<'_> {
    /// Puts a stored weight of the same dims in its place.
    pub fn fill(self, stored: StoredWeight) {
        match self {
            Self::Matrix(weight) => *weight = Weight::Stored(stored),
            Self::Experts(weight) => *weight = Weight::Stored(stored),
        }
    }
}

/// Everything that inputs are multiplied by, and the embedding, under the paths of
/// [`NamedSlice::parameter`](super::NamedSlice). Two weights stay parameters, as do all vectors:
/// a router's, whose choices are made in FP32, and `kv_b`, which absorbed decoding takes apart head
/// by head with each token. Together they are a hundredth of a model.
pub(super) fn slots(model: &mut DeepSeek) -> Vec<(String, Slot<'_>)> {
    let mut slots = Slots(Vec::new());
    slots.matrix("embed_tokens.weight".into(), &mut model.embed_tokens.weight);
    for (layer, block) in model.layers.iter_mut().enumerate() {
        slots.block(&format!("layers.{layer}"), block);
    }
    if let Some(head) = &mut model.lm_head {
        slots.linear("lm_head", head);
    }
    for (k, module) in model.mtp.iter_mut().enumerate() {
        slots.linear(&format!("mtp.{k}.eh_proj"), &mut module.eh_proj);
        slots.block(&format!("mtp.{k}.block"), &mut module.block);
    }
    slots.0
}

/// The list in the making.
struct Slots<'a>(Vec<(String, Slot<'a>)>);

impl<'a> Slots<'a> {
    fn matrix(&mut self, path: String, weight: &'a mut Weight<2>) {
        self.0.push((path, Slot::Matrix(weight)));
    }

    fn linear(&mut self, path: &str, linear: &'a mut Linear) {
        self.matrix(format!("{path}.weight"), &mut linear.weight);
    }

    fn mlp(&mut self, path: &str, mlp: &'a mut Mlp) {
        self.matrix(format!("{path}.gate_up"), &mut mlp.gate_up);
        self.matrix(format!("{path}.down"), &mut mlp.down);
    }

    fn block(&mut self, path: &str, block: &'a mut Block) {
        let (attention, mlp) = (format!("{path}.self_attn"), format!("{path}.mlp"));
        match &mut block.self_attn.query {
            Query::Direct(query) => self.linear(&format!("{attention}.query"), query),
            Query::Latent(query) => {
                self.linear(&format!("{attention}.query.q_a_proj"), &mut query.q_a_proj);
                self.linear(&format!("{attention}.query.q_b_proj"), &mut query.q_b_proj);
            }
        }
        let kv_a = &mut block.self_attn.kv_a_proj_with_mqa;
        self.linear(&format!("{attention}.kv_a_proj_with_mqa"), kv_a);
        self.linear(&format!("{attention}.o_proj"), &mut block.self_attn.o_proj);
        match &mut block.mlp {
            FeedForward::Dense(dense) => self.mlp(&mlp, dense),
            FeedForward::Moe(moe) => {
                let experts = &mut moe.experts;
                self.0
                    .push((format!("{mlp}.experts.gate_up"), Slot::Experts(&mut experts.gate_up)));
                self.0.push((format!("{mlp}.experts.down"), Slot::Experts(&mut experts.down)));
                if let Some(shared) = &mut moe.shared_experts {
                    self.mlp(&format!("{mlp}.shared_experts"), shared);
                }
            }
        }
    }
}
