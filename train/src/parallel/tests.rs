//! Exchanges between ranks on threads, against all experts on one device.

use std::sync::Arc;
use std::time::Duration;

use burn::tensor::{Device, Tensor, TensorData};
use burn_deepseek::definition::{DispatchedRows, ExpertDispatch, ExpertGroups};
use burn_deepseek::ops::LocalExperts;
use burn_deepseek::ops::wire::WireFormat;

use super::{ChunkExchange, ExchangeBytes, ExpertParallelGroup, Post, TrafficCounter, WireFormats};

const EXPERTS: usize = 8;
const WIDTH: usize = 130;
const F32: WireFormats = WireFormats { dispatch: WireFormat::F32, combine: WireFormat::F32 };
const BF16: WireFormats = WireFormats { dispatch: WireFormat::Bf16, combine: WireFormat::Bf16 };
const FP8: WireFormats = WireFormats { dispatch: WireFormat::Fp8, combine: WireFormat::Bf16 };

/// Values from a seed (splitmix64), in -1..1.
fn random(seed: u64, len: usize) -> Vec<f32> {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    (0..len as u64)
        .map(|i| {
            (mix(mix(seed) ^ i.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 40) as f32
                / (1u64 << 23) as f32
                - 1.0
        })
        .collect()
}

/// The tokens of one rank: their rows, choices and gate values, and the gradient of their sums.
#[derive(Clone)]
struct Tokens {
    x: Vec<f32>,
    choices: Vec<u32>,
    gates: Vec<f32>,
    dout: Vec<f32>,
    top_k: usize,
}

/// What comes of them.
#[derive(Debug, PartialEq)]
struct Outcome {
    out: Vec<f32>,
    dx: Vec<f32>,
    dgates: Vec<f32>,
}

impl Tokens {
    fn new(seed: u64, count: usize, top_k: usize, expert: impl Fn(usize, usize) -> usize) -> Self {
        let choices = (0..count)
            .flat_map(|t| (0..top_k).map(move |j| (t, j)))
            .map(|(t, j)| expert(t, j) as u32)
            .collect();
        let gates = random(seed + 1, count * top_k);
        Self {
            x: random(seed, count * WIDTH),
            choices,
            gates,
            dout: random(seed + 2, count * WIDTH),
            top_k,
        }
    }

    fn matrix(&self, values: &[f32], device: &Device) -> Tensor<2> {
        let rows = self.choices.len() / self.top_k;
        let width = values.len().checked_div(rows).unwrap_or(if values.is_empty() {
            WIDTH
        } else {
            self.top_k
        });
        Tensor::from_data(TensorData::new(values.to_vec(), [rows, width]), device)
    }

    /// Through experts, expert `e` of all of which multiplies by `1 + e / 4`; `first` is the first
    /// that is here.
    fn run(&self, dispatch: &dyn ExpertDispatch, first: usize, device: &Device) -> Outcome {
        let device = device.clone().autodiff();
        let x = self.matrix(&self.x, &device).require_grad();
        let gates = self.matrix(&self.gates, &device).require_grad();
        let groups = ExpertGroups::new(&self.choices, self.top_k, EXPERTS);
        let DispatchedRows { rows, groups, combine } = dispatch.dispatch(x.clone(), &groups, 3);
        let factors: Vec<f32> = (0..groups.experts())
            .flat_map(|e| {
                std::iter::repeat_n(
                    1.0 + (first + e) as f32 / 4.0,
                    groups.offsets()[e + 1] - groups.offsets()[e],
                )
            })
            .collect();
        let factors = Tensor::<2>::from_data(TensorData::new(factors, [groups.rows(), 1]), &device);
        let out = combine(rows * factors, gates.clone());
        let mut grads = (out.clone() * self.matrix(&self.dout, &device)).sum().backward();
        let values = |x: Tensor<2>| x.into_data().try_to_vec::<f32>().unwrap();
        let mut grad = |x: &Tensor<2>| values(x.grad_remove(&mut grads).expect("a gradient"));
        Outcome { dx: grad(&x), dgates: grad(&gates), out: values(out.inner()) }
    }
}

/// Runs the tokens of each rank through experts shared by all of them.
fn shared(
    ranks: &[Tokens],
    members_a_node: usize,
    formats: WireFormats,
    device: &Device,
) -> (Vec<Outcome>, ExchangeBytes) {
    let (post, traffic) =
        (Arc::new(Post::new(Duration::from_secs(60))), Arc::new(TrafficCounter::default()));
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = ranks
            .iter()
            .enumerate()
            .map(|(index, tokens)| {
                let members = (0..ranks.len()).map(|rank| (rank, device.clone())).collect();
                let (post, traffic) = (post.clone(), traffic.clone());
                let group = Arc::new(ExpertParallelGroup {
                    post,
                    members,
                    index,
                    formats,
                    members_a_node,
                    traffic,
                    token: Default::default(),
                });
                let first = index * EXPERTS / ranks.len();
                scope.spawn(move || tokens.run(&ChunkExchange::new(group, 0), first, device))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (outcomes, traffic.take())
}

fn local(ranks: &[Tokens], device: &Device) -> Vec<Outcome> {
    ranks.iter().map(|tokens| tokens.run(&LocalExperts, 0, device)).collect()
}

/// Ranks with unequal numbers of tokens, one of them with none; experts that nobody chooses.
fn uneven(ranks: usize) -> Vec<Tokens> {
    let tokens = [5, 0, 17, 8];
    (0..ranks)
        .map(|r| {
            Tokens::new(10 * r as u64, tokens[r], 3, move |t, j| {
                (t * 3 + r + j * (1 + t % 2)) % (EXPERTS - 1)
            })
        })
        .collect()
}

/// The difference of two outcomes: root mean squares, relative, the worst of what they have.
fn difference(a: &[Outcome], b: &[Outcome]) -> f64 {
    let part = |of: fn(&Outcome) -> &Vec<f32>| {
        let (a, b): (Vec<f32>, Vec<f32>) =
            (a.iter().flat_map(of).copied().collect(), b.iter().flat_map(of).copied().collect());
        assert_eq!(a.len(), b.len());
        let square = |x: f32| f64::from(x) * f64::from(x);
        let differences: f64 = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum();
        (differences / b.iter().map(|&b| square(b)).sum::<f64>()).sqrt()
    };
    part(|of| &of.out).max(part(|of| &of.dx)).max(part(|of| &of.dgates))
}

#[test]
fn the_direct_route_in_f32_is_one_device_bit_for_bit() {
    let device = Device::flex();
    for ranks in [1, 2, 4] {
        let tokens = uneven(ranks);
        assert_eq!(
            shared(&tokens, ranks, F32, &device).0,
            local(&tokens, &device),
            "{ranks} ranks"
        );
    }
}

#[test]
fn in_f32_the_route_of_two_hops_is_the_same_up_to_the_order_of_sums() {
    let device = Device::flex();
    for (ranks, members_a_node) in [(2, 1), (4, 2), (4, 1)] {
        let tokens = uneven(ranks);
        let worst =
            difference(&shared(&tokens, members_a_node, F32, &device).0, &local(&tokens, &device));
        assert!(worst < 1e-6, "{ranks} ranks, {members_a_node} a node: {worst}");
    }
}

#[test]
fn narrow_formats_lose_what_they_must_and_no_more() {
    let device = Device::flex();
    let tokens = uneven(4);
    for (formats, least, most) in [(BF16, 1e-3, 5e-3), (FP8, 1e-2, 4e-2)] {
        for members_a_node in [4, 2, 1] {
            let worst = difference(
                &shared(&tokens, members_a_node, formats, &device).0,
                &local(&tokens, &device),
            );
            assert!(worst > least && worst < most, "{formats:?}, {members_a_node} a node: {worst}");
        }
    }
}

#[test]
fn on_the_direct_route_results_do_not_depend_on_how_many_ranks_share_the_experts() {
    let device = Device::flex();
    let tokens = uneven(4);
    let four = shared(&tokens, 4, FP8, &device).0;
    // The same tokens with two ranks, and with one that has all experts: every row is cast as it
    // was.
    for (pair, of_four) in tokens.chunks(2).zip(four.chunks(2)) {
        assert_eq!(shared(pair, 2, FP8, &device).0, of_four);
    }
    for (alone, of_four) in tokens.chunks(1).zip(four.chunks(1)) {
        assert_eq!(shared(alone, 1, FP8, &device).0, of_four);
    }
}

#[test]
fn all_tokens_to_one_rank_and_one_hot_expert() {
    let device = Device::flex();
    let one_rank: Vec<_> = (0..4).map(|r| Tokens::new(r, 9, 2, |t, j| 2 + (t + j) % 2)).collect();
    let hot: Vec<_> = (0..4).map(|r| Tokens::new(r, 9, 1, |_, _| 7)).collect();
    for tokens in [one_rank, hot] {
        let expected = local(&tokens, &device);
        assert_eq!(shared(&tokens, 4, F32, &device).0, expected);
        assert!(difference(&shared(&tokens, 2, F32, &device).0, &expected) < 1e-6);
    }
}

#[test]
fn a_token_crosses_to_a_node_once() {
    let device = Device::flex();
    // Of two nodes of two ranks: every token of every rank to three experts, one at its own rank's
    // node and two in the other, on both ranks.
    let tokens: Vec<_> = (0..4)
        .map(|r| Tokens::new(r as u64, 10, 3, move |_, j| (r / 2 * 4 + [0, 4, 6][j]) % EXPERTS))
        .collect();
    let (_, direct) = shared(&tokens, 4, FP8, &device);
    assert_eq!((direct.sent, direct.sent.slow_bytes), (direct.direct, 0));

    let (_, bytes) = shared(&tokens, 2, FP8, &device);
    let (fp8, bf16) =
        (WireFormat::Fp8.row_bytes(WIDTH) as u64, WireFormat::Bf16.row_bytes(WIDTH) as u64);
    // Forward and backward each send one way in FP8 and sum the other in BF16: 40 tokens to the
    // other node, once against twice.
    assert_eq!(bytes.direct.slow_bytes, 2 * 80 * (fp8 + bf16));
    // Gate values go with 4 bytes a row, and their gradients come back: 80 rows cross.
    assert_eq!(bytes.sent.slow_bytes, 2 * 40 * (fp8 + bf16) + 2 * 80 * 4);
    // Inside: from each crossing the row goes to both ranks that want it, one of which is the
    // crossing itself; and a row of the own node's expert, which is on the other rank for half of
    // the tokens.
    let fans = 40 + 20;
    assert_eq!(bytes.sent.fast_bytes, 2 * fans * (fp8 + bf16) + 2 * 20 * 4);
}

#[cfg(feature = "wgpu")]
#[test]
fn on_a_device_it_is_the_same() {
    let device = crate::device::DeviceChoice::Backend(crate::device::GpuBackend::Wgpu, None)
        .open()
        .unwrap()
        .device;
    // A composed combine of no rows at all is more than Burn's `select` on CubeCL can differentiate
    // (0.22.1): each rank has tokens.
    let tokens: Vec<_> =
        uneven(4).into_iter().filter(|tokens| !tokens.choices.is_empty()).take(2).collect();
    let expected = local(&tokens, &Device::flex());
    for (formats, most) in [(F32, 1e-6), (BF16, 5e-3), (FP8, 4e-2)] {
        for members_a_node in [2, 1] {
            let worst = difference(&shared(&tokens, members_a_node, formats, &device).0, &expected);
            assert!(worst < most, "{formats:?}, {members_a_node} a node: {worst}");
        }
    }
}
