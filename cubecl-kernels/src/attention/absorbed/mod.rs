//! Attention over cached latents in absorbed form, for decoding (2.1.1): what `kv_b` would expand
//! them to is multiplied into the queries and out of the mixes of latents, which all heads share.
//!
//! Rows of all heads meet the latents as one matrix. Keys are cut into parts, each with a softmax of
//! its own, so that a few rows make work for a whole device; the parts' mixes are put together in
//! their order.

mod kernel;
mod launch;

pub use launch::absorbed_attention;
