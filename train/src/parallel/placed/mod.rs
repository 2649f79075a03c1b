//! Routed experts where a placement has them: on several devices, the busiest on more than one
//! (3.4).

mod turns;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_deepseek::definition::{DispatchedRows, ExpertDispatch, ExpertGroups};
use burn_deepseek::moe::{Experts, MixtureOfExperts};
use burn_deepseek::ops::{self, LocalExperts};
use burn_deepseek::{Compute, DeepSeek, FeedForward, Weight};

use super::eplb::LayerPlacement;
use turns::Turns;

/// Why a model's experts cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A layer of experts that the placement leaves out.
    #[error("layer {layer} has routed experts, but the placement has no such layer")]
    MissingLayer {
        /// The layer.
        layer: usize,
    },
    /// The placement is another model's.
    #[error("the placement of layer {layer} has {placed} experts, but the layer has {experts}")]
    Experts {
        /// The layer.
        layer: usize,
        /// Experts of the placement.
        placed: usize,
        /// Experts of the layer.
        experts: usize,
    },
    /// A GPU without a device, or a device that is no GPU of the placement.
    #[error("the placement of layer {layer} is for {gpus} GPUs, but there are {devices} devices")]
    Devices {
        /// The layer.
        layer: usize,
        /// GPUs of the placement.
        gpus: usize,
        /// The model's device and the others.
        devices: usize,
    },
    /// Nothing to place.
    #[error("the model has no routed experts")]
    Dense,
}

/// The experts of a model that have left it, and the way there and back.
///
/// The first GPU of the placement is the model's own device; what it has stays in the model. Rows
/// of a pass go to the replica of their expert that has computed the fewest so far, so a replica's
/// turn depends on what was computed before, and the result does not.
#[derive(Debug)]
pub struct PlacedExperts {
    layers: BTreeMap<usize, PlacedLayer>,
    compute: Compute,
}

#[derive(Debug)]
struct PlacedLayer {
    placement: LayerPlacement,
    /// The experts of the GPUs after the first.
    away: Vec<Experts>,
    turns: Mutex<Turns>,
}

impl PlacedExperts {
    /// Takes the experts out of `model` and copies each to where `placements`, by layer, has it;
    /// `others` are the devices of the GPUs after the first.
    ///
    /// From then on the model computes with what [`PlacedExperts::compute`] gives and with nothing
    /// else: its layers have the experts of the first GPU alone. That is for decoding and
    /// evaluation; weights that are trained would have to be the same in every replica. Layers of
    /// the placement that the model does not have (MTP modules that were not loaded) are passed
    /// over.
    ///
    /// # Errors
    ///
    /// A placement of other layers, experts or GPUs; the model is as it was.
    pub fn place(
        model: &mut DeepSeek,
        placements: &BTreeMap<usize, LayerPlacement>,
        others: &[Device],
        compute: &Compute,
    ) -> Result<Arc<Self>, PlacementError> {
        for (layer, moe) in moe_layers(model) {
            let placement = placements.get(&layer).ok_or(PlacementError::MissingLayer { layer })?;
            let (placed, experts) = (placement.experts(), moe.experts.gate_up.dims()[0]);
            if placed != experts {
                return Err(PlacementError::Experts { layer, placed, experts });
            }
            if placement.gpus() != others.len() + 1 {
                return Err(PlacementError::Devices {
                    layer,
                    gpus: placement.gpus(),
                    devices: others.len() + 1,
                });
            }
        }
        let mut layers = BTreeMap::new();
        // Layer by layer, so that no more than one is there twice.
        for (layer, moe) in moe_layers(model) {
            let placement = &placements[&layer];
            let mut of_gpus = placement.phy2log().chunks(placement.places_a_gpu());
            let here = of_gpus.next().expect("invariant: a placement has a GPU");
            let away = of_gpus
                .zip(others)
                .map(|(places, device)| copies(&moe.experts, places, device))
                .collect();
            moe.experts = copies(&moe.experts, here, &moe.experts.gate_up.device());
            layers.insert(
                layer,
                PlacedLayer {
                    placement: placement.clone(),
                    away,
                    turns: Mutex::new(Turns::new(placement)),
                },
            );
        }
        if layers.is_empty() {
            return Err(PlacementError::Dense);
        }
        // Nothing that was quantized of the whole layers is of use.
        Ok(Arc::new(Self { layers, compute: compute.next_step() }))
    }

    /// How to compute with the model whose experts these are.
    pub fn compute(self: &Arc<Self>) -> Compute {
        self.compute.with_expert_dispatch(self.clone())
    }

    /// Rows that each GPU has computed so far, by layer.
    pub fn gpu_rows(&self) -> BTreeMap<usize, Vec<u64>> {
        let of_layer = |layer: &PlacedLayer| {
            let turns = layer.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns
                .rows()
                .chunks(layer.placement.places_a_gpu())
                .map(|rows| rows.iter().sum())
                .collect()
        };
        self.layers.iter().map(|(&number, layer)| (number, of_layer(layer))).collect()
    }
}

impl ExpertDispatch for PlacedExperts {
    fn dispatch(&self, x: Tensor<2>, groups: &ExpertGroups, layer: usize) -> DispatchedRows {
        let Some(PlacedLayer { placement, away, turns }) = self.layers.get(&layer) else {
            return LocalExperts.dispatch(x, groups, layer);
        };
        let (device, [_, d]) = (x.device(), x.dims());
        let taken = turns.lock().unwrap_or_else(PoisonError::into_inner).take(placement, groups);
        let places = ExpertGroups::new(&taken, groups.top_k(), placement.phy2log().len());
        let rows = ops::permute(x, &places);
        let part = |gpu: usize| {
            let offsets = &places.offsets()
                [gpu * placement.places_a_gpu()..=(gpu + 1) * placement.places_a_gpu()];
            let (first, count) = (offsets[0], offsets[offsets.len() - 1] - offsets[0]);
            let counts = (0u32..).zip(offsets.windows(2));
            let experts: Vec<u32> = counts
                .flat_map(|(place, pair)| std::iter::repeat_n(place, pair[1] - pair[0]))
                .collect();
            (
                (count > 0).then(|| rows.clone().narrow(0, first, count)),
                ExpertGroups::new(&experts, 1, placement.places_a_gpu()),
            )
        };
        // The others first: where devices work by themselves, they compute while this one does.
        let computed = (1..).zip(away).map(|(gpu, experts)| {
            let (rows, groups) = part(gpu);
            rows.map(|rows| {
                experts.forward(rows.to_device(&experts.gate_up.device()), &groups, &self.compute)
            })
        });
        let computed: Vec<Tensor<2>> = computed.collect::<Vec<_>>().into_iter().flatten().collect();

        let (here, experts_here) = part(0);
        let here = here.unwrap_or_else(|| Tensor::zeros([0, d], &device));
        // Slots are summed in their order whatever that of the rows is.
        let combine = move |results: Tensor<2>, weights: Tensor<2>| {
            let own = (results.dims()[0] > 0).then_some(results);
            let all: Vec<_> = own
                .into_iter()
                .chain(computed.into_iter().map(|rows| rows.to_device(&device)))
                .collect();
            let rows =
                if all.is_empty() { Tensor::zeros([0, d], &device) } else { Tensor::cat(all, 0) };
            ops::combine(rows, weights, &places)
        };
        DispatchedRows { rows: here, groups: experts_here, combine: Box::new(combine) }
    }
}

/// The MoE layers of a model, MTP modules last, with their numbers.
fn moe_layers(model: &mut DeepSeek) -> impl Iterator<Item = (usize, &mut MixtureOfExperts)> {
    let blocks =
        model.layers.iter_mut().chain(model.mtp.iter_mut().map(|module| &mut module.block));
    blocks.filter_map(|block| match &mut block.mlp {
        FeedForward::Moe(moe) => Some((block.layer, moe)),
        FeedForward::Dense(_) => None,
    })
}

/// A copy of the expert in each of the places of a GPU.
fn copies(experts: &Experts, places: &[usize], device: &Device) -> Experts {
    let copy = |weights: &Weight<3>| {
        let weights = weights.val();
        let indices = indices(places, &weights.device());
        let copies = weights.select(0, indices).to_device(device);
        Param::from_tensor(copies).set_require_grad(false).into()
    };
    Experts { gate_up: copy(&experts.gate_up), down: copy(&experts.down) }
}

fn indices(indices: &[usize], device: &Device) -> Tensor<1, Int> {
    let indices: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
    let count = indices.len();
    Tensor::from_data(TensorData::new(indices, [count]), device)
}
