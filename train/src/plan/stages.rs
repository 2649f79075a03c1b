//! Which part of a model each rank of a pipeline holds, and what that part costs a token.

use burn_deepseek::{DeepSeekConfig, Stage};

use super::work::{LayerWork, Work};
use super::workload::Workload;
use crate::parallel::cut;

/// The stages of a model, and the ranks that hold them.
#[derive(Clone, Debug)]
pub(super) struct Stages {
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// What a token costs in each, forward.
    pub work: Vec<LayerWork>,
    /// Layers of each, MTP modules included.
    pub layers: Vec<usize>,
    /// MoE layers of each, those of MTP modules included.
    pub moe_layers: Vec<usize>,
    /// The stages of each rank, one or two.
    pub of_rank: Vec<Vec<usize>>,
    /// Ranks of a pipeline that hold a stage: two in DualPipe, whose model is there twice.
    pub holders: usize,
}

impl Stages {
    /// Cuts the model of a workload that has no problems.
    pub fn new(model: &DeepSeekConfig, workload: &Workload) -> Self {
        let (kind, ranks) = (workload.schedule, workload.axes.pipeline);
        let count = kind.stages(ranks);
        let stages = cut(model, count, count / ranks)
            .expect("invariant: a workload without problems has stages");
        let work = Work::new(model, &workload.precision, workload.seq_len);
        let of_stage = |stage: &Stage| {
            let layers: LayerWork = stage.layers.clone().map(|layer| work.layers[layer]).sum();
            if stage.ends { layers + work.end } else { layers }
        };
        let moe = |stage: &Stage| {
            let own = stage.layers.clone().filter(|&layer| model.is_moe_layer(layer)).count();
            if stage.ends { own + model.moe_mtp_modules() } else { own }
        };
        Self {
            work: stages.iter().map(of_stage).collect(),
            layers: stages
                .iter()
                .map(|stage| {
                    stage.layers.len() + if stage.ends { model.num_nextn_predict_layers } else { 0 }
                })
                .collect(),
            moe_layers: stages.iter().map(moe).collect(),
            stages,
            of_rank: (0..ranks)
                .map(|rank| kind.stages_of(rank, ranks).into_iter().flatten().collect())
                .collect(),
            holders: kind.parameter_copies(),
        }
    }
}
