//! Saved routings: which experts every token of every window had, in a file that a training or an
//! evaluation writes and another one replays.
//!
//! ```text
//! "DSROUTES"  version  header: model shape, which command made it
//! chunk       place (training or evaluation, step, first window), sizes, CRC-32
//!             zstd: a hash of each window's tokens, then the experts, layer by layer
//! chunk       ...
//! ```
//!
//! **Invariant.** A window's choices are found by what it is (its number in the data, for an
//! evaluation also the step that it follows) and given out only for the same tokens in a model of
//! the same shape. How windows were put together to micro-batches, or laid out over ranks, is not
//! in the file.

mod chunk;
mod error;
mod read;
mod shape;
mod tap;
#[cfg(test)]
mod tests;
mod write;

pub use chunk::{Phase, Place};
pub use error::RoutingFileError;
pub use read::SavedRouting;
pub use shape::{MadeBy, RoutingShape};
pub use tap::{Asked, RoutingTap};
pub use write::{RoutingWriter, WriteAt};

/// What a file of saved routings begins with.
const MAGIC: &[u8; 8] = b"DSROUTES";
/// The version that this program reads and writes.
const VERSION: u32 = 1;
