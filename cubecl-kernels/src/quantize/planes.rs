//! The launches of casts by planes, for a software renderer.

use super::kernel::form::{AmaxOf, CastForm, ScalesAs};
use super::kernel::planes::{
    COLUMNS, PlaneSizesLaunch, ROW_EACH, ROWS, cast_columns_planes, cast_rows_planes,
};
use super::source::{Outputs, Source};
use crate::definition::TILE;
use crate::device::plane_tile::{LANES, PAIR, has_plane_tiles};
use crate::device::{DeviceGroups, Element, argument, cubes_of};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Units of a cube.
const UNITS: u32 = 32;
/// Words of two numbers that a unit loads at once.
const LOADED: usize = 2;

impl Source<'_> {
    /// Whether planes cast this: FP32 with a scale a tile, of whole units.
    pub(super) fn suits_planes(&self, form: &CastForm) -> bool {
        let tiles = form.amax == AmaxOf::Tile && form.scales == ScalesAs::Tiles;
        tiles
            && self.element == Element::F32
            && self.experts == 1
            && self.columns.is_multiple_of(ROW_EACH as usize)
            && has_plane_tiles(self.client)
    }

    /// One launch for each orientation that `form` has. `other` is a buffer for what is not read.
    pub(super) fn cast_by_planes(
        &self,
        groups: &DeviceGroups,
        form: CastForm,
        outputs: &Outputs,
        other: &Handle,
    ) {
        let (client, dim) = (self.client, CubeDim::new_1d(UNITS));
        let x = || argument(self.x, self.count / (PAIR as usize * LOADED));
        let numbers = || match self.index {
            Some(index) => index.argument(),
            None => argument(other, 1),
        };
        let sizes = || {
            PlaneSizesLaunch::new(
                self.rows as u32,
                self.columns as u32,
                groups.len() as u32,
                groups.words() as u32,
                groups.tiles() as u32,
            )
        };
        let cubes = |planes: usize| cubes_of(client, planes * LANES as usize, UNITS);
        if form.orientations.rows {
            let planes = self.rows.div_ceil(ROWS as usize) * self.columns.div_ceil(TILE);
            let (codes, scales) = outputs.of_rows(ROW_EACH as usize / 4);
            // SAFETY: `x` was found to hold `count` numbers, `index` has a row of it for each that
            // is cast, and codes and scales were allocated for `rows` and `columns`, which is a
            // multiple of a unit's; the kernel checks rows and columns against those.
            unsafe {
                cast_rows_planes::launch_unchecked(
                    client,
                    cubes(planes),
                    dim,
                    LOADED,
                    ROW_EACH as usize / 4,
                    x(),
                    numbers(),
                    codes,
                    scales,
                    sizes(),
                    form,
                );
            }
        }
        if form.orientations.columns {
            let planes = groups.tiles() * self.columns.div_ceil(COLUMNS as usize);
            let (codes, scales) = outputs.of_columns();
            // SAFETY: as above; the table of groups covers `rows`, and codes and scales were
            // allocated for its words and tiles, which the kernel stays below.
            unsafe {
                cast_columns_planes::launch_unchecked(
                    client,
                    cubes(planes),
                    dim,
                    LOADED,
                    x(),
                    numbers(),
                    groups.table_or(other),
                    codes,
                    scales,
                    sizes(),
                    CastForm { grouped: !groups.is_single(), ..form },
                );
            }
        }
    }
}

// A unit's columns are whole loads.
const _: () = assert!((ROW_EACH as usize).is_multiple_of(PAIR as usize * LOADED));
