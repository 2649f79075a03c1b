//! A device of this machine that exists, and its name.

use burn::tensor::Device;

use super::adapters;
use super::backend::{BACKENDS, GpuBackend};
use super::error::DeviceError;

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

impl SelectedDevice {
    /// The CPU of this machine.
    pub fn flex() -> Self {
        Self { device: Device::flex(), name: "flex".into(), on_cpu: true }
    }
}

pub(super) fn first_real_gpu() -> Option<SelectedDevice> {
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

pub(super) fn open_backend(
    backend: GpuBackend,
    index: Option<usize>,
) -> Result<SelectedDevice, DeviceError> {
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
