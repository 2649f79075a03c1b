//! The kernels of a product, each of which computes the whole of it; [`path`](super::path) and
//! [`plan`](super::plan) choose.

pub(super) mod emulated;
pub(super) mod pad;
pub(super) mod problem;
pub(super) mod tensor_core;
pub(super) mod tiles;
pub(super) mod warpgroup;
