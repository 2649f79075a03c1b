//! What the machine has to give, as a run records it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use crate::peak_memory::peak_bytes;
use crate::record::{Stamp, SystemLine};

/// Looks at this process, the memory and the disk of a folder.
#[derive(Debug)]
pub struct Machine {
    system: System,
    folder: PathBuf,
    /// What the run computes on, each once.
    devices: Vec<Device>,
    /// When it was looked at last, and the processor time of the process until then in seconds.
    before: Option<(Instant, f64)>,
}

impl Machine {
    /// A look at this machine from the run in `folder`, which computes on `devices`.
    pub fn new(folder: &Path, devices: Vec<Device>) -> Self {
        let system = System::new_with_specifics(RefreshKind::nothing());
        let mut each: Vec<Device> = Vec::new();
        for device in devices.into_iter().map(Device::inner) {
            if !each.contains(&device) {
                each.push(device);
            }
        }
        Self { system, folder: folder.into(), devices: each, before: None }
    }

    /// What there is now.
    pub fn line(&mut self, stamp: Stamp) -> SystemLine {
        let pid = Pid::from_u32(std::process::id());
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        self.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[pid]),
            false,
            ProcessRefreshKind::nothing().with_memory().with_cpu(),
        );
        let process = self.system.process(pid);
        let (now, used) = (Instant::now(), process.map(|p| p.accumulated_cpu_time() as f64 / 1e3));
        let since = self.before.zip(used);
        let cpu_cores = since.map(|((then, before), used)| {
            (used - before) / now.duration_since(then).as_secs_f64().max(1e-3)
        });
        self.before = used.map(|used| (now, used));
        SystemLine {
            stamp,
            resident_bytes: process.map(sysinfo::Process::memory),
            available_bytes: available_bytes(&self.system),
            cpu_cores,
            device_bytes: device_bytes(&self.devices),
            disk_free_bytes: disk_free_bytes(&self.folder),
        }
    }
}

/// Memory that the system as it was looked at last can still give; none where that is not known.
pub fn available_bytes(system: &System) -> Option<u64> {
    // Of a container its limit, for what it uses is partly files that give way.
    Some(system.available_memory().min(limit_bytes(system))).filter(|&bytes| bytes > 0)
}

/// All memory of the system as it was looked at last: of a container its limit.
pub fn total_bytes(system: &System) -> u64 {
    system.total_memory().min(limit_bytes(system))
}

fn limit_bytes(system: &System) -> u64 {
    system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory)
}

/// The most bytes of memory that this process has had so far. Where the system does not say (Linux
/// does), what it has now: freed pages stay with it. None where not even that is known.
pub fn peak_resident_bytes() -> Option<u64> {
    peak_bytes().or_else(|| {
        let pid = Pid::from_u32(std::process::id());
        let mut system = System::new_with_specifics(RefreshKind::nothing());
        let memory = ProcessRefreshKind::nothing().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, memory);
        system.process(pid).map(sysinfo::Process::memory)
    })
}

/// Bytes that tensors have on the devices which tell it (those of CubeCL); none where none does.
fn device_bytes(devices: &[Device]) -> Option<u64> {
    let told = devices.iter().filter_map(Device::memory_pool_usage);
    told.map(|usage| usage.bytes_in_use).reduce(|sum, bytes| sum + bytes)
}

/// Bytes that are left to this user on the disk of a folder.
#[cfg(unix)]
fn disk_free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// Not known here.
#[cfg(not(unix))]
fn disk_free_bytes(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_there_stays_in_the_peak() {
        let before = peak_bytes().unwrap();
        let size = 64 << 20;
        drop(std::hint::black_box(vec![1u8; size]));
        let peak = peak_resident_bytes().unwrap();
        // Other tests of this process may have given memory back meanwhile, but a peak stays.
        assert!(peak >= before && peak >= size as u64, "{before} {peak}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Machine::new(folder.path(), vec![Device::flex(); 2]);
        let first = machine.line(Stamp::default());
        assert_eq!((first.cpu_cores, first.device_bytes), (None, None));
        assert_eq!(machine.devices.len(), 1);
        assert!((1_000_000..1 << 40).contains(&first.resident_bytes.unwrap()), "{first:?}");
        assert!(first.available_bytes.unwrap() > 0 && first.disk_free_bytes.unwrap() > 0);
        let begun = Instant::now();
        let mut sum = 0u64;
        while begun.elapsed().as_millis() < 200 {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        let cores = machine.line(Stamp::default()).cpu_cores.unwrap();
        assert!(cores > 0.1, "{cores} {sum}");
    }
}
