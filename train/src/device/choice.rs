//! What `--device` says, and the device that it means.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use burn_deepseek::backend::share_streams;

use super::backend::{BACKENDS, GpuBackend};
use super::error::{DeviceError, number};
use super::selected::{SelectedDevice, first_real_gpu, open_backend};
use super::worker::{Token, WorkerDevice};

/// What `--device` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU that the build supports, else Flex.
    #[default]
    Auto,
    /// Burn's pure-Rust CPU backend.
    Flex,
    /// A backend, and the device's number there.
    Backend(GpuBackend, Option<usize>),
    /// A device of `deepseek worker`.
    Worker(WorkerDevice),
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        if WorkerDevice::is_meant_by(text) {
            return text.parse().map(Self::Worker);
        }
        let index_error = |problem| DeviceError::Index { text: text.into(), problem };
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => {
                let index = index.parse().map_err(|_| {
                    index_error("what follows the colon must be a number, as in wgpu:0")
                })?;
                (name, Some(index))
            }
            None => (text, None),
        };
        let choice = match name {
            "auto" => Self::Auto,
            "flex" => Self::Flex,
            name => {
                let backend = BACKENDS.into_iter().find(|backend| backend.name() == name);
                Self::Backend(
                    backend.ok_or_else(|| DeviceError::Unknown { text: text.into() })?,
                    index,
                )
            }
        };
        let single = matches!(choice, Self::Auto | Self::Flex | Self::Backend(GpuBackend::Cpu, _));
        if single && index.is_some() {
            return Err(index_error("takes no number"));
        }
        Ok(choice)
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Flex => f.write_str("flex"),
            Self::Backend(backend, index) => write!(f, "{backend}{}", number(index)),
            Self::Worker(worker) => worker.fmt(f),
        }
    }
}

impl DeviceChoice {
    /// Finds the device. `auto` takes the first real GPU of cuda, rocm, metal, vulkan, wgpu, never
    /// a software renderer, and Flex where there is none; a backend without a number takes its
    /// first GPU, a software one if it has no other.
    ///
    /// # Errors
    /// [`DeviceError::NotBuilt`], [`DeviceError::Absent`], [`DeviceError::OnlyForRanks`] and
    /// [`DeviceError::Streams`].
    pub fn open(&self) -> Result<SelectedDevice, DeviceError> {
        if matches!(self, Self::Auto | Self::Backend(..)) {
            share_streams()?; // ranks and the average of the weights are threads
        }
        match self {
            Self::Flex => Ok(SelectedDevice::flex()),
            Self::Auto => Ok(first_real_gpu().unwrap_or_else(SelectedDevice::flex)),
            Self::Backend(backend, index) => open_backend(*backend, *index),
            Self::Worker(worker) => Err(DeviceError::OnlyForRanks { device: worker.to_string() }),
        }
    }

    /// Finds the device that a rank of a training is to be on; a worker is shown `token`, told where
    /// all `workers` of the training are, and waited for `patience` at most.
    ///
    /// # Errors
    /// As [`DeviceChoice::open`]; [`DeviceError::Worker`] and [`DeviceError::NoWorkers`].
    pub fn open_for_rank(
        &self,
        rank: usize,
        token: Option<&Token>,
        workers: &[String],
        patience: Duration,
    ) -> Result<SelectedDevice, DeviceError> {
        match self {
            #[cfg(feature = "remote")]
            Self::Worker(worker) => worker.open(rank, token, workers, patience),
            #[cfg(not(feature = "remote"))]
            Self::Worker(worker) => Err(DeviceError::NoWorkers { device: worker.to_string() }),
            local => {
                let _ = (rank, token, workers, patience);
                local.open()
            }
        }
    }

    /// The worker, where it is a device of one.
    pub fn worker(&self) -> Option<&WorkerDevice> {
        match self {
            Self::Worker(worker) => Some(worker),
            _ => None,
        }
    }
}
