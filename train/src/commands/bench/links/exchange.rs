//! The exchange of a layer: each rank's tokens to the experts of all ranks and back, by both routes,
//! beside the same work of a rank that has all experts.

use std::sync::Arc;

use burn::tensor::{Distribution, Tensor};
use burn_deepseek::definition::{DispatchedRows, ExpertDispatch, ExpertGroups};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::super::Repetitions;
use super::party::Party;
use crate::config::RunConfig;
use crate::failure::Result;
use crate::fold::Columns;
use crate::parallel::{ChunkExchange, ExpertParallelGroup, LinkBytes, WireFormats};

/// Seed of the tokens and of what they choose.
const SEED: u64 = 5;
/// Tokens of a rank, as shares of a micro-batch.
const SHARES: [usize; 3] = [16, 4, 1];

/// What is exchanged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// Of a micro-batch.
    pub tokens: usize,
    pub width: usize,
    pub experts: usize,
    pub top_k: usize,
    pub formats: WireFormats,
}

impl Rows {
    /// Those of a run; none where its model has no routed experts.
    pub fn of(config: &RunConfig, formats: WireFormats) -> Option<Self> {
        let (model, train) = (&config.model, &config.train);
        (model.moe_layers() + model.moe_mtp_modules() > 0).then(|| Self {
            tokens: train.micro_batch * train.seq_len,
            width: model.hidden_size,
            experts: model.n_routed_experts,
            top_k: model.num_experts_per_tok,
            formats,
        })
    }
}

/// One exchange, forward: dispatch and combine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub tokens: usize,
    pub two_hops: bool,
    pub us: f64,
    /// What a rank takes for the same rows where all of them stay with it.
    pub alone_us: f64,
    /// Bytes that a rank sends, in a node and between nodes; mean over ranks.
    pub fast_bytes: f64,
    pub slow_bytes: f64,
}

impl Exchange {
    /// Microseconds that are the way's own.
    pub fn way_us(&self) -> f64 {
        (self.us - self.alone_us).max(0.0)
    }
}

/// Times exchanges of growing numbers of tokens, straight and, with several nodes, in two hops.
pub(super) fn measure(party: &Party, rows: Rows, reps: Repetitions) -> Result<Vec<Exchange>> {
    let mut exchanges = Vec::new();
    let mut sizes = SHARES.map(|share| (rows.tokens / share).max(1)).to_vec();
    sizes.dedup();
    let times = reps.warmup.saturating_add(reps.timed) as f64;
    for tokens in sizes {
        let layer = Layer::new(party, rows, tokens);
        let alone_us = layer.timed(party, &layer.group(party, Route::Home), reps)?;
        let direct = layer.group(party, Route::Direct);
        let direct_us = layer.timed(party, &direct, reps)?;
        let mut row = |two_hops: bool, us: f64, links: LinkBytes| -> Result<()> {
            exchanges.push(Exchange {
                tokens,
                two_hops,
                us,
                alone_us,
                fast_bytes: party.mean(links.fast_bytes as f64 / times)?,
                slow_bytes: party.mean(links.slow_bytes as f64 / times)?,
            });
            Ok(())
        };
        if party.nodes() == 1 {
            row(false, direct_us, direct.traffic.take().sent)?;
        } else {
            let two_hops = layer.group(party, Route::TwoHops);
            let us = layer.timed(party, &two_hops, reps)?;
            // It knows of nodes, and what the direct route sends between them.
            let bytes = two_hops.traffic.take();
            row(false, direct_us, bytes.direct)?;
            row(true, us, bytes.sent)?;
        }
    }
    Ok(exchanges)
}

/// Where rows go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    /// Nowhere: this rank has all experts.
    Home,
    Direct,
    TwoHops,
}

/// The tokens of this rank.
struct Layer {
    x: Tensor<2>,
    gates: Tensor<2>,
    groups: ExpertGroups,
    formats: WireFormats,
}

impl Layer {
    fn new(party: &Party, rows: Rows, tokens: usize) -> Self {
        let Rows { width, experts, top_k, formats, .. } = rows;
        let mut rng = ChaCha8Rng::seed_from_u64(SEED + party.rank as u64);
        let choices: Vec<u32> = (0..tokens)
            .flat_map(|_| sample(&mut rng, experts, top_k).into_vec())
            .map(|expert| expert as u32)
            .collect();
        let device = party.device();
        Self {
            x: Tensor::random([tokens, width], Distribution::Normal(0.0, 1.0), device),
            gates: Tensor::random([tokens, top_k], Distribution::Uniform(0.0, 1.0), device),
            groups: ExpertGroups::new(&choices, top_k, experts),
            formats,
        }
    }

    fn group(&self, party: &Party, route: Route) -> Arc<ExpertParallelGroup> {
        let members: Vec<_> = match route {
            Route::Home => vec![(party.rank, party.device().clone())],
            _ => (0..party.ranks).map(|rank| (rank, party.device().clone())).collect(),
        };
        Arc::new(ExpertParallelGroup {
            post: party.post.clone(),
            index: if route == Route::Home { 0 } else { party.rank },
            members_a_node: if route == Route::TwoHops {
                party.ranks_a_node
            } else {
                members.len()
            },
            members,
            formats: self.formats,
            traffic: Arc::default(),
            token: Default::default(),
        })
    }

    /// Microseconds of an exchange, in which experts give rows back as they came.
    fn timed(
        &self,
        party: &Party,
        group: &Arc<ExpertParallelGroup>,
        reps: Repetitions,
    ) -> Result<f64> {
        party.timed(reps, |round| {
            let exchange = ChunkExchange::new(group.clone(), round);
            let DispatchedRows { rows, combine, .. } =
                exchange.dispatch(self.x.clone(), &self.groups, 0);
            drop(std::hint::black_box(combine(rows, self.gates.clone())));
            Ok(())
        })
    }
}

/// A row an exchange.
pub(super) fn text(exchanges: &[Exchange], width: usize) -> String {
    let mut table = Columns::new([
        "<exchange of a layer",
        "us",
        "of one rank, us",
        "KB in a node",
        "KB between nodes",
    ]);
    for exchange in exchanges {
        let Exchange { tokens, two_hops, us, alone_us, fast_bytes, slow_bytes } = exchange;
        let route = if *two_hops { "two hops" } else { "direct" };
        table.row([
            format!("{tokens} tokens, {route}"),
            format!("{us:.1}"),
            format!("{alone_us:.1}"),
            format!("{:.1}", fast_bytes / 1e3),
            format!("{:.1}", slow_bytes / 1e3),
        ]);
    }
    table.text(width)
}

/// The same for programs.
pub(super) fn results(exchanges: &[Exchange]) -> Value {
    let row = |exchange: &Exchange| {
        json!({
            "tokens": exchange.tokens,
            "route": if exchange.two_hops { "two hops" } else { "direct" },
            "us": exchange.us,
            "alone_us": exchange.alone_us,
            "fast_bytes": exchange.fast_bytes,
            "slow_bytes": exchange.slow_bytes,
        })
    };
    exchanges.iter().map(row).collect()
}
