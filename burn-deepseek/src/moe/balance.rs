//! Load balancing: the auxiliary-loss-free bias update, the sequence-wise loss, and the measure of
//! imbalance (2.1.2).

use burn::tensor::{Tensor, TensorData};

use super::Router;
use crate::{LayerRouting, ops};

/// Moves the balance bias of every router that has one by the loads of its layer in a step.
///
/// `routers` come with the index of their layer, and `loads_of` gives the loads of a layer over the
/// *whole* global batch; a layer without any keeps its bias. A speed of 0 moves nothing.
pub fn update_biases<'a, 'l>(
    routers: impl Iterator<Item = (usize, &'a mut Router)>,
    loads_of: impl Fn(usize) -> Option<&'l [u64]>,
    speed: f64,
) {
    if speed == 0.0 {
        return;
    }
    for (layer, router) in routers.filter(|(_, router)| router.has_balance_bias()) {
        if let Some(loads) = loads_of(layer) {
            router.set_bias(&updated_bias(&router.bias(), loads, speed));
        }
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

/// Sequence-wise balance loss of one layer at alpha = 1, averaged over the sequences of the batch
/// (Eq. 17 to 20).
///
/// For a sequence of `T` tokens `L = sum_i f_i P_i` with
/// `f_i = N / (K T) * (tokens with i among their K best)` and `P_i` the mean over tokens of
/// `s_i / sum_j s_j`, both of unbiased scores without group limit. Evenly spread routing gives
/// exactly 1.
///
/// # Shapes
///
/// - counts: `[batch * experts]`, for each sequence how many tokens count for each expert (a
///   constant: no gradient)
/// - output: `[1]`
pub fn sequence_balance_loss(routing: &LayerRouting, counts: &[u32]) -> Tensor<1> {
    let [_, experts] = routing.scores.dims();
    let (batch, seq) = (routing.batch, routing.seq);
    let scale = experts as f64 / (routing.groups.top_k() * seq) as f64;
    let f: Vec<f32> = counts.iter().map(|&c| (f64::from(c) * scale) as f32).collect();
    let f = Tensor::<2>::from_data(TensorData::new(f, [batch, experts]), &routing.scores.device());
    let scores = ops::fork(routing.scores.clone());
    let share = scores.clone() / scores.sum_dim(1);
    let p = share.reshape([batch, seq, experts]).mean_dim(1).reshape([batch, experts]);
    (f * p).sum() / batch as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bias_moves_toward_the_mean_by_speed() {
        let bias = updated_bias(&[0.0, 0.5, -0.1, 0.0], &[10, 0, 5, 5], 0.001);
        assert_eq!(bias, [-0.001, 0.501, -0.1, 0.0]);
        assert_eq!(updated_bias(&[0.25], &[0], 0.001), [0.25]);
    }

    #[test]
    fn violation_is_zero_when_even() {
        assert_eq!(max_violation(&[5, 5, 5]), 0.0);
        assert_eq!(max_violation(&[15, 0, 0]), 2.0);
        assert_eq!(max_violation(&[0, 0]), 0.0);
    }
}
