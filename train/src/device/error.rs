//! Why a device cannot be had.

use burn_deepseek::backend::SeveralStreams;

use super::backend::GpuBackend;
use crate::failure::{Blame, Blamed};

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

pub(super) fn number(index: &Option<usize>) -> String {
    index.map_or_else(String::new, |index| format!(":{index}"))
}

fn listing(found: &[String]) -> String {
    match found {
        [] => "are none".into(),
        found => format!("are {}", found.join(", ")),
    }
}
