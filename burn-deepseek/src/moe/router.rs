//! The gate: FP32 scores, the choice of experts, and the gate values of the chosen (2.1.2).

use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor, TensorData, activation};
use cubecl_kernels::definition::RouteShape;

use super::balance::{mean_entropy, underflows};
use super::select::{ExpertSelection, unbiased_counts};
use crate::backend::supports_route;
use crate::config::{DeepSeekConfig, ScoringFunc, TopkMethod};
use crate::definition::ExpertGroups;
use crate::precision::ProductFormat;
use crate::routing::{LayerRecord, RoutingControl, RoutingDetail, RoutingLog};
use crate::{LayerRouting, SequenceCounts, WeightInit, ops};

/// Added to the sum that normalizes the chosen gate values.
const NORM_EPS: f64 = 1e-20;
/// What tiny gate values are multiplied by before they are normalized: a power of two.
const LIFT: f64 = (1u64 << 40) as f64;

/// The router of one MoE layer.
#[derive(Module, Debug)]
pub struct Router {
    /// Expert centroids, `[n_routed_experts, d]`.
    pub weight: Param<Tensor<2>>,
    /// The balance bias `b`, `[n_routed_experts]`: a buffer. No gradient reaches it and no
    /// optimizer touches it; it enters the choice and never the gate value.
    pub e_score_correction_bias: Param<Tensor<1>>,
    #[module(skip)]
    selection: ExpertSelection,
    #[module(skip)]
    scoring: ScoringFunc,
    norm_topk_prob: bool,
    routed_scaling_factor: f64,
    layer: usize,
}

/// The experts of all tokens, `[tokens * top_k]`.
struct Chosen {
    chosen: Vec<u32>,
    /// What a log wants to know of the choice.
    told: Option<Told>,
}

/// What a choice was made by, but for the scores; see [`RoutingDetail`].
struct Told {
    bias: Vec<f32>,
    kept_groups: Vec<u32>,
}

impl Router {
    /// The router of layer `layer`.
    pub fn new(config: &DeepSeekConfig, layer: usize, init: &mut WeightInit) -> Self {
        Self {
            weight: init.weight([config.n_routed_experts, config.hidden_size]),
            e_score_correction_bias: init
                .zero_bias(config.n_routed_experts)
                .set_require_grad(false),
            selection: ExpertSelection::new(config),
            scoring: config.scoring_func,
            norm_topk_prob: config.norm_topk_prob,
            routed_scaling_factor: config.routed_scaling_factor,
            layer,
        }
    }

    /// Scores the tokens of `batch` sequences of `seq` and chooses their experts.
    ///
    /// The gate value is the *unbiased* score of each chosen expert, divided by their sum where
    /// `norm_topk_prob`, times `routed_scaling_factor`. The choice is made on the device where that
    /// has kernels for it ([`supports_route`]), and nothing is waited for; elsewhere, and where
    /// somebody wants to see what is chosen by, it is made on the host: with `entropy`, that of the
    /// scores is given too, and `control` says what else is asked. Both choices are the same.
    ///
    /// # Shapes
    ///
    /// - x: `[batch * seq, d]`
    pub fn forward(
        &self,
        x: Tensor<2>,
        [batch, seq]: [usize; 2],
        entropy: bool,
        control: Option<&RoutingControl>,
    ) -> LayerRouting {
        let device = x.device();
        let ExpertSelection { experts, top_k, .. } = self.selection;
        let logits = ops::linear(
            x.cast(DType::F32),
            self.weight.val().cast(DType::F32),
            None,
            ProductFormat::F32,
        );
        let scores = match self.scoring {
            ScoringFunc::Sigmoid => activation::sigmoid(logits.clone()),
            ScoringFunc::Softmax => activation::softmax(logits.clone(), 1),
        };
        let shape = self.selection.shape(batch * seq);
        if !entropy && control.is_none() && supports_route(&device) && shape.fits_a_device() {
            return self.route_on_device(logits, scores, [batch, seq], shape);
        }
        let (host_scores, bias) = self.on_host(scores.clone());
        let Chosen { chosen, told } = match control {
            None => Chosen { chosen: self.selection.choose(&host_scores, &bias), told: None },
            Some(control) => self.choose_as_asked(&host_scores, bias, control),
        };
        let groups = ExpertGroups::new(&chosen, top_k, experts);

        let experts_of_token =
            ops::composed::int_tensor(&chosen, &device).reshape([batch * seq, top_k]);
        let underflow = underflows(&host_scores, experts);
        let weights = self.gates(&scores, &experts_of_token, underflow);
        if let Some(log) = control.and_then(|control| control.log.as_ref()) {
            let detail = told.map(|told| RoutingDetail {
                scores: host_scores.clone(),
                bias: told.bias,
                kept_groups: told.kept_groups,
                gates: host_floats(weights.clone()),
            });
            log.tell(LayerRecord { layer: self.layer, batch, seq, chosen, detail });
        }
        let counts = unbiased_counts(&host_scores, experts, top_k, seq);
        LayerRouting {
            layer: self.layer,
            batch,
            seq,
            logits,
            scores,
            experts: experts_of_token,
            weights,
            unbiased_counts: SequenceCounts::Host(counts),
            underflow: Some(underflow),
            entropy: entropy.then(|| mean_entropy(&host_scores, experts)),
            groups,
        }
    }

    /// The choice, and what follows from it, without a word to the host.
    fn route_on_device(
        &self,
        logits: Tensor<2>,
        scores: Tensor<2>,
        [batch, seq]: [usize; 2],
        shape: RouteShape,
    ) -> LayerRouting {
        let plain = if scores.is_autodiff() { scores.clone().inner() } else { scores.clone() };
        let bias = self.e_score_correction_bias.val();
        let bias = if bias.is_autodiff() { bias.inner() } else { bias };
        let groups = ops::routing::route(plain.clone(), bias.cast(DType::F32), shape);
        let chosen = groups.chosen().expect("invariant: the device has chosen");
        let experts = chosen.choices.clone();
        LayerRouting {
            layer: self.layer,
            batch,
            seq,
            logits,
            weights: self.gates(&scores, &experts, true),
            scores,
            experts,
            unbiased_counts: SequenceCounts::Device(ops::routing::sequence_counts(
                plain,
                shape,
                seq.max(1),
            )),
            underflow: None,
            entropy: None,
            groups,
        }
    }

    /// Gate values of chosen experts `[tokens, top_k]`.
    ///
    /// Where scores may `underflow` it is the same quotient, of sums whose squares, which backward
    /// divides by, are numbers. What they are multiplied by is a power of two: of scores that do not
    /// underflow the quotient has the same bits.
    fn gates(
        &self,
        scores: &Tensor<2>,
        experts_of_token: &Tensor<2, Int>,
        underflow: bool,
    ) -> Tensor<2> {
        let gates = scores.clone().gather(1, experts_of_token.clone());
        let gates = match (self.norm_topk_prob, underflow) {
            (true, false) => gates.clone() / (gates.sum_dim(1) + NORM_EPS),
            (true, true) => {
                let gates = gates * LIFT;
                gates.clone() / (gates.sum_dim(1) + NORM_EPS * LIFT)
            }
            (false, _) => gates,
        };
        gates * self.routed_scaling_factor
    }

    /// The scores `[tokens, experts]` and the balance bias, by one read.
    fn on_host(&self, scores: Tensor<2>) -> (Vec<f32>, Vec<f32>) {
        let count = scores.shape().num_elements();
        let bias = self.e_score_correction_bias.val();
        let all = vec![scores.detach().reshape([count]), bias.detach().cast(DType::F32)];
        let mut scores = host_floats(Tensor::cat(all, 0));
        let bias = scores.split_off(count);
        (scores, bias)
    }

    /// The experts of all tokens as `control` asks for them, and by what they were chosen where its
    /// log wants to know.
    fn choose_as_asked(
        &self,
        scores: &[f32],
        mut bias: Vec<f32>,
        control: &RoutingControl,
    ) -> Chosen {
        let RoutingControl { change, given, log } = control;
        change.apply(self.layer, &mut bias);
        let kept_groups = change.kept_groups.unwrap_or(self.selection.kept_groups);
        let selection = ExpertSelection { kept_groups, ..self.selection };
        let mut kept_groups = Vec::new();
        let detailed = log.as_ref().is_some_and(RoutingLog::is_detailed);
        let mut free = || {
            selection.choose_noting(scores, &bias, |kept| {
                if detailed {
                    let from = kept_groups.len();
                    kept_groups.extend_from_slice(kept);
                    kept_groups[from..].sort_unstable();
                }
            })
        };
        let chosen = match given {
            None => free(),
            Some(given) => {
                if detailed {
                    free();
                }
                let tokens = scores.len() / selection.experts;
                given.expect(self.layer, tokens, selection.top_k).to_vec()
            }
        };
        Chosen { chosen, told: detailed.then_some(Told { bias, kept_groups }) }
    }

    /// Index of the layer; MTP module `k` (from 0) is `num_hidden_layers + k`.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Whether the choice of experts makes use of a balance bias
    /// ([`DeepSeekConfig::has_balance_bias`]).
    pub fn has_balance_bias(&self) -> bool {
        self.selection.method == TopkMethod::NoauxTc
    }

    /// Replaces the balance bias.
    pub fn set_bias(&mut self, bias: &[f32]) {
        let device = self.e_score_correction_bias.val().device();
        let value = Tensor::from_data(TensorData::new(bias.to_vec(), [bias.len()]), &device);
        self.e_score_correction_bias =
            self.e_score_correction_bias.clone().map(|_| value).set_require_grad(false);
    }

    /// The balance bias as the host sees it.
    pub fn bias(&self) -> Vec<f32> {
        host_floats(self.e_score_correction_bias.val())
    }
}

fn host_floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = ops::to_host(tensor);
    // Its iterator asks for the type of each number, which for the scores of hundreds of experts
    // takes longer than the choice.
    data.as_slice().map_or_else(|_| data.iter().collect(), <[f32]>::to_vec)
}
