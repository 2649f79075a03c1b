//! Rows to other ranks and back (3.2.2, 3.3.3): [`pack`] permutes rows and casts them in one read,
//! [`unpack`] puts what has arrived in the experts' order, [`combine`] sums a token's rows; and the
//! gradient of each.
//!
//! A cast passes gradients straight through: the gradient of [`pack`] and of [`unpack`] is that of
//! the gather that they are. Every sum has the order that [`RowSums`](crate::definition::RowSums)
//! gives it.

mod combine;
mod pack;
#[cfg(test)]
mod tests;
mod values;

pub use combine::{combine, combine_backward, sum_values};
pub use pack::{pack, pack_backward, unpack, unpack_backward};
