//! Values that the host has to see. On a device that works asynchronously each read waits until all
//! that was asked of the device before is done, so a training step makes few of them, and they are
//! counted.

use std::cell::Cell;

use burn::tensor::kind::Basic;
use burn::tensor::{Tensor, TensorData};

thread_local! {
    static READS: Cell<u64> = const { Cell::new(0) };
}

/// The values of a tensor on the host; one of the [`host_reads`].
pub fn to_host<const D: usize, K: Basic>(x: Tensor<D, K>) -> TensorData {
    READS.set(READS.get() + 1);
    x.into_data()
}

/// How often this thread has read values back by [`to_host`], as everything does that a training step
/// cannot do without: losses, routing, norms.
pub fn host_reads() -> u64 {
    READS.get()
}
