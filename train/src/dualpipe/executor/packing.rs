//! What ranks in other processes are told and tell, as bytes.

use std::sync::Arc;
use std::time::Instant;

use burn_deepseek::LossWeights;
use burn_deepseek::backend::fp8::Casts;
use burn_deepseek::precision::CastCounts;
use burn_deepseek::routing::{GivenChoices, RoutingControl, RoutingLog};

use super::gather::Owned;
use super::reduce::{RankUpdate, UpdateJob};
use super::report::StageReport;
use super::step::{PassTimes, RankReport, StepJob};
use super::timeline::Span;
use crate::data::TokenBatch;
use crate::dualpipe::action::{Action, Chunk};
use crate::dualpipe::schedule::PipelineSchedule;
use crate::learner::{LayerLoad, Moments};
use crate::parallel::{
    ExchangeBytes, LinkBytes, Mail, Packed, PipelineScheduleKind, Unpacking, packed,
};

packed!(RankReport { stages, spans, times, casts, mail, chosen, exchange });
packed!(StageReport { micro_batch, main, mtp, balances, loads, entropies, tokens });
packed!(PassTimes { forward, backward, idle });
packed!(Mail { sent_bytes, waited_for_experts, hidden });
packed!(ExchangeBytes { sent, direct });
packed!(LinkBytes { fast_bytes, slow_bytes });
packed!(LayerLoad { layer, loads });
packed!(Casts { activations, weights, gradients });
packed!(CastCounts { values, saturated, underflowed, scale_min, scale_max });
packed!(LossWeights { mtp, sequence_balance });
packed!(RankUpdate { squares, sent_bytes });
packed!(Owned { index, value, moments });
packed!(Moments { first, second });
packed!(Span { action, start, end, waited, in_flight, hidden });
packed!(Chunk { direction, index, stage });

/// A schedule is known by its numbers: what they make of it is the same in every process.
impl Packed for PipelineSchedule {
    fn pack(&self, into: &mut Vec<u8>) {
        self.kind.name().to_owned().pack(into);
        (self.ranks, self.chunks).pack(into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        let kind: PipelineScheduleKind = String::unpack(from)?.parse().ok()?;
        let (ranks, chunks) = Packed::unpack(from)?;
        Self::new(kind, ranks, chunks).ok()
    }
}

/// The numbers of a micro-batch's windows, which a rank reads by itself, or else its tokens, with
/// what is asked of its routers.
impl Packed for TokenBatch {
    fn pack(&self, into: &mut Vec<u8>) {
        self.is_unread().pack(into);
        if self.is_unread() {
            let samples: Vec<u64> = self.windows.iter().map(|window| window.sample).collect();
            samples.pack(into);
            return self.tokens.pack(into);
        }
        self.inputs.pack(into);
        self.targets.pack(into);
        self.routing.is_some().pack(into);
        if let Some(RoutingControl { change, given, log }) = &self.routing {
            assert!(change.is_empty(), "invariant: routers of a run choose as they do");
            let layers = given.iter().flat_map(|given| given.layers());
            let layers: Vec<(usize, Vec<u32>)> =
                layers.map(|(layer, chosen)| (*layer, chosen.clone())).collect();
            (given.is_some().then_some(layers), log.is_some()).pack(into);
        }
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        if bool::unpack(from)? {
            let samples: Vec<u64> = Packed::unpack(from)?;
            return Some(Self::unread(samples, Packed::unpack(from)?, from.device()));
        }
        let (inputs, targets) = (Packed::unpack(from)?, Packed::unpack(from)?);
        let tokens = burn::tensor::Tensor::<2, burn::tensor::Int>::dims(&inputs).iter().product();
        let routing = match bool::unpack(from)? {
            true => Some(routing(Packed::unpack(from)?, tokens)?),
            false => None,
        };
        Some(Self { inputs, targets, tokens, windows: Arc::default(), routing })
    }
}

/// What is asked of the routers that see so many tokens: choices by layer, where they are given, and
/// whether they are to tell.
type RoutingAsked = (Option<Vec<(usize, Vec<u32>)>>, bool);

fn routing((given, tells): RoutingAsked, tokens: usize) -> Option<RoutingControl> {
    let given = match given {
        None => None,
        Some(layers) => {
            let top_k = layers.first().map_or(1, |(_, chosen)| chosen.len() / tokens.max(1));
            let given = GivenChoices::new(top_k, usize::MAX, layers.into_iter().collect());
            Some(Arc::new(given.ok()?))
        }
    };
    let log = tells.then(RoutingLog::of_choices);
    Some(RoutingControl { given, log, ..RoutingControl::default() })
}

/// The step begins in another process when that is told of it.
impl Packed for StepJob {
    fn pack(&self, into: &mut Vec<u8>) {
        self.schedule.pack(into);
        self.batches.pack(into);
        self.weights.pack(into);
        (self.share, self.detailed).pack(into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        let schedule = Arc::new(PipelineSchedule::unpack(from)?);
        let batches = Arc::new(Packed::unpack(from)?);
        let weights = Packed::unpack(from)?;
        let (share, detailed) = Packed::unpack(from)?;
        Some(Self { schedule, batches, weights, share, started: Instant::now(), detailed })
    }
}

impl Packed for UpdateJob {
    fn pack(&self, into: &mut Vec<u8>) {
        (self.norm, self.scale).pack(into);
        (self.lr, self.bias_update_speed).pack(into);
        self.loads.pack(into);
        self.detailed.pack(into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        let (norm, scale) = Packed::unpack(from)?;
        let (lr, bias_update_speed) = Packed::unpack(from)?;
        let loads = Arc::new(Packed::unpack(from)?);
        let detailed = Packed::unpack(from)?;
        Some(Self { norm, scale, lr, loads, bias_update_speed, detailed })
    }
}

impl Packed for Action {
    fn pack(&self, into: &mut Vec<u8>) {
        match self {
            Self::Forward(chunk) => (0u8, *chunk).pack(into),
            Self::Backward { chunk, defer_weights } => {
                (1u8, *chunk).pack(into);
                defer_weights.pack(into);
            }
            Self::Weights(chunk) => (2u8, *chunk).pack(into),
            Self::Overlapped { forward, backward } => {
                (3u8, *forward).pack(into);
                backward.pack(into);
            }
            Self::Exchange(_) => unreachable!("invariant: an exchange has no time of its own"),
        }
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        let (kind, chunk): (u8, Chunk) = Packed::unpack(from)?;
        Some(match kind {
            0 => Self::Forward(chunk),
            1 => Self::Backward { chunk, defer_weights: Packed::unpack(from)? },
            2 => Self::Weights(chunk),
            3 => Self::Overlapped { forward: chunk, backward: Packed::unpack(from)? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use burn::tensor::{Device, Int, Tensor};

    fn again<T: Packed>(value: &T) -> T {
        T::unpacked(&value.packed(), &Device::flex()).expect("what was packed")
    }

    /// Every schedule is the same in another process, and so is every action of it.
    #[test]
    fn schedules_travel_as_their_numbers() {
        for kind in PipelineScheduleKind::ALL {
            let schedule = PipelineSchedule::new(kind, 4, 10).unwrap();
            assert_eq!(again(&schedule), schedule);
            let actions = schedule.actions.iter().flatten().map(|planned| &planned.action);
            for action in actions.filter(|action| !matches!(action, Action::Exchange(_))) {
                assert_eq!(again(action), *action);
            }
        }
        let mut bytes =
            PipelineSchedule::new(PipelineScheduleKind::DualPipe, 4, 8).unwrap().packed();
        let last = bytes.len() - 8;
        bytes[last] = 7; // an odd number of micro-batches
        assert!(PipelineSchedule::unpacked(&bytes, &Device::flex()).is_none());
    }

    /// A rank is told of the micro-batches of its own pipeline alone.
    #[test]
    fn a_step_goes_to_a_rank_with_its_tokens() {
        let device = Device::flex();
        let batch = |first: i64| {
            let tokens = Tensor::<2, Int>::from_data([[first, first + 1, first + 2]], &device);
            TokenBatch {
                inputs: tokens.clone(),
                targets: tokens + 1,
                tokens: 3,
                windows: Arc::default(),
                routing: None,
            }
        };
        let job = StepJob {
            schedule: Arc::new(PipelineSchedule::new(PipelineScheduleKind::Zb1p, 2, 2).unwrap()),
            batches: Arc::new(vec![vec![batch(0), batch(10)], vec![batch(20), batch(30)]]),
            weights: LossWeights { mtp: 0.3, sequence_balance: 1e-4 },
            share: 0.25,
            started: Instant::now(),
            detailed: true,
        };
        let got = again(&job.of_pipeline(1));
        let ids = |batch: &TokenBatch| -> Vec<i64> {
            batch
                .inputs
                .clone()
                .into_data()
                .iter()
                .chain(batch.targets.clone().into_data().iter())
                .collect()
        };
        assert_eq!((got.batches[0].len(), got.batches[1].len()), (0, 2));
        assert_eq!(ids(&got.batches[1][1]), [30, 31, 32, 31, 32, 33]);
        assert_eq!(got.batches[1][0].tokens, 3);
        assert_eq!((&got.schedule, got.weights, got.share), (&job.schedule, job.weights, 0.25));
        assert!(got.detailed);
    }

    /// Choices that are given come through, and what routers of another process tell comes back to
    /// whoever asked.
    #[test]
    fn what_is_asked_of_routers_travels() {
        let device = Device::flex();
        let tokens = Tensor::<2, Int>::zeros([1, 2], &device);
        let layers = std::collections::BTreeMap::from([(1, vec![0, 3, 1, 2])]);
        let given = Arc::new(GivenChoices::new(2, 4, layers).unwrap());
        let log = Some(RoutingLog::of_choices());
        let batch = TokenBatch {
            inputs: tokens.clone(),
            targets: tokens,
            tokens: 2,
            windows: Arc::default(),
            routing: Some(RoutingControl { given: Some(given.clone()), log, ..Default::default() }),
        };
        let away = again(&batch);
        let routing = away.routing.as_ref().expect("something is asked");
        assert_eq!(routing.given, Some(given));
        let record = burn_deepseek::routing::LayerRecord {
            layer: 1,
            batch: 1,
            seq: 2,
            chosen: vec![0, 3, 1, 2],
            detail: None,
        };
        routing.log.as_ref().expect("it is to be told").tell(record.clone());
        let chosen = again(&super::super::routings::taken(&[away]));
        super::super::routings::told(std::slice::from_ref(&batch), chosen);
        assert_eq!(batch.routing.unwrap().log.unwrap().take(), [record]);
    }

    #[test]
    fn what_comes_of_a_step_travels() {
        let chunk = Chunk { direction: 1, index: 2, stage: 3 };
        let report = RankReport {
            stages: vec![StageReport {
                micro_batch: 4,
                main: Some(f32::NAN),
                mtp: vec![1.5],
                balances: vec![(2, 0.5)],
                loads: vec![LayerLoad { layer: 2, loads: vec![7, 0] }],
                entropies: vec![(2, 1.25)],
                tokens: 16,
            }],
            spans: vec![Span {
                action: Action::Weights(chunk),
                start: Duration::from_micros(5),
                end: Duration::from_micros(9),
                waited: Duration::ZERO,
                in_flight: Duration::from_nanos(3),
                hidden: Duration::from_nanos(2),
            }],
            times: PassTimes::default(),
            casts: Some(Casts::default()),
            mail: Mail {
                sent_bytes: 12,
                waited_for_experts: Duration::from_nanos(2),
                hidden: Duration::from_nanos(1),
            },
            chosen: Vec::new(),
            exchange: ExchangeBytes::default(),
        };
        // NaN is no obstacle to comparing text.
        assert_eq!(format!("{:?}", again(&report)), format!("{report:?}"));
        let update = RankUpdate { squares: vec![(3, 0.1)], sent_bytes: 9 };
        assert_eq!(format!("{:?}", again(&update)), format!("{update:?}"));
        let job = UpdateJob {
            norm: 0.1,
            scale: 8.0,
            lr: 1e-3,
            loads: Arc::new(report.stages[0].loads.clone()),
            bias_update_speed: 0.001,
            detailed: false,
        };
        assert_eq!(format!("{:?}", again(&job)), format!("{job:?}"));
    }
}
