//! Attention by matrix instructions: a cube's planes take sixteen rows each, in BF16 with sums and
//! the softmax in FP32, and keep scores in registers alone.
//!
//! The operands are packed once a call, head by head and with every width a multiple of sixteen, so
//! that the kernels copy whole lines into shared memory and have no odd sizes but at their results.
//! What is rounded to BF16 is what the host rounds: the queries, the keys times the scale, the
//! values, the output's gradient, and of the scores' blocks the weights and their gradients.

mod block;
mod copy;
mod form;
mod forward;
mod key_gradient;
mod launch;
mod pack;
mod query_gradient;
#[cfg(all(test, feature = "wgpu"))]
mod tests;

pub(super) use form::MatrixTiles;
