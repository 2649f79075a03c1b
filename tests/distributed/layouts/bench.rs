//! A small model trained for some steps, on one device or over ranks, and what is compared of them.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use burn::data::dataloader::batcher::Batcher;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};
use burn_deepseek::{Compute, DeepSeek, DeepSeekConfig, Precision, WeightInit};
use deepseek_train::config::RunConfig;
use deepseek_train::data::{DataConfig, TokenBatcher, TokenData};
use deepseek_train::dualpipe::{Cluster, Follower, OwnPart, Pipelines};
use deepseek_train::learner::{
    AdamW, AdamWSettings, EngineSettings, LanguageModel, MomentFormat, SingleDevice, StepEngine,
    StepReport,
};
use deepseek_train::parallel::{
    Axes, Carrier, Letter, PipelineScheduleKind, Post, Processes, Reduction, WireFormats,
};

const SEQ_LEN: usize = 16;

/// Every part of DeepSeek-V3, and a layer for each stage of four ranks with two.
fn config() -> RunConfig {
    let text = format!(
        "
        [model]
        vocab_size = 260
        hidden_size = 48
        intermediate_size = 64
        moe_intermediate_size = 40
        num_hidden_layers = 8
        num_attention_heads = 2
        n_shared_experts = 1
        n_routed_experts = 8
        num_experts_per_tok = 3
        n_group = 4
        topk_group = 2
        first_k_dense_replace = 1
        q_lora_rank = 16
        kv_lora_rank = 16
        qk_nope_head_dim = 8
        qk_rope_head_dim = 8
        v_head_dim = 8
        max_position_embeddings = 128
        num_nextn_predict_layers = 1
        initializer_range = 0.05

        [train]
        seq_len = {SEQ_LEN}
        micro_batch = 1
        steps = 1000

        [schedule]
        lr = 1e-3
        global_batch = 8
        mtp_lambda = 0.3
        seq_aux_alpha = 1e-4
        bias_update_speed = 1e-3
        "
    );
    RunConfig::from_toml(&text, "test").unwrap()
}

fn data(model: &DeepSeekConfig) -> TokenData {
    DataConfig { builtin_bytes: 40_000, ..DataConfig::default() }
        .open(SEQ_LEN, model.vocab_size)
        .unwrap()
}

/// A micro-batch is one sequence.
const ENGINE: EngineSettings =
    EngineSettings { micro_batch: 1, seq_len: SEQ_LEN, recompute: false };

/// The first moments are the gradients times this.
const FIRST: f64 = 0.1;

fn settings() -> AdamWSettings {
    AdamWSettings {
        beta1: 1.0 - FIRST,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        clip_grad_norm: None,
        moments: MomentFormat::F32,
    }
}

/// Held-out micro-batches that are measured after the last step.
const HELD_OUT: u64 = 7;

/// What is compared of some steps.
pub struct Course {
    /// Main, MTP and balance loss of each step.
    pub losses: Vec<[f64; 3]>,
    /// Gradients of the first step, parameter by parameter.
    pub gradients: Vec<Vec<f32>>,
    /// Weights after the last.
    pub weights: Vec<Vec<f32>>,
    /// Main, MTP and balance loss of held-out micro-batches with those weights.
    pub evaluated: Vec<[f64; 3]>,
    /// Balance biases of the routers.
    pub biases: Vec<Vec<f32>>,
}

/// A model that every layout trains from the same weights on the same data.
pub struct Bench {
    config: RunConfig,
    data: TokenData,
    model: DeepSeek,
    device: Device,
    precision: Precision,
}

/// How a step is spread over ranks.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub kind: PipelineScheduleKind,
    pub axes: Axes,
    pub chunks: usize,
}

/// A layout from its numbers.
pub const fn layout(
    kind: PipelineScheduleKind,
    pipeline: usize,
    expert: usize,
    data: usize,
    chunks: usize,
) -> Layout {
    Layout { kind, axes: Axes { pipeline, expert, data }, chunks }
}

impl Layout {
    pub fn micro_batches(&self) -> usize {
        self.chunks * self.axes.pipelines()
    }
}

/// Of the model's weights.
const SEED: u64 = 5;

/// Gives letters, which are bytes, to the post office of whoever they are for.
struct Bytes {
    rank: usize,
    offices: Vec<Weak<Post>>,
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes(rank {})", self.rank)
    }
}

impl Carrier for Bytes {
    fn carries_to(&self, rank: usize) -> bool {
        rank != self.rank
    }

    fn carry(&self, letter: Letter) {
        if let Some(office) = self.offices[letter.to].upgrade() {
            office.deliver(letter);
        }
    }

    fn unheard(&self, _: Duration) -> Vec<usize> {
        Vec::new()
    }
}

impl Bench {
    /// The model on a device, to be trained in a precision.
    pub fn new(device: &Device, precision: Precision) -> Self {
        let config = config();
        let model = DeepSeek::init(&config.model, SEED, device).unwrap();
        Self { data: data(&config.model), model, config, device: device.clone(), precision }
    }

    fn language_model(&self) -> LanguageModel {
        to_be_trained(&self.config, self.precision, self.model.clone(), &self.device)
    }

    /// Steps on one device.
    pub fn sequential(&self, micro_batches: usize, steps: usize) -> Course {
        let engine = SingleDevice::new(self.language_model(), AdamW::new(settings()), ENGINE);
        self.course(Box::new(engine), micro_batches, steps)
    }

    /// Steps over ranks.
    pub fn over_ranks(&self, layout: Layout, wire: WireFormats, steps: usize) -> Course {
        let cluster = self.cluster(layout, wire, None);
        let engine =
            Pipelines::start(self.language_model(), AdamW::new(settings()), &cluster, ENGINE);
        self.course(Box::new(engine.unwrap()), layout.micro_batches(), steps)
    }

    /// Steps over ranks that are what processes are: each with a post office of its own, a part of
    /// the model that it has drawn by itself, and nothing but bytes between them.
    pub fn over_processes(&self, layout: Layout, wire: WireFormats, steps: usize) -> Course {
        let ranks = layout.axes.ranks();
        let offices: Vec<Arc<Post>> =
            (0..ranks).map(|_| Arc::new(Post::new(Duration::from_secs(60)))).collect();
        let processes: Vec<Arc<Processes>> = (0..ranks)
            .map(|rank| {
                let offices_of_all = offices.iter().map(Arc::downgrade).collect();
                offices[rank].carry_by(Arc::new(Bytes { rank, offices: offices_of_all }));
                Processes::played(rank, ranks, offices[rank].clone())
            })
            .collect();
        std::thread::scope(|scope| {
            for processes in &processes[1..] {
                let cluster = self.cluster(layout, wire, Some(processes.clone()));
                let own = vec![self.own_part(layout.axes, processes.number)];
                scope.spawn(move || {
                    let rank = Follower::new(processes, own, &cluster, ENGINE).unwrap();
                    rank.run(|_, _| {}).unwrap();
                });
            }
            let cluster = self.cluster(layout, wire, Some(processes[0].clone()));
            let shapes =
                DeepSeek::new(&self.config.model, WeightInit::zeros(&self.device)).unwrap();
            let shapes = to_be_trained(&self.config, self.precision, shapes, &self.device);
            let own = vec![self.own_part(layout.axes, 0)];
            let engine = Pipelines::lead(shapes, own, &cluster, ENGINE);
            let course = self.course(Box::new(engine.unwrap()), layout.micro_batches(), steps);
            processes[0].dismiss();
            course
        })
    }

    /// What a rank draws by itself.
    fn own_part(&self, axes: Axes, rank: usize) -> OwnPart {
        let (model, experts) = (&self.config.model, self.config.model.n_routed_experts);
        let own = experts / axes.expert;
        let first = axes.place(rank).expert * own;
        let init =
            WeightInit::part(SEED, model.initializer_range, &self.device, first..first + own);
        let structure = DeepSeek::new(model, init).unwrap();
        OwnPart {
            structure: to_be_trained(&self.config, self.precision, structure, &self.device),
            optimizer: settings(),
            text: None,
            fill: None,
            average: None,
        }
    }

    fn cluster(
        &self,
        layout: Layout,
        wire: WireFormats,
        processes: Option<Arc<Processes>>,
    ) -> Cluster {
        Cluster {
            axes: layout.axes,
            schedule: layout.kind,
            ranks: (0..layout.axes.ranks())
                .map(|rank| (format!("device {rank}"), self.device.clone()))
                .collect(),
            formats: wire,
            reduction: Reduction::RankOrder,
            members_a_node: layout.axes.expert,
            timeout: Duration::from_secs(60),
            timeline: None,
            processes,
        }
    }

    fn course(
        &self,
        mut engine: Box<dyn StepEngine>,
        micro_batches: usize,
        steps: usize,
    ) -> Course {
        let mut settings = self.config.schedule().unwrap().at(Default::default());
        settings.global_batch = micro_batches;
        let device = self.device.clone().autodiff();
        let mut sample = 0;
        let mut next = || {
            sample += 1;
            Ok(TokenBatcher::new(SEQ_LEN).batch(vec![self.data.train.window(sample - 1)], &device))
        };
        let mut course = Course {
            losses: Vec::new(),
            gradients: Vec::new(),
            weights: Vec::new(),
            evaluated: Vec::new(),
            biases: Vec::new(),
        };
        let measured = |report: StepReport| {
            let StepReport { loss, mtp_losses, balance_loss, .. } = report;
            [loss, mtp_losses[0], balance_loss]
        };
        for step in 0..steps {
            let report = engine.accumulate(&mut next, &settings, false).unwrap();
            engine.update(&settings, &report.layer_loads, false).unwrap();
            course.losses.push(measured(report));
            if step == 0 {
                let (model, optimizer) = engine.state().unwrap();
                // The routers' biases have none.
                let first = |id| {
                    Some(
                        optimizer
                            .moments()
                            .get(id)?
                            .first
                            .clone()
                            .into_data()
                            .try_to_vec::<f32>()
                            .unwrap(),
                    )
                };
                course.gradients = ids(&model.model).iter().filter_map(first).collect();
            }
        }
        // Before anything is put together, and a number of them that nothing divides.
        let held_out = (0..HELD_OUT).map(|index| {
            let windows = vec![self.data.train.window(1_000 + index)];
            TokenBatcher::new(SEQ_LEN).batch(windows, &self.device)
        });
        let reports = engine.evaluate(held_out.collect(), &settings.loss_weights()).unwrap();
        course.evaluated = reports.into_iter().map(measured).collect();
        course.biases = engine.balance_biases().unwrap();
        course.weights = values(&engine.model().unwrap().model);
        course
    }
}

fn to_be_trained(
    config: &RunConfig,
    precision: Precision,
    model: DeepSeek,
    device: &Device,
) -> LanguageModel {
    let weights = config.schedule().unwrap().at(Default::default()).loss_weights();
    LanguageModel::new(model, weights, 1, Compute::new(precision, device).unwrap())
}

fn ids(model: &DeepSeek) -> Vec<ParamId> {
    struct Ids(Vec<ParamId>);
    impl ModuleVisitor for Ids {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.id);
        }
    }
    let mut ids = Ids(Vec::new());
    model.visit(&mut ids);
    ids.0
}

fn values(model: &DeepSeek) -> Vec<Vec<f32>> {
    struct Values(Vec<Vec<f32>>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data().convert::<f32>().try_to_vec().unwrap());
        }
    }
    let mut values = Values(Vec::new());
    model.visit(&mut values);
    values.0
}
