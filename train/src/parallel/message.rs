//! What ranks can send each other, and what becomes of it where it does not arrive.

use burn::tensor::{Device, Tensor};
use burn_deepseek::ops;

use super::packed::Packed;
use crate::failure::blamed;

/// A message that has not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The sender is late.
    #[error(
        "rank {to} waited {seconds} s for rank {from}: {subject} did not come (parallel.timeout_s)"
    )]
    Late {
        /// Who should have sent it.
        from: usize,
        /// Who waited.
        to: usize,
        /// What did not come.
        subject: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Another rank has failed; its own error says how.
    #[error("rank {rank} has failed")]
    Failed {
        /// Which.
        rank: usize,
    },
    /// A rank in another process has sent something that is not what it should be.
    #[error("rank {from} sent rank {to} something else than {subject}")]
    Garbled {
        /// Who sent it.
        from: usize,
        /// Who got it.
        to: usize,
        /// What it should have been.
        subject: String,
    },
}

blamed!(Run: PostError);

/// What can be sent.
pub trait Message: Packed + Send + 'static {
    /// Bytes of the tensors in it.
    fn bytes(&self) -> u64;

    /// The message with its tensors on a device.
    fn moved(self, device: &Device) -> Self;
}

impl<const D: usize> Message for Tensor<D> {
    fn bytes(&self) -> u64 {
        (self.shape().num_elements() * self.dtype().size()) as u64
    }

    fn moved(self, device: &Device) -> Self {
        ops::moved(self, device)
    }
}

impl<T: Message> Message for Option<T> {
    fn bytes(&self) -> u64 {
        self.as_ref().map_or(0, Message::bytes)
    }

    fn moved(self, device: &Device) -> Self {
        self.map(|message| message.moved(device))
    }
}
