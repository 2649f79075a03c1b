//! Decoding: a latent cache a layer, sampling, and speculation with the MTP modules (2.1.1, 2.2).

mod decoder;
mod not_finite;
mod run;
mod sampling;
mod speculative;

pub use decoder::Decoder;
pub(crate) use decoder::token_tensor;
pub use not_finite::NotFinite;
pub use run::{GenerateError, GenerateOptions, Generation};
pub(crate) use sampling::argmax;
pub use sampling::{Sampler, Sampling};
