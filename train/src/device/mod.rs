//! `--device`: from a name to a Burn device that exists, among the backends that this binary was
//! built with.

mod adapters;
mod backend;
mod choice;
mod cluster;
mod error;
mod selected;
#[cfg(test)]
mod tests;
mod worker;

pub use backend::GpuBackend;
pub use choice::DeviceChoice;
pub use cluster::{ClusterError, cluster_devices};
pub use error::DeviceError;
pub use selected::SelectedDevice;
pub use worker::{Token, TokenError, WorkerDevice};
