//! What is timed: the steps of one rank's exchange, there and back.

use std::sync::Arc;

use burn::tensor::{Device, Distribution, Int, Tensor};
use burn_deepseek::ops::wire::{self, RowSums, WireFormat};

use super::Sizes;
use super::routing::{RANKS, Routing};

/// A step of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Tokens' rows permuted by destination and cast.
    Pack(WireFormat),
    /// Rows cut into a parcel a rank, moved, and joined where they arrive.
    Exchange(WireFormat),
    /// Rows in the order of the experts, in FP32.
    Unpack(WireFormat),
    /// Weighted sums by token of the rows that came back.
    Combine(WireFormat),
}

const FORMATS: [WireFormat; 3] = [WireFormat::Fp8, WireFormat::Bf16, WireFormat::F32];

impl Step {
    /// All of them; what comes back is never in FP8.
    pub fn all() -> impl Iterator<Item = Self> {
        let there = FORMATS
            .into_iter()
            .flat_map(|format| [Self::Pack(format), Self::Exchange(format), Self::Unpack(format)]);
        there.chain(FORMATS[1..].iter().map(|&format| Self::Combine(format)))
    }

    pub fn name(self) -> String {
        let (step, format) = match self {
            Self::Pack(format) => ("pack", format),
            Self::Exchange(format) => ("exchange", format),
            Self::Unpack(format) => ("unpack", format),
            Self::Combine(format) => ("combine", format),
        };
        let format = match format {
            WireFormat::F32 => "f32",
            WireFormat::Bf16 => "bf16",
            WireFormat::Fp8 => "fp8",
        };
        format!("{step} {format}")
    }
}

/// The operands of every step.
pub(super) struct Steps<'a> {
    sizes: Sizes,
    routing: &'a Routing,
    device: Device,
    /// `[tokens, width]`.
    x: Tensor<2>,
    /// A gate value a term.
    weights: Tensor<1>,
    /// The rows of each token.
    sums: Arc<RowSums>,
    /// Rows as ranks would have them after one from each other rank arrived in turn: no run of them
    /// stays where it was.
    order: Vec<u32>,
}

impl<'a> Steps<'a> {
    pub fn new(sizes: Sizes, routing: &'a Routing, device: &Device) -> Self {
        let rows = routing.groups.rows();
        let x = Tensor::<2>::random(
            [sizes.tokens, sizes.width],
            Distribution::Normal(0.0, 1.0),
            device,
        );
        let weights = Tensor::<1>::random([rows], Distribution::Uniform(0.0, 1.0), device);
        let order = (0..RANKS)
            .flat_map(|first| (first..rows).step_by(RANKS))
            .map(|row| row as u32)
            .collect();
        Self {
            sizes,
            routing,
            device: device.clone(),
            sums: wire::token_sums(&routing.groups, &x),
            x,
            weights,
            order,
        }
    }

    fn packed(&self, format: WireFormat) -> Tensor<2, Int> {
        wire::pack(self.x.clone(), self.routing.groups.token_of_row(), format)
    }

    /// A step, and the bytes that it reads and writes.
    pub fn work(&self, step: Step) -> (Box<dyn Fn() + '_>, usize) {
        let (rows, width) = (self.routing.groups.rows(), self.sizes.width);
        let values = 4 * rows * width;
        match step {
            Step::Pack(format) => (
                Box::new(move || drop(self.packed(format))),
                values + rows * format.row_bytes(width),
            ),
            Step::Exchange(format) => {
                let wire = self.packed(format);
                let plan = self.routing.groups.plan();
                let parcels: Vec<_> = (0..RANKS)
                    .map(|rank| {
                        plan.rows_of(rank, RANKS).expect("invariant: ranks divide the experts")
                    })
                    .collect();
                let exchange = move || {
                    let parcels = parcels.iter().filter(|rows| !rows.is_empty());
                    let moved = parcels
                        .map(|rows| {
                            wire.clone().narrow(0, rows.start, rows.len()).to_device(&self.device)
                        })
                        .collect();
                    drop(std::hint::black_box(Tensor::cat(moved, 0)));
                };
                (Box::new(exchange), 2 * rows * format.row_bytes(width))
            }
            Step::Unpack(format) => {
                let wire = self.packed(format);
                let unpack = move || drop(wire::unpack(wire.clone(), &self.order, width, format));
                (Box::new(unpack), values + rows * format.row_bytes(width))
            }
            Step::Combine(format) => {
                let wire = self.packed(format);
                let combine = move || {
                    drop(wire::combine(
                        wire.clone(),
                        self.weights.clone(),
                        &self.sums,
                        width,
                        format,
                    ))
                };
                (Box::new(combine), 4 * self.sizes.tokens * width + rows * format.row_bytes(width))
            }
        }
    }
}
