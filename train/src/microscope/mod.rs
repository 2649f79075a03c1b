//! The routing microscope: a checkpoint is asked what it makes of a text, token by token and layer
//! by layer, and what it would make of it if its routers chose otherwise or in another precision.
//!
//! **Invariant.** A text is looked at in one pass with the true tokens before each position, so
//! what is shown of a token is what training and `eval` compute of it. A what-if in which nothing
//! is changed has the same bits.

mod asked;
mod desk;
mod error;
mod look;
mod moved;
mod scope;
mod taken;
mod text;

pub use asked::{BiasMove, ExpertOf, WhatIf};
pub use desk::{Answer, Desk, MOST_WAITING, Question};
pub use error::MicroscopeError;
pub use look::{Inspected, LayerPath, Look, TokenPath, TokenView};
pub use moved::{LayerMoved, Moved};
pub use scope::Microscope;
pub use taken::{Taken, TakenToken, TakenTokens};
pub use text::Text;
