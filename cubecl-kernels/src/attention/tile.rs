//! Which tile an attention takes.
//!
//! A block of queries meets a block of keys in one of three tiles: that of a device's matrix
//! instructions, for BF16; that of a plane, where a processor stands in for a GPU; that of one unit,
//! in FP32 and on every runtime.
//!
//! # Rejected
//! - BF16 by the tile of a unit where there are no matrix instructions: it would round and be no
//!   faster, so FP32 serves there.

use super::matrix::MatrixTiles;
use super::planes::Planes;
use crate::definition::AttentionShape;
use crate::device::MatrixUnit;
use cubecl::prelude::Client;

/// What computes the blocks of an attention.
#[derive(Clone, Copy)]
pub(super) enum Tile {
    /// Matrix instructions on BF16.
    Matrix(MatrixTiles),
    /// A plane of a software renderer.
    Plane(Planes),
    /// A unit.
    Unit,
}

impl Tile {
    /// The tile of a device for a shape: of this matrix unit, if there is one and it can take it.
    pub(super) fn of(client: &Client, shape: &AttentionShape, unit: Option<MatrixUnit>) -> Self {
        if let Some(tiles) = unit.and_then(|unit| MatrixTiles::by(client, shape, unit)) {
            return Self::Matrix(tiles);
        }
        Planes::of(client, shape).map_or(Self::Unit, Self::Plane)
    }
}
