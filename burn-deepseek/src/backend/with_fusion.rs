//! Burn as the extension macro expects to find it where it writes the fusion decorator's part.
//!
//! That part names `burn::backend::fusion`, which Burn has with its feature `fusion` alone. The
//! feature decorates the devices of other processes too, and there Burn 0.22.1 replays some graphs
//! with their tensors mixed up. What Burn's default features turn on is `burn-cubecl/fusion`, which
//! leaves those devices alone, and so it is here.

pub(super) mod backend {
    pub(in crate::backend) use ::burn::backend::*;
    pub(in crate::backend) use ::burn_fusion as fusion;
}
