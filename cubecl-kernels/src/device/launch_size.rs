//! How many cubes and units a launch has, and what of a device decides it.

use cubecl::prelude::*;

/// Units of a cube, in every kernel that has no reason for another number.
pub(crate) const UNITS: u32 = 256;

/// Entries a unit loads at once; one where there is none, for a buffer of none holds no vector.
pub(crate) const fn load_width(columns: usize) -> usize {
    if columns > 0 && columns.is_multiple_of(4) { 4 } else { 1 }
}

/// Cubes of [`UNITS`] for one unit an item; more cubes than a dimension holds continue in the next.
pub(crate) fn elementwise_cubes(client: &Client, items: usize) -> CubeCount {
    cubes_of(client, items, UNITS)
}

/// Cubes of so many units for one unit an item, as [`elementwise_cubes`] counts them.
pub(crate) fn cubes_of(client: &Client, items: usize, units: u32) -> CubeCount {
    let cubes = items.div_ceil(units as usize);
    let most = (client.properties().hardware.max_cube_count.0 as usize).min(1 << 15);
    let x = cubes.min(most).max(1);
    CubeCount::Static(x as u32, cubes.div_ceil(x) as u32, 1)
}

/// Whether the device is a software renderer, by its planes of 8 units at most.
///
/// Such a device compiles a kernel by what it unrolls (a cast of 64 unrolled entries takes a
/// minute), has no registers to fill, and no shared memory that is nearer than any other.
pub fn is_software(client: &Client) -> bool {
    client.properties().hardware.plane_size_max <= 8
}

/// The compute capability of an NVIDIA device behind the CUDA runtime, 90 for 9.0.
pub(crate) fn compute_capability(client: &Client) -> Option<u32> {
    client.properties().identity.fingerprint.strip_prefix("ptx_sm")?.parse().ok()
}
