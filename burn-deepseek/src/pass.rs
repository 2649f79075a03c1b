//! What travels along one pass through the layers: the rope angles going in, the routing decisions
//! coming out.

use burn::tensor::{Int, Tensor};

use crate::Compute;
use crate::definition::{ExpertGroups, RopeTable};
use crate::to_host::to_host;

/// One MoE layer's routing of one pass.
#[derive(Clone, Debug)]
pub struct LayerRouting {
    /// Index of the layer; MTP module `k` (from 0) is `num_hidden_layers + k`.
    pub layer: usize,
    /// Sequences of the batch.
    pub batch: usize,
    /// Tokens a sequence.
    pub seq: usize,
    /// `x W` before the score function, `[tokens, n_routed_experts]`, FP32.
    pub logits: Tensor<2>,
    /// Scores after sigmoid or softmax, without the balance bias, `[tokens, n_routed_experts]`.
    pub scores: Tensor<2>,
    /// Chosen experts in ascending order, `[tokens, top_k]`.
    pub experts: Tensor<2, Int>,
    /// Gate values in the order of `experts`, `[tokens, top_k]`.
    pub weights: Tensor<2>,
    /// Rows sorted by the choice of `experts`.
    pub groups: ExpertGroups,
    /// For each sequence, how many tokens have each expert among the `top_k` best by unbiased score
    /// without group limit: `f_i` of the sequence-wise loss counts these (2.1.2, Eq. 18).
    pub unbiased_counts: SequenceCounts,
    /// Whether the scores of some token are so small that FP32 does not hold the square of their
    /// sum, or that all of them are 0; none where the device chooses and nobody has looked.
    pub underflow: Option<bool>,
    /// Mean over tokens of the entropy of the scores, normalized to a sum of 1, in nats; where the
    /// pass is [detailed](Compute::detailed).
    pub entropy: Option<f64>,
}

/// Numbers of tokens by sequence and expert, where they were counted.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // there is one a layer, and it is never moved about
pub enum SequenceCounts {
    /// On the host, `[batch * n_routed_experts]`.
    Host(Vec<u32>),
    /// On the device, without autodiff, `[batch, n_routed_experts]`.
    Device(Tensor<2, Int>),
}

impl SequenceCounts {
    /// `[batch * n_routed_experts]`; those of a device are read (one of the
    /// [`host_reads`](crate::ops::host_reads)).
    pub fn on_host(&self) -> Vec<u32> {
        match self {
            Self::Host(counts) => counts.clone(),
            Self::Device(counts) => to_host(counts.clone()).iter::<u32>().collect(),
        }
    }
}

/// State of one pass through the layers. All rows of a pass are tokens of its positions, sequence
/// by sequence.
#[derive(Debug)]
pub struct Pass {
    /// Angles of the positions that the pass covers.
    pub rope: RopeTable,
    /// How the pass computes.
    pub compute: Compute,
    /// Routing of each MoE layer passed so far.
    pub routings: Vec<LayerRouting>,
    /// Named intermediate values, kept when tracing.
    pub trace: Option<Vec<(String, Tensor<3>)>>,
    /// What a probe has found.
    probe: Option<Probe>,
}

/// What looks for the first intermediate value that is not finite.
#[derive(Debug, Default)]
struct Probe {
    /// Its name, as a trace would have it.
    found: Option<String>,
}

impl Pass {
    /// A pass over the positions of `rope`.
    pub fn new(rope: RopeTable, compute: Compute) -> Self {
        Self { rope, compute, routings: Vec::new(), trace: None, probe: None }
    }

    /// A pass that keeps every intermediate value which a parity test compares.
    pub fn traced(rope: RopeTable, compute: Compute) -> Self {
        Self { trace: Some(Vec::new()), ..Self::new(rope, compute) }
    }

    /// A pass that reads every intermediate value back and remembers the first that holds NaN or
    /// an infinity: slow, for when the last is known to.
    pub fn probing(rope: RopeTable, compute: Compute) -> Self {
        Self { probe: Some(Probe::default()), ..Self::new(rope, compute) }
    }

    /// The name of the first value that was not finite, as a trace would have it; none without one,
    /// and where the pass does not probe.
    pub fn first_not_finite(&self) -> Option<&str> {
        self.probe.as_ref()?.found.as_deref()
    }

    /// Sequences, and tokens a sequence, of `batch * seq` rows.
    pub fn shape(&self, rows: &Tensor<2>) -> [usize; 2] {
        let seq = self.rope.len();
        [rows.dims()[0] / seq.max(1), seq]
    }

    /// Of rows of this pass those of the last `rows` tokens of each sequence.
    ///
    /// # Shapes
    ///
    /// - x: `[batch * seq, d]`, output: `[batch * rows, d]`
    pub(crate) fn last_rows(&self, x: Tensor<2>, rows: usize) -> Tensor<2> {
        let ([batch, seq], [_, d]) = (self.shape(&x), x.dims());
        x.reshape([batch, seq, d]).narrow(1, seq - rows, rows).reshape([batch * rows, d])
    }

    /// Goes on with the last `rows` positions alone.
    pub(crate) fn keep_last(&mut self, rows: usize) {
        self.rope = self.rope.last(rows);
    }

    pub(crate) fn record(&mut self, name: impl FnOnce() -> String, value: &Tensor<2>) {
        let [batch, seq] = self.shape(value);
        if let Some(trace) = &mut self.trace {
            trace.push((name(), value.clone().reshape([batch as i64, seq as i64, -1])));
        } else if let Some(probe) = &mut self.probe
            && probe.found.is_none()
            && !value.to_data().iter::<f32>().all(f32::is_finite)
        {
            probe.found = Some(name());
        }
    }
}
