//! The FP8 operations as a backend extension: casts, products and differentiable linears (3.3).
//!
//! [`Fp8Kernels`] is the table of casts and products, on tensors without autodiff; [`Fp8Ops`] has
//! the differentiable linears made of them: Fprop in its rows, Dgrad and Wgrad in `autodiff`.
//! Layouts of codes and scales are those of [`cubecl_kernels::definition`].

mod autodiff;
mod counter;
mod counts;
#[cfg(feature = "cube")]
mod cube;
mod flex;
mod kernels;
mod linear;
mod matrix;
mod shapes;
#[cfg(test)]
mod tests;

pub use counter::{CastCounter, CastKind, Casts};
pub(crate) use counts::{ROWS_A_COUNTED_ONE, every};
pub use cubecl_kernels::definition::GroupedLinearShape;
#[cfg(feature = "remote")]
pub(super) use kernels::fp8_kernels;
pub use kernels::{Fp8Kernels, SwigluColumns};
pub use linear::{Fp8Ops, LinearCall};
pub use matrix::{Fp8Hidden, Fp8Matrix, Fp8Pair, Fp8Weight};
#[cfg(any(feature = "cube", feature = "remote"))]
pub(super) use shapes::{MatrixShape, WeightShape};
pub use shapes::{RowGroups, Side};
