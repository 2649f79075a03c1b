//! Which tile of `C` a cube and a unit compute.
//!
//! On a GPU a cube stages both operands in shared memory. A software renderer has no such memory and
//! runs a barrier as a switch between coroutines: there each unit loads what it multiplies.
//!
//! # Rejected
//! - A launch an expert, by a framework's own product: as many launches as experts, each with the
//!   rows of one, and the host must know how many these are.
//! - Room for as many rows of each expert as there are tokens, for one batched product: an expert has
//!   `top_k / experts` of them on average.

use crate::device::is_software;
use cubecl::prelude::*;

/// The tile of `C` that a cube computes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    /// Rows and columns of a unit.
    pub(super) each: u32,
    /// Units along rows and columns.
    pub(super) units: (u32, u32),
    /// Whether operands are staged in shared memory.
    pub(super) staged: bool,
}

impl Tile {
    /// The tile of a device's products.
    pub(super) fn of(client: &Client) -> Self {
        if is_software(client) {
            Self { each: 8, units: (2, 8), staged: false }
        } else {
            Self { each: 4, units: (16, 16), staged: true }
        }
    }

    pub(super) const fn rows(&self) -> u32 {
        self.each * self.units.0
    }

    pub(super) const fn columns(&self) -> u32 {
        self.each * self.units.1
    }

    pub(super) const fn cube(&self) -> u32 {
        self.units.0 * self.units.1
    }
}
