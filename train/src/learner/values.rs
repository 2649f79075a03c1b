//! Numbers that lie on a device, and the one read that brings all of them to the host.

use burn::tensor::{DType, Tensor};
use burn_deepseek::LayerRouting;
use burn_deepseek::ops::to_host;

/// The values of several tensors of one device, in their order.
#[derive(Debug)]
pub struct Values(std::vec::IntoIter<f32>);

impl Values {
    /// Reads them at once: each read waits for all that was asked of the device before.
    ///
    /// # Shapes
    ///
    /// - tensors: `[n]` each, without autodiff
    pub fn read(tensors: impl IntoIterator<Item = Tensor<1>>) -> Self {
        let all: Vec<Tensor<1>> = tensors.into_iter().map(|x| x.cast(DType::F32)).collect();
        let values: Vec<f32> = match all.is_empty() {
            true => Vec::new(),
            false => to_host(Tensor::cat(all, 0)).iter::<f32>().collect(),
        };
        Self(values.into_iter())
    }

    /// The next so many of them.
    pub fn take(&mut self, count: usize) -> Vec<f32> {
        self.0.by_ref().take(count).collect()
    }
}

/// Tokens that chose each expert of a layer, where they were counted.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // there is one a layer and pass, and it stays where it is
pub enum Loads {
    /// By the host.
    Host(Vec<u64>),
    /// By the device, as FP32, which has every number below 16,777,216.
    Device(Tensor<1>),
}

impl Loads {
    /// Those of a routing; nothing of them is read yet.
    pub fn of(routing: &LayerRouting) -> Self {
        match routing.groups.chosen() {
            Some(chosen) => Self::Device(chosen.loads.clone().float().cast(DType::F32)),
            None => Self::Host(routing.groups.loads()),
        }
    }

    /// What is to be read of them.
    pub fn tensor(&self) -> Option<Tensor<1>> {
        match self {
            Self::Host(_) => None,
            Self::Device(loads) => Some(loads.clone()),
        }
    }

    /// Their numbers, the next of those that were read where [`Loads::tensor`] was.
    pub fn read(self, values: &mut Values) -> Vec<u64> {
        match self {
            Self::Host(loads) => loads,
            Self::Device(loads) => {
                values.take(loads.dims()[0]).into_iter().map(|load| load as u64).collect()
            }
        }
    }
}
