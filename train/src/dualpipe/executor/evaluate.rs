//! Held-out micro-batches measured where the weights are: each goes forward through the stages of
//! one pipeline, without a backward pass, and its losses come from the last.
//!
//! Rows of experts travel in FP32 and straight, whatever a step sends them in, so that an
//! evaluation has the losses of the whole model on one device.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use burn_deepseek::ops::wire::WireFormat;
use burn_deepseek::{LossWeights, ops};

use super::chunk::Measured;
use super::cluster::Cluster;
use super::rank::Rank;
use super::rank_threads::RankThreads;
use super::report::{StageReport, Unread, micro_batch_reports};
use super::routings::{Chosen, told};
use crate::data::TokenBatch;
use crate::failure::Result;
use crate::learner::StepReport;
use crate::parallel::{
    ExpertParallelGroup, Packed, PipelineScheduleKind, Subject, Unpacking, WireFormats, packed,
};

/// Micro-batches that a pipeline measures at once, for each of its ranks: as many keep most of them
/// busy.
const AT_ONCE: usize = 4;

/// Rows as they are.
const PLAIN: WireFormats = WireFormats { dispatch: WireFormat::F32, combine: WireFormat::F32 };

/// What ranks measure.
#[derive(Clone, Debug)]
pub(super) struct EvaluationJob {
    schedule: PipelineScheduleKind,
    ranks: usize,
    /// Micro-batches of each pipeline, in order.
    batches: Arc<Vec<Vec<TokenBatch>>>,
    weights: LossWeights,
}

impl EvaluationJob {
    /// The same for the ranks of one pipeline, which need no other's micro-batches.
    pub fn for_rank(&self, rank: usize) -> Self {
        let pipeline = rank / self.ranks;
        let own = |(number, batches): (usize, &Vec<TokenBatch>)| {
            if number == pipeline { batches.clone() } else { Vec::new() }
        };
        let batches = Arc::new(self.batches.iter().enumerate().map(own).collect());
        Self { batches, ..self.clone() }
    }

    /// The rank of a pipeline that has a stage of a micro-batch; where a pipeline runs in both
    /// directions, micro-batches take them in turn.
    fn rank_of(&self, micro_batch: usize, stage: usize) -> usize {
        self.schedule.rank_of(micro_batch % 2, stage, self.ranks)
    }
}

/// What a rank measured.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub stages: Vec<StageReport>,
    /// What its routers chose, where somebody in another process asked.
    chosen: Vec<Chosen>,
}

packed!(Evaluated { stages, chosen });

impl Packed for EvaluationJob {
    fn pack(&self, into: &mut Vec<u8>) {
        self.schedule.name().to_owned().pack(into);
        self.ranks.pack(into);
        self.batches.pack(into);
        self.weights.pack(into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        let schedule = String::unpack(from)?.parse().ok()?;
        let ranks = Packed::unpack(from)?;
        let (batches, weights) = (Arc::new(Packed::unpack(from)?), Packed::unpack(from)?);
        Some(Self { schedule, ranks, batches, weights })
    }
}

/// How many micro-batches the ranks of a cluster measure at once.
pub(super) fn at_once(cluster: &Cluster) -> usize {
    cluster.axes.ranks() * AT_ONCE
}

/// Measures micro-batches; their reports in the same order.
///
/// # Errors
///
/// A rank that failed.
pub(super) fn evaluated(
    ranks: &RankThreads,
    cluster: &Cluster,
    batches: &[TokenBatch],
    weights: &LossWeights,
) -> Result<Vec<StepReport>> {
    let Some(last) = batches.last() else { return Ok(Vec::new()) };
    let (axes, pipelines) = (cluster.axes, cluster.axes.pipelines());
    let rounds = batches.len().div_ceil(pipelines);
    // Ranks that share experts go through the layers together: where micro-batches run out, the
    // last is measured once more and counts once.
    let of_pipeline = |pipeline: usize| {
        let own = (0..rounds).map(|round| batches.get(round * pipelines + pipeline));
        let own = own.filter_map(|batch| batch.or((axes.expert > 1).then_some(last)));
        own.cloned().collect()
    };
    let job = EvaluationJob {
        schedule: cluster.schedule,
        ranks: axes.pipeline,
        batches: Arc::new((0..pipelines).map(of_pipeline).collect()),
        weights: *weights,
    };
    let of_pipelines = job.batches.clone();
    let mut reports: BTreeMap<usize, Vec<StageReport>> = BTreeMap::new();
    for (rank, Evaluated { stages, chosen }) in ranks.each(job)?.into_iter().enumerate() {
        let pipeline = axes.pipeline_of(rank);
        told(&of_pipelines[pipeline], chosen);
        for stage in stages {
            let index = stage.micro_batch * pipelines + pipeline;
            reports.entry(index).or_default().push(stage);
        }
    }
    let of_batches = reports.into_values().take(batches.len());
    Ok(micro_batch_reports(of_batches, weights, &last.inputs.device()))
}

impl Rank {
    /// Measures the rank's stages of its pipeline's micro-batches.
    ///
    /// # Errors
    ///
    /// Another rank that failed, or is late.
    pub fn evaluate(&self, job: &EvaluationJob) -> Result<Evaluated> {
        let batches = &job.batches[self.first_rank / job.ranks];
        let experts = self.experts.as_ref().map(|group| {
            Arc::new(ExpertParallelGroup {
                post: group.post.clone(),
                members: group.members.clone(),
                index: group.index,
                formats: PLAIN,
                members_a_node: group.members.len(),
                traffic: Arc::default(), // no step's
                token: Default::default(),
            })
        });
        let own = self.place.rank - self.first_rank;
        let mut passes: Vec<(usize, usize)> = (0..batches.len())
            .flat_map(|micro_batch| (0..self.stages.len()).map(move |stage| (micro_batch, stage)))
            .filter(|&(micro_batch, stage)| job.rank_of(micro_batch, stage) == own)
            .collect();
        // A stage waits for the one before it alone, whose place in this order is lower on whatever
        // rank: so nobody waits for somebody who waits for him.
        passes.sort_by_key(|&(micro_batch, stage)| (micro_batch + stage, micro_batch));
        let pass = |(micro_batch, stage)| {
            let measured = self.measured(job, (micro_batch, stage), experts.as_ref())?;
            self.post.sign_of_life();
            Ok(Unread { micro_batch, tokens: batches[micro_batch].tokens, measured })
        };
        let stages = StageReport::read(passes.into_iter().map(pass).collect::<Result<_>>()?);
        let _not_of_a_step = self.post.take_mail(self.place.rank);
        Ok(Evaluated { stages, chosen: self.chosen(batches) })
    }

    /// Runs a stage of a micro-batch forward, and sends what comes out of it.
    fn measured(
        &self,
        job: &EvaluationJob,
        (micro_batch, stage): (usize, usize),
        experts: Option<&Arc<ExpertParallelGroup>>,
    ) -> Result<Measured> {
        let rank_of = |stage| self.first_rank + job.rank_of(micro_batch, stage);
        let activations = |stage| Subject::Activations { micro_batch, stage };
        let (own, device) = (self.place.rank, &self.device);
        let input: Option<Tensor<2>> = match stage {
            0 => None,
            _ => {
                let from = rank_of(stage - 1);
                Some(self.post.receive(from, own, activations(stage), device)?)
            }
        };
        let compute = self.compute_with(experts, micro_batch);
        let batch = &job.batches[self.first_rank / job.ranks][micro_batch];
        let on_device = |x: &Tensor<2, Int>| ops::moved(x.clone(), device);
        let (tokens, targets) = (on_device(&batch.inputs), on_device(&batch.targets));
        let part = self.part.stage(&self.stages[stage]);
        let mut output =
            part.forward(input, tokens, targets, &job.weights, &batch.asking(&compute));
        if let Some(rows) = output.hidden.take() {
            let (to, next) = (rank_of(stage + 1), stage + 1);
            self.post.send(own, to, activations(next), rows, &self.devices[to]);
        }
        Ok(Measured::of(output))
    }
}
