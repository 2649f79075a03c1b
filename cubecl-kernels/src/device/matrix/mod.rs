//! Matrix instructions on BF16: which devices have them, and the pieces of a product that the units
//! of a plane hold for one.
//!
//! A product on a device with matrix instructions is made of `C += A B` of 16x16 and 16x8 numbers,
//! done by the 32 units of a plane together. Every unit holds a few registers of each matrix, and a
//! register is a pair of BF16: two neighbours of a row of `A`, or of a column of `B`. [`fragment`]
//! has where they lie and how they are loaded, [`unit`] which devices do it.

mod emulated;
pub(crate) mod fragment;
mod trial;
mod unit;

pub use unit::{MatrixUnit, matrix_unit};
