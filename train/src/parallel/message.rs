//! What ranks can send each other, and what becomes of it where it does not arrive.

use burn::tensor::{Device, Tensor};
use burn_deepseek::ops;

use super::contents::{Contents, Reading};
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
pub trait Message: Sized + Send + 'static {
    /// Bytes of the tensors in it.
    fn bytes(&self) -> u64;

    /// The message with its tensors on a device.
    fn moved(self, device: &Device) -> Self;

    /// Appends the message to what another process is sent. A tensor that nobody else holds is not
    /// copied for that, where its device is the host.
    fn write(self, into: &mut Contents);

    /// Takes the message off what another process has sent; none where it is not such a message.
    fn read(from: &mut Reading) -> Option<Self>;
}

impl<const D: usize> Message for Tensor<D> {
    fn bytes(&self) -> u64 {
        (self.shape().num_elements() * self.dtype().size()) as u64
    }

    fn moved(self, device: &Device) -> Self {
        ops::moved(self, device)
    }

    fn write(self, into: &mut Contents) {
        into.add(self.into_data());
    }

    fn read(from: &mut Reading) -> Option<Self> {
        let (data, dtype) = from.take::<D>()?;
        Some(Self::from_data(data, (from.head.device(), dtype)))
    }
}

impl<T: Message> Message for Option<T> {
    fn bytes(&self) -> u64 {
        self.as_ref().map_or(0, Message::bytes)
    }

    fn moved(self, device: &Device) -> Self {
        self.map(|message| message.moved(device))
    }

    fn write(self, into: &mut Contents) {
        self.is_some().pack(&mut into.head);
        if let Some(message) = self {
            message.write(into);
        }
    }

    fn read(from: &mut Reading) -> Option<Self> {
        match bool::unpack(&mut from.head)? {
            true => T::read(from).map(Some),
            false => Some(None),
        }
    }
}
