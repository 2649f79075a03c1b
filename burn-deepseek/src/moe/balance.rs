//! Load balancing: the auxiliary-loss-free bias update, the sequence-wise loss, and the measure of
//! imbalance (2.1.2).

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData, activation};

use super::Router;
use crate::{LayerRouting, SequenceCounts, ops};

/// Moves the balance bias of every router that has one by the loads of its layer in a step.
///
/// `routers` come with the index of their layer, and `loads_of` gives the loads of a layer over the
/// *whole* global batch; a layer without any keeps its bias. A speed of 0 moves nothing. The biases
/// of all of them are one read.
pub fn update_biases<'a, 'l>(
    routers: impl Iterator<Item = (usize, &'a mut Router)>,
    loads_of: impl Fn(usize) -> Option<&'l [u64]>,
    speed: f64,
) {
    update_known_biases(routers, loads_of, &BTreeMap::new(), speed);
}

/// [`update_biases`], of which some are `known` by layer; only the others are read.
pub fn update_known_biases<'a, 'l>(
    routers: impl Iterator<Item = (usize, &'a mut Router)>,
    loads_of: impl Fn(usize) -> Option<&'l [u64]>,
    known: &BTreeMap<usize, Vec<f32>>,
    speed: f64,
) {
    if speed == 0.0 {
        return;
    }
    let moved: Vec<_> = routers
        .filter(|(_, router)| router.has_balance_bias())
        .filter_map(|(layer, router)| loads_of(layer).map(|loads| (layer, router, loads)))
        .collect();
    let unknown = moved.iter().filter(|(layer, ..)| !known.contains_key(layer));
    let unknown: Vec<_> =
        unknown.map(|(_, router, _)| router.e_score_correction_bias.val().detach()).collect();
    let read: Vec<f32> = match unknown.is_empty() {
        true => Vec::new(),
        false => ops::to_host(Tensor::cat(unknown, 0)).iter::<f32>().collect(),
    };
    let mut rest = &read[..];
    for (layer, router, loads) in moved {
        let bias = known.get(&layer).map_or_else(
            || {
                let (bias, others) = rest.split_at(loads.len());
                rest = others;
                bias
            },
            Vec::as_slice,
        );
        router.set_bias(&updated_bias(bias, loads, speed));
    }
}

/// The bias after a step: `b_i += speed * sign(mean load - load_i)`.
///
/// `loads` counts the tokens of the *whole* global batch that chose each expert.
pub fn updated_bias(bias: &[f32], loads: &[u64], speed: f64) -> Vec<f32> {
    let total: u64 = loads.iter().sum();
    let experts = loads.len() as u64;
    bias.iter()
        .zip(loads)
        .map(|(&b, &load)| {
            // Compared as total against load * experts: exact, where a mean in floating point might
            // not be.
            let direction = match total.cmp(&(load * experts)) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.0,
                std::cmp::Ordering::Less => -1.0,
            };
            (f64::from(b) + speed * direction) as f32
        })
        .collect()
}

/// `max load / mean load - 1`: 0 when even, `experts / top_k - 1` at worst. No tokens count as
/// even.
pub fn max_violation(loads: &[u64]) -> f64 {
    let total: u64 = loads.iter().sum();
    match loads.iter().max() {
        Some(&max) if total > 0 => max as f64 * loads.len() as f64 / total as f64 - 1.0,
        _ => 0.0,
    }
}

/// Mean over tokens of the entropy in nats of the scores `[tokens * experts]`, each token's divided
/// by their sum: 0 where one expert has all of it, `ln experts` where all have the same. A token
/// whose scores are all 0 counts as that; no tokens have an entropy of 0.
pub fn mean_entropy(scores: &[f32], experts: usize) -> f64 {
    let tokens = scores.len() / experts.max(1);
    let of_token = |scores: &[f32]| {
        let sum: f64 = scores.iter().map(|&score| f64::from(score)).sum();
        if sum == 0.0 {
            return (experts as f64).ln();
        }
        let of_share = |&score: &f32| match (f64::from(score) / sum) as f32 {
            0.0 => 0.0,
            share => f64::from(share * share.ln()),
        };
        0.0 - scores.iter().map(of_share).sum::<f64>()
    };
    scores.chunks_exact(experts.max(1)).map(of_token).sum::<f64>() / tokens.max(1) as f64
}

/// A sum of scores under which neither it nor what backward makes of it, `s / sum^2`, is held to
/// FP32's precision.
const TINY_SUM: f32 = 1e-15;

/// Whether the scores of any token, `[tokens * experts]`, sum up to less than that. (Sigmoids of
/// logits under -35 do; those of softmax never.)
pub(super) fn underflows(scores: &[f32], experts: usize) -> bool {
    scores.chunks_exact(experts.max(1)).any(|scores| {
        // Scores are not negative: one of them is mostly enough.
        let enough = scores.iter().any(|&score| score >= TINY_SUM);
        !enough && scores.iter().sum::<f32>() < TINY_SUM
    })
}

/// Sequence-wise balance loss of one layer at alpha = 1, averaged over the sequences of the batch
/// (Eq. 17 to 20).
///
/// For a sequence of `T` tokens `L = sum_i f_i P_i` with
/// `f_i = N / (K T) * (tokens with i among their K best)` and `P_i` the mean over tokens of
/// `s_i / sum_j s_j`, both of unbiased scores without group limit. Evenly spread routing gives
/// exactly 1.
///
/// Where the scores of a token underflow, `s_i / sum_j s_j` is their limit, the softmax of the
/// logits: `sigmoid(z)` is `exp(z)` there.
///
/// # Shapes
///
/// - counts: `[batch * experts]`, for each sequence how many tokens count for each expert (a
///   constant: no gradient)
/// - output: `[1]`
pub fn sequence_balance_loss(routing: &LayerRouting, counts: &SequenceCounts) -> Tensor<1> {
    let [_, experts] = routing.scores.dims();
    let (batch, seq) = (routing.batch, routing.seq);
    let device = routing.scores.device();
    let scale = experts as f64 / (routing.groups.top_k() * seq) as f64;
    let of_count = |count: u32| (f64::from(count) * scale) as f32;
    let floats = |values: Vec<f32>| {
        let count = values.len();
        Tensor::<1>::from_data(TensorData::new(values, [count]), &device)
    };
    let f = match counts {
        SequenceCounts::Host(counts) => floats(counts.iter().map(|&c| of_count(c)).collect()),
        // A sequence has at most `seq` tokens for an expert: the values of all counts, rounded as
        // the host rounds them, and on the device a look at them.
        SequenceCounts::Device(counts) => {
            let counts = counts.clone().reshape([batch * experts]);
            floats((0..=seq as u32).map(of_count).collect()).select(0, counts)
        }
    };
    let f = f.reshape([batch, experts]);
    let scores = ops::fork(routing.scores.clone());
    // Where nobody has looked, as if some did: a token's that do not are divided all the same.
    let share = if routing.underflow.unwrap_or(true) {
        let sum = scores.clone().sum_dim(1);
        let tiny = sum.clone().lower_elem(TINY_SUM);
        let ratio = scores / sum.mask_fill(tiny.clone(), 1.0);
        let limit = activation::softmax(ops::fork(routing.logits.clone()), 1);
        ratio.mask_where(tiny.repeat_dim(1, experts), limit)
    } else {
        scores.clone() / scores.sum_dim(1)
    };
    let p = share.reshape([batch, seq, experts]).mean_dim(1).reshape([batch, experts]);
    (f * p).sum() / batch as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeepSeekConfig, WeightInit};
    use burn::tensor::Device;

    /// Some model; what counts of it is set by the test.
    fn tiny() -> DeepSeekConfig {
        serde_json::from_value(serde_json::json!({
            "vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "moe_intermediate_size": 4,
            "num_hidden_layers": 2, "num_attention_heads": 1, "n_shared_experts": 1,
            "n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
            "kv_lora_rank": 4, "qk_nope_head_dim": 2, "qk_rope_head_dim": 2, "v_head_dim": 2,
            "max_position_embeddings": 8
        }))
        .unwrap()
    }

    #[test]
    fn bias_moves_toward_the_mean_by_speed() {
        let bias = updated_bias(&[0.0, 0.5, -0.1, 0.0], &[10, 0, 5, 5], 0.001);
        assert_eq!(bias, [-0.001, 0.501, -0.1, 0.0]);
        assert_eq!(updated_bias(&[0.25], &[0], 0.001), [0.25]);
    }

    #[test]
    fn entropy_is_that_of_the_scores_shares() {
        assert!(mean_entropy(&[0.0, 3.0, 0.0, 0.0], 4).abs() < 1e-7);
        assert!((mean_entropy(&[0.2; 8], 4) - 4f64.ln()).abs() < 1e-7);
        let halves = mean_entropy(&[0.5, 0.5, 0.0, 1.0], 2);
        assert!((halves - 2f64.ln() / 2.0).abs() < 1e-7, "{halves}");
        let expected = -(0.25 * 0.25f64.ln() + 0.75 * 0.75f64.ln());
        assert!((mean_entropy(&[1e-30, 3e-30], 2) - expected).abs() < 1e-6);
        assert_eq!([mean_entropy(&[0.0; 2], 2), mean_entropy(&[], 2)], [2f64.ln(), 0.0]);
    }

    #[test]
    fn violation_is_zero_when_even() {
        assert_eq!(max_violation(&[5, 5, 5]), 0.0);
        assert_eq!(max_violation(&[15, 0, 0]), 2.0);
        assert_eq!(max_violation(&[0, 0]), 0.0);
    }

    /// Logits of two tokens and four experts through a router of width 4, and the loss; gradients
    /// of loss and gates with respect to the logits.
    fn loss_and_gradient(logits: [[f32; 4]; 2]) -> (LayerRouting, f32, Vec<f32>) {
        let config = DeepSeekConfig {
            hidden_size: 4,
            n_routed_experts: 4,
            num_experts_per_tok: 2,
            n_group: 1,
            topk_group: 1,
            norm_topk_prob: true,
            routed_scaling_factor: 1.0,
            ..tiny()
        };
        let device = Device::flex().autodiff();
        let mut router = Router::new(&config, 1, &mut WeightInit::zeros(&device));
        // The identity: logits are what goes in.
        let identity = Tensor::<2>::eye(4, &device);
        router.weight = router.weight.map(|_| identity);
        let x = Tensor::<2>::from_data(TensorData::from(logits), &device).require_grad();
        let routing = router.forward(x.clone(), [1, 2], false, None);
        let loss = sequence_balance_loss(&routing, &routing.unbiased_counts);
        let value = loss.clone().into_data().iter::<f32>().next().unwrap();
        let gates = routing.weights.clone();
        let weighted = gates.clone().narrow(1, 0, 1).sum() + gates.sum();
        let gradients = (loss + weighted).backward();
        let gradient = x.grad(&gradients).unwrap().into_data().iter::<f32>().collect();
        (routing, value, gradient)
    }

    /// The formula's own values, in f64 with scores that do not underflow there: those of a token
    /// with all logits 300 lower are the same up to rounding where sigmoid is an exponential.
    #[test]
    fn scores_that_underflow_have_the_limit_s_loss() {
        let high = [[-10.0, -11.0, -12.0, -13.0], [-13.0, -10.0, -12.0, -11.0]];
        for shift in [30.0, 45.0, 80.0, 100.0, 300.0, 1e4] {
            let low = high.map(|token| token.map(|logit: f32| logit - shift));
            let (routing, loss, gradient) = loss_and_gradient(low);
            assert_eq!(routing.underflow, Some(true), "{shift}");
            assert!(gradient.iter().all(|value| value.is_finite()), "{shift}: {gradient:?}");
            let weights: Vec<f32> = routing.weights.into_data().iter::<f32>().collect();
            assert!(weights.iter().all(|value| value.is_finite()), "{shift}: {weights:?}");
            // f counts the two best of each token; where all scores are 0 those are experts 0 and 1.
            let f: Vec<f64> =
                routing.unbiased_counts.on_host().into_iter().map(f64::from).collect();
            let expected: f64 = high
                .iter()
                .map(|token| {
                    let e = token.map(|logit| f64::from(logit).exp());
                    let sum: f64 = e.iter().sum();
                    e.iter().zip(&f).map(|(e, f)| e / sum * f).sum::<f64>() / 2.0
                })
                .sum();
            assert!((f64::from(loss) - expected).abs() < 1e-5, "{shift}: {loss} not {expected}");
        }
    }

    #[test]
    fn a_token_underflows_by_the_sum_of_its_scores() {
        assert!(!underflows(&[], 3) && !underflows(&[0.0, 1.0, 0.0], 3));
        assert!(underflows(&[0.0, 1.0, 0.0, 0.0, 1e-16, 0.0], 3), "the second token");
        assert!(!underflows(&[4e-16, 4e-16, 4e-16], 3), "all of them together");
        assert!(!underflows(&[f32::NAN, 0.0, 0.0], 3));
    }

    #[test]
    fn scores_that_do_not_underflow_are_divided_as_they_are() {
        let (routing, loss, gradient) =
            loss_and_gradient([[0.5, -1.0, 2.0, 0.0], [1.0, 0.0, -2.0, 0.5]]);
        assert!(routing.underflow == Some(false) && loss > 0.9 && loss < 1.5, "{loss}");
        assert!(gradient.iter().any(|&value| value != 0.0));
        let mixed = loss_and_gradient([[0.5, -1.0, 2.0, 0.0], [-400.0; 4]]);
        assert_eq!(mixed.0.underflow, Some(true));
        assert!(mixed.1.is_finite() && mixed.2.iter().all(|value| value.is_finite()));
        // The token that is as before has the gradients that it had.
        for (before, with) in gradient.iter().zip(&mixed.2).take(4) {
            assert!(with.abs() < 10.0 * before.abs().max(1.0), "{before} {with}");
        }
    }
}
