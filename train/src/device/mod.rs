//! `--device`: from a name to a Burn device that exists, among the backends that this binary was
//! built with.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use burn::tensor::Device;
use burn_deepseek::backend::{SeveralStreams, share_streams};

use crate::failure::{Blame, Blamed};

/// A backend that takes a cargo feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuBackend {
    /// NVIDIA through CUDA.
    Cuda,
    /// AMD through HIP.
    Rocm,
    /// Apple through Metal.
    Metal,
    /// Any GPU through Vulkan and SPIR-V.
    Vulkan,
    /// Any GPU through wgpu and the graphics API that it finds.
    Wgpu,
    /// CubeCL's runtime for CPUs; never chosen by `auto`.
    Cpu,
}

/// Every backend; `auto` asks them in this order.
const BACKENDS: [GpuBackend; 6] = [
    GpuBackend::Cuda,
    GpuBackend::Rocm,
    GpuBackend::Metal,
    GpuBackend::Vulkan,
    GpuBackend::Wgpu,
    GpuBackend::Cpu,
];

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

/// Why a device cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No such name.
    #[error(
        "device \"{text}\" is unknown; known: auto, flex, wgpu[:n], vulkan[:n], metal[:n], \
         cuda[:n], rocm[:n], cpu, ws://host:port[/n]"
    )]
    Unknown {
        /// What was asked for.
        text: String,
    },
    /// What follows the colon is no number, the backend has one device only, or a worker's address
    /// is no address.
    #[error("device \"{text}\": {problem}")]
    Index {
        /// What was asked for.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The backend was not compiled in.
    #[error("device {backend}: this binary was built without it; build with --features {backend}")]
    NotBuilt {
        /// The backend.
        backend: GpuBackend,
    },
    /// Devices of workers were not compiled in.
    #[error(
        "device {device}: this binary was built without devices of workers; build with --features \
         remote"
    )]
    NoWorkers {
        /// What was asked for.
        device: String,
    },
    /// Only ranks of a training can be on a worker's device.
    #[error(
        "device {device}: a worker's device is for the ranks of `deepseek train`; take a device of \
         this machine"
    )]
    OnlyForRanks {
        /// What was asked for.
        device: String,
    },
    /// A worker cannot be reached, or refuses: no mistake in itself, for workers come and go.
    #[error("device {device}: {problem}")]
    Worker {
        /// What was asked for.
        device: String,
        /// Why not.
        problem: String,
    },
    /// Threads cannot share the device: a program that uses this crate has configured CubeCL
    /// otherwise.
    #[error(transparent)]
    Streams(#[from] SeveralStreams),
    /// The backend finds no such device.
    #[error("device {backend}{}: no such device; there {}", number(.index), listing(.found))]
    Absent {
        /// The backend.
        backend: GpuBackend,
        /// The number asked for.
        index: Option<usize>,
        /// What there is, in order.
        found: Vec<String>,
    },
}

impl Blamed for DeviceError {
    fn blame(&self) -> Blame {
        match self {
            Self::Worker { .. } => Blame::Run,
            _ => Blame::User,
        }
    }
}

fn number(index: &Option<usize>) -> String {
    index.map_or_else(String::new, |index| format!(":{index}"))
}

fn listing(found: &[String]) -> String {
    match found {
        [] => "are none".into(),
        found => format!("are {}", found.join(", ")),
    }
}

/// A device and what to call it.
#[derive(Clone, Debug)]
pub struct SelectedDevice {
    /// The device, without autodiff.
    pub device: Device,
    /// How a person would name it: `flex`, `wgpu:0 (discrete GPU 0)`; of a worker's device its
    /// address.
    pub name: String,
    /// Whether it is a program on the CPU, Flex or a software renderer.
    pub on_cpu: bool,
}

impl GpuBackend {
    fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
            Self::Cpu => "cpu",
        }
    }
}

impl fmt::Display for GpuBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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
            Self::Flex => Ok(flex()),
            Self::Auto => Ok(first_real_gpu().unwrap_or_else(flex)),
            Self::Backend(backend, index) => open_backend(*backend, *index),
            Self::Worker(worker) => Err(DeviceError::OnlyForRanks { device: worker.to_string() }),
        }
    }

    /// Finds the device that a rank of a training is to be on; a worker is shown `token` and waited
    /// for `patience` at most.
    ///
    /// # Errors
    /// As [`DeviceChoice::open`]; [`DeviceError::Worker`] and [`DeviceError::NoWorkers`].
    pub fn open_for_rank(
        &self,
        rank: usize,
        token: Option<&Token>,
        patience: Duration,
    ) -> Result<SelectedDevice, DeviceError> {
        match self {
            #[cfg(feature = "remote")]
            Self::Worker(worker) => worker.open(rank, token, patience),
            #[cfg(not(feature = "remote"))]
            Self::Worker(worker) => Err(DeviceError::NoWorkers { device: worker.to_string() }),
            local => {
                let _ = (rank, token, patience);
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

fn flex() -> SelectedDevice {
    SelectedDevice { device: Device::flex(), name: "flex".into(), on_cpu: true }
}

fn first_real_gpu() -> Option<SelectedDevice> {
    let gpus = BACKENDS.into_iter().filter(|&backend| backend != GpuBackend::Cpu);
    gpus.filter_map(|backend| Some((backend, adapters::enumerate(backend)?)))
        .flat_map(|(backend, found)| {
            found.into_iter().enumerate().map(move |(index, adapter)| (backend, index, adapter))
        })
        .find(|(_, _, adapter)| {
            !adapter.software && !adapters::is_software_by_name(&adapter.device)
        })
        .map(|(backend, index, adapter)| select(backend, index, adapter))
}

fn open_backend(backend: GpuBackend, index: Option<usize>) -> Result<SelectedDevice, DeviceError> {
    let mut found = adapters::enumerate(backend).ok_or(DeviceError::NotBuilt { backend })?;
    let chosen = index.or_else(|| {
        let real = found.iter().position(|adapter| !adapter.software);
        real.or((!found.is_empty()).then_some(0))
    });
    match chosen {
        Some(index) if index < found.len() => Ok(select(backend, index, found.swap_remove(index))),
        _ => Err(DeviceError::Absent {
            backend,
            index,
            found: found
                .iter()
                .enumerate()
                .map(|(index, adapter)| label(backend, index, adapter))
                .collect(),
        }),
    }
}

fn select(backend: GpuBackend, index: usize, adapter: adapters::Adapter) -> SelectedDevice {
    SelectedDevice {
        name: label(backend, index, &adapter),
        on_cpu: adapter.software,
        device: adapter.device,
    }
}

fn label(backend: GpuBackend, index: usize, adapter: &adapters::Adapter) -> String {
    match adapter.kind {
        Some(kind) => format!("{backend}:{index} ({kind})"),
        None => format!("{backend}:{index}"),
    }
}

mod adapters;
mod cluster;
mod worker;

pub use cluster::{ClusterError, cluster_devices};
pub use worker::{Token, TokenError, WorkerDevice};

#[cfg(test)]
mod tests;
