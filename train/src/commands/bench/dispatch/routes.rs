//! A layer's rows to the experts of all ranks and back, by the direct route and by that of two
//! hops, and the bytes on each kind of link.

use std::sync::Arc;
use std::time::Duration;

use burn::tensor::{Device, Distribution, Tensor};
use burn_deepseek::definition::{DispatchedRows, ExpertDispatch};
use burn_deepseek::ops::wire::WireFormat;

use super::Sizes;
use super::routing::{RANKS, RANKS_A_NODE, Routing, TOP_K};
use crate::parallel::{
    ChunkExchange, ExchangeBytes, ExpertParallelGroup, Post, TrafficCounter, WireFormats,
};

/// As the report has it: FP8 to experts, BF16 back (3.3.3).
const FORMATS: WireFormats = WireFormats { dispatch: WireFormat::Fp8, combine: WireFormat::Bf16 };
/// How long a rank waits for another.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The tokens of all ranks.
pub(super) struct Layer {
    device: Device,
    ranks: Vec<(Tensor<2>, Tensor<2>, Routing)>,
}

impl Layer {
    /// The tokens of `sizes` shared between the ranks.
    pub fn new(sizes: Sizes, seed: u64, device: &Device) -> Self {
        let tokens = sizes.tokens / RANKS;
        let rank = |rank: usize| {
            let x = Tensor::random([tokens, sizes.width], Distribution::Normal(0.0, 1.0), device);
            let gates = Tensor::random([tokens, TOP_K], Distribution::Uniform(0.0, 1.0), device);
            (x, gates, Routing::random(tokens, seed + rank as u64))
        };
        Self { device: device.clone(), ranks: (0..RANKS).map(rank).collect() }
    }

    /// Each rank on a thread of its own sends its tokens' rows to their experts, which give them
    /// back as they came, and sums them.
    pub fn exchange(&self, two_hops: bool) -> ExchangeBytes {
        let (post, traffic) = (Arc::new(Post::new(TIMEOUT)), Arc::new(TrafficCounter::default()));
        let members: Vec<_> = (0..RANKS).map(|rank| (rank, self.device.clone())).collect();
        std::thread::scope(|scope| {
            for (index, (x, gates, routing)) in self.ranks.iter().enumerate() {
                let group = ExpertParallelGroup {
                    post: post.clone(),
                    members: members.clone(),
                    index,
                    formats: FORMATS,
                    members_a_node: if two_hops { RANKS_A_NODE } else { RANKS },
                    traffic: traffic.clone(),
                    token: Default::default(),
                };
                scope.spawn(move || {
                    let exchange = ChunkExchange::new(Arc::new(group), 0);
                    let DispatchedRows { rows, combine, .. } =
                        exchange.dispatch(x.clone(), &routing.groups, 0);
                    drop(std::hint::black_box(combine(rows, gates.clone())));
                });
            }
        });
        traffic.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_crosses_less_often_in_two_hops() {
        let layer = Layer::new(Sizes { tokens: 4 * RANKS, width: 130 }, 1, &Device::flex());
        let bytes = layer.exchange(true);
        let direct = layer.exchange(false);
        assert_eq!(direct.sent, direct.direct);
        let all = |bytes: crate::parallel::LinkBytes| bytes.fast_bytes + bytes.slow_bytes;
        assert_eq!(
            all(bytes.direct),
            all(direct.direct),
            "the direct route sends the same, whatever links it takes"
        );
        assert!(bytes.sent.slow_bytes < bytes.direct.slow_bytes * 3 / 4, "{bytes:?}");
    }
}
