//! `--device`: from a name to a Burn device that exists, among the backends that this binary was
//! built with.

mod adapters;
mod backend;
mod choice;
mod cluster;
mod error;
#[cfg(feature = "remote")]
mod introduction;
mod selected;
#[cfg(test)]
mod tests;
mod worker;

pub use backend::GpuBackend;
pub use choice::DeviceChoice;
pub use cluster::{ClusterError, cluster_devices};
pub use error::DeviceError;
#[cfg(feature = "remote")]
pub use introduction::Introduction;
pub use selected::SelectedDevice;
pub use worker::{Token, TokenError, WorkerDevice};
