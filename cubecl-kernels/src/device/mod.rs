//! What every operation on a device needs: element types, buffers and their checks, groups of rows,
//! how launches are counted, and the codec of small floating point formats.
//!
//! Every operation stands on this room, and it knows none of them.
//!
//! A handle holds elements row by row and nothing else; one that is larger than its shape is fine,
//! a smaller one is refused.

mod buffer;
pub(crate) mod codec;
mod codec_ptx;
#[cfg(all(test, feature = "wgpu"))]
mod codec_tests;
pub(crate) mod conversion;
mod element;
mod group_search;
mod groups;
mod launch_size;
pub(crate) mod matrix;
mod per_device;
pub(crate) mod plane_mix;
pub(crate) mod plane_tile;
pub(crate) mod raster;
mod shortfall;
pub(crate) mod tile;
mod trial_numbers;
pub(crate) mod warpgroup;

pub(crate) use buffer::{addressable, allocate, argument, check_handle};
pub use conversion::{CastPath, cast_path};
pub use element::Element;
pub(crate) use group_search::{group_of_tile, piece_of_rows};
pub use groups::DeviceGroups;
pub use launch_size::is_software;
pub(crate) use launch_size::{UNITS, compute_capability, cubes_of, elementwise_cubes, load_width};
pub use matrix::{MatrixUnit, matrix_unit};
pub(crate) use per_device::PerDevice;
pub use shortfall::Shortfall;
pub(crate) use trial_numbers::trial_numbers;
