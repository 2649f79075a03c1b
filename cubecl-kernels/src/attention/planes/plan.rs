//! Which attentions planes serve, and how these are counted.

use super::place::Groups;
use crate::attention::kernel::SizesLaunch;
use crate::attention::plan::sizes;
use crate::definition::AttentionShape;
use crate::device::cubes_of;
use crate::device::plane_mix::MIX_WORDS;
use crate::device::plane_tile::{LANES, PAIR, PlaneTile, has_plane_tiles};
use cubecl::prelude::*;

/// Rows of a tile.
const ROWS: u32 = 32;
/// Units of a cube.
const UNITS: u32 = 32;
/// Groups of mixed columns that fit a unit.
const MOST_GROUPS: u32 = 5;

/// An attention that planes compute.
#[derive(Clone, Copy)]
pub(crate) struct Planes {
    pub(crate) tile: PlaneTile,
    pub(crate) groups: Groups,
}

impl Planes {
    /// None where the device has no such planes, or a width is odd, zero or too large.
    pub(crate) fn of(client: &Client, shape: &AttentionShape) -> Option<Self> {
        let widths = [shape.nope_dim, shape.rope_dim, shape.v_dim];
        let pair = PAIR as usize;
        if !has_plane_tiles(client) || widths.iter().any(|&w| w == 0 || !w.is_multiple_of(pair)) {
            return None;
        }
        let [nope, rope, v] =
            widths.map(|width| (width / pair).div_ceil(MIX_WORDS as usize) as u32);
        let groups = Groups { nope, rope, v };
        (nope + rope + v <= MOST_GROUPS)
            .then_some(Self { tile: PlaneTile::of_depths(ROWS), groups })
    }

    /// Planes for as many blocks of rows of every head.
    pub(crate) fn count(&self, shape: &AttentionShape, rows: usize) -> usize {
        shape.batch * shape.heads * rows.div_ceil(self.tile.rows as usize)
    }

    /// The launch of so many planes.
    pub(crate) fn cubes(client: &Client, planes: usize) -> (CubeCount, CubeDim) {
        (cubes_of(client, planes * LANES as usize, UNITS), CubeDim::new_1d(UNITS))
    }

    /// The sizes, in words.
    pub(crate) fn sizes(shape: &AttentionShape) -> SizesLaunch {
        sizes(shape, PAIR as usize)
    }
}
