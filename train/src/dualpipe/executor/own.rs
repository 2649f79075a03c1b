//! A rank that makes its own part of the model: it draws or reads what it holds, and nothing else.

use std::fmt;
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn_deepseek::ModelPart;
use burn_deepseek::weights::HeldParameter;

use super::cluster::Cluster;
use super::rank::Rank;
use super::start::Cut;
use crate::data::TrainWindows;
use crate::failure::Result;
use crate::learner::{AdamW, AdamWSettings, EngineSettings, LanguageModel};
use crate::parallel::{Processes, Reduction, TrafficCounter};

/// Reads what a rank holds into its part, and the moments of what it owns; tells the last argument
/// of each that was read.
pub type Fill = Box<
    dyn FnOnce(
            ModelPart,
            &[HeldParameter],
            &[HeldParameter],
            &mut dyn FnMut(),
        ) -> Result<(ModelPart, AdamW)>
        + Send,
>;

/// Reads what a rank owns of an average into a part of its shapes; tells the last argument of each
/// parameter that was read.
pub type FillAverage =
    Box<dyn FnOnce(ModelPart, &[HeldParameter], &mut dyn FnMut()) -> Result<ModelPart> + Send>;

/// How the average of the weights that a rank owns begins.
pub enum OwnAverage {
    /// With the weights.
    Weights,
    /// As it was.
    Read(FillAverage),
}

/// What a rank of several processes begins with.
pub struct OwnPart {
    /// The whole model, on the rank's device, of which nothing is made unless it is asked for; the
    /// MoE layers may have the rank's experts alone
    /// ([`WeightInit::part`](burn_deepseek::WeightInit::part)).
    pub structure: LanguageModel,
    /// How it updates what it owns.
    pub optimizer: AdamWSettings,
    /// The text, of a rank that needs it: one with an end of the model.
    pub text: Option<TrainWindows>,
    /// Where its weights are read from; none where `structure` draws them.
    pub fill: Option<Fill>,
    /// How the average begins, where one is kept.
    pub average: Option<OwnAverage>,
}

impl fmt::Debug for OwnPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnPart").field("structure", &self.structure).finish_non_exhaustive()
    }
}

/// A rank of this process.
///
/// # Errors
///
/// A model with fewer layers than stages, a precision that the device does not have, weights that
/// cannot be read.
pub(super) fn own_rank(
    number: usize,
    own: OwnPart,
    processes: &Arc<Processes>,
    cluster: &Cluster,
    settings: EngineSettings,
    traffic: &Arc<TrafficCounter>,
) -> Result<Rank> {
    let OwnPart { structure, optimizer, text, fill, average } = own;
    let post = &processes.post;
    let cut = Cut::new(&structure, cluster)?;
    let shards = cut.shards.clone();
    let part = cut.part(cluster, number);
    let optimizer = AdamW::new(optimizer);
    let mut rank = cut.rank(number, part, optimizer, cluster, settings, post, traffic)?;
    // What is drawn or read from here on is the rank's alone.
    drop(structure);
    rank.text = text;
    rank.collective = (cluster.reduction == Reduction::Collective).then(|| processes.clone());
    let mut made = || post.sign_of_life();
    let owned: Vec<HeldParameter> = shards.owned_by(number).map(Into::into).collect();
    if let Some(fill) = fill {
        let held: Vec<HeldParameter> = shards.held_by(number).map(Into::into).collect();
        let (part, optimizer) = fill(rank.take_part(), &held, &owned, &mut made)?;
        (rank.part, rank.optimizer) = (part, optimizer);
    }
    rank.part.visit(&mut Making(&mut made));
    match average {
        None => {}
        Some(OwnAverage::Weights) => rank.begin_average(&rank.part.clone()),
        Some(OwnAverage::Read(fill)) => {
            let part = fill(rank.part.clone(), &owned, &mut made)?;
            rank.begin_average(&part);
        }
    }
    Ok(rank)
}

/// Makes what has not been made.
struct Making<'a>(&'a mut dyn FnMut());

impl ModuleVisitor for Making<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        drop(param.val());
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};
    use std::time::Duration;

    use burn::module::ParamId;
    use burn::tensor::Device;
    use burn_deepseek::ops::wire::WireFormat;
    use burn_deepseek::weights::parameter_ids;
    use burn_deepseek::{Compute, DeepSeek, LossWeights, WeightInit};

    use super::super::flat::flat_values;
    use crate::config::resolve_model;
    use crate::learner::MomentFormat;
    use crate::parallel::{Axes, PipelineScheduleKind, Post, WireFormats};

    const RANKS: usize = 4;

    fn cluster(device: &Device) -> Cluster {
        Cluster {
            axes: Axes { pipeline: 2, expert: 2, data: 1 },
            schedule: PipelineScheduleKind::OneFOneB,
            ranks: vec![("flex".into(), device.clone()); RANKS],
            formats: WireFormats { dispatch: WireFormat::F32, combine: WireFormat::F32 },
            reduction: Reduction::RankOrder,
            members_a_node: 2,
            timeout: Duration::from_secs(1),
            timeline: None,
            processes: None,
        }
    }

    fn language_model(model: DeepSeek) -> LanguageModel {
        let weights = LossWeights { mtp: 0.3, sequence_balance: 1e-4 };
        LanguageModel::new(model, weights, 1, Compute::f32())
    }

    /// Weights (vectors aside, which are made with the model) that have been made.
    fn made(model: &DeepSeek) -> HashSet<ParamId> {
        #[derive(Default)]
        struct Made(HashSet<ParamId>);
        impl ModuleVisitor for Made {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if D > 1 && param.is_initialized() {
                    self.0.insert(param.id);
                }
            }
        }
        let mut made = Made::default();
        model.visit(&mut made);
        made.0
    }

    /// Each rank has the whole model's numbers, and of what others hold not one was made; all of
    /// them know the same shards.
    #[test]
    fn a_rank_makes_what_it_holds_and_nothing_else() {
        let device = Device::flex();
        let model = resolve_model(Some("tiny"), None, &[]).unwrap();
        let whole = DeepSeek::init(&model, 3, &device).unwrap();
        let cluster = cluster(&device);
        let values = flat_values(&whole);
        let by_path: HashMap<String, Vec<f32>> = parameter_ids(&whole)
            .into_iter()
            .map(|(path, (id, _))| (path, values[&id].clone().into_data()))
            .map(|(path, data)| (path, data.try_into_vec_as().unwrap()))
            .collect();
        let whole = language_model(whole);
        let all = Cut::new(&whole, &cluster).unwrap().shards;
        let (mut owned, mut experts_only) = (0, 0);
        for number in 0..RANKS {
            let processes =
                Processes::played(number, RANKS, Arc::new(Post::new(Duration::from_secs(1))));
            let experts = model.n_routed_experts / 2;
            let first = cluster.axes.place(number).expert * experts;
            let init =
                WeightInit::part(3, model.initializer_range, &device, first..first + experts);
            let structure = DeepSeek::new(&model, init).unwrap();
            let watched = structure.clone();
            let own = OwnPart {
                structure: language_model(structure),
                optimizer: AdamWSettings {
                    beta1: 0.9,
                    beta2: 0.95,
                    eps: 1e-20,
                    weight_decay: 0.1,
                    clip_grad_norm: None,
                    moments: MomentFormat::F32,
                },
                text: None,
                fill: None,
                average: None,
            };
            let settings = EngineSettings { micro_batch: 1, seq_len: 16, recompute: false };
            let traffic = Arc::new(TrafficCounter::default());
            let rank = own_rank(number, own, &processes, &cluster, settings, &traffic).unwrap();
            let made = made(&watched);
            let mut held = HashSet::new();
            let mut values = flat_values(&rank.part);
            for shard in rank.shards.held_by(number) {
                let got: Vec<f32> =
                    values.remove(&shard.id).unwrap().into_data().try_into_vec_as().unwrap();
                let want = &by_path[&shard.path];
                assert_eq!(got, want[shard.elements.clone()], "rank {number}: {}", shard.path);
                experts_only += usize::from(got.len() < want.len());
                owned += if shard.owner == number { got.len() } else { 0 };
                held.insert(shard.id);
            }
            assert!(values.is_empty(), "the rank has more than it holds");
            assert!(
                !made.is_empty() && made.is_subset(&held),
                "rank {number} made others' weights"
            );
            for (own, of_whole) in rank.shards.0.iter().zip(&all.0) {
                assert_eq!(
                    (own.index, own.owner, &own.holders, &own.path, &own.elements),
                    (
                        of_whole.index,
                        of_whole.owner,
                        &of_whole.holders,
                        &of_whole.path,
                        &of_whole.elements
                    )
                );
            }
            assert_eq!(rank.shards.0.len(), all.0.len());
        }
        assert!(experts_only > 0);
        assert_eq!(owned, by_path.values().map(Vec::len).sum::<usize>(), "each has one owner");
    }
}
