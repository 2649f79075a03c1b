//! Multi-head Latent Attention (2.1.1) and its rotary positions.

mod cache;
mod latent;
mod query;
mod rope;

pub use cache::{AttentionForm, LatentCache};
pub use latent::MultiHeadLatentAttention;
pub use query::{Query, QueryLatent};
pub use rope::{RotaryEmbedding, yarn_correction_range};
