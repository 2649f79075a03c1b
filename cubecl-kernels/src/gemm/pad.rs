//! Operands as the copy engine can bring them: every row, and every group along the depth, from a
//! multiple of 128 codes on, and zeros after its end.
//!
//! # Rejected
//! - Casts that write such rows at once: how transposed codes lie is one layout for all devices and
//!   the wire, and a group of few rows would keep 128 of them for backward.
//! - Tiles of a group that end within it, their rest cleared in shared memory: a barrier more in each
//!   step of the product, for what one pass over the codes, a byte an entry, does before it.

use super::kernel::pad::pad_rows;
use super::kernel::problem::TILE_WORDS;
use super::product::{Buffer, Kind, Product};
use crate::definition::{KernelError, words};
use crate::device::{UNITS, addressable, allocate, argument, elementwise_cubes};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Rows of an operand's codes and their words.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) rows: usize,
    pub(super) words: usize,
    /// Tiles of a row.
    pub(super) tiles: usize,
}

/// Whether rows of so many words begin where the copy engine can.
pub(super) fn fits(codes: &Handle, words: usize) -> bool {
    words.is_multiple_of(4) && codes.offset_start.unwrap_or(0).is_multiple_of(16)
}

/// A copy of an operand of `product` with each row and group padded to whole tiles:
/// `[rows, 32 tiles]`.
///
/// # Errors
/// [`KernelError::Overflow`] where it cannot be addressed.
pub(super) fn padded(
    product: &Product<'_>,
    codes: &Buffer<'_>,
    of: Rows,
) -> Result<Handle, KernelError> {
    let total = addressable(product.op, "codes", &[of.rows, of.tiles, TILE_WORDS as usize])?;
    let copy = allocate(product.client, total, 4);
    let (grouped, groups, table) = match &product.kind {
        Kind::Depth(groups, table) => (true, *groups, argument(table, 3 * (groups + 1))),
        _ => (false, 0, argument(codes.handle, codes.count)),
    };
    if total > 0 {
        // SAFETY: `codes` was found to hold `rows` rows of `words` words and `copy` was allocated
        // for `total`; a unit past the last word does nothing, and a word past the end of its row
        // or group is not read. The table of groups is that of the layout.
        unsafe {
            pad_rows::launch_unchecked(
                product.client,
                elementwise_cubes(product.client, total),
                CubeDim::new_1d(UNITS),
                codes.argument(),
                table,
                argument(&copy, total),
                total as u32,
                of.words as u32,
                of.tiles as u32,
                groups as u32,
                grouped,
            );
        }
    }
    Ok(copy)
}

/// Words of a row of so many tiles.
pub(super) const fn padded_words(tiles: usize) -> usize {
    tiles * TILE_WORDS as usize
}

const _: () = assert!(TILE_WORDS as usize == words(crate::definition::TILE));

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
#[allow(clippy::unwrap_used)] // clippy does not see it of a test's helpers
mod tests {
    use super::*;
    use crate::definition::{Fp8Format, tiles};
    use crate::device::DeviceGroups;
    use crate::gemm::execute::{self, Kernel};
    use crate::gemm::product::Depth;
    use crate::gemm::trial;

    /// Groups of the depth with ragged ends, one of them empty.
    const OFFSETS: [usize; 6] = [0, 5, 5, 134, 1834, 1962];

    fn read(client: &Client, x: Handle) -> Vec<u32> {
        u32::from_bytes(&client.read_one(x).unwrap()).to_vec()
    }

    #[test]
    fn groups_begin_at_tiles_and_end_in_zeros() {
        let client = cubecl::Device::default().client();
        let rows = *OFFSETS.last().unwrap();
        let groups = DeviceGroups::new(&client, &OFFSETS, rows).unwrap();
        let codes = trial::grouped_codes(&groups, 3, 7);
        let handle = client.create_from_slice(u32::as_bytes(&codes));
        let scales: Vec<f32> = (0..3 * groups.tiles()).map(|i| 0.5 + i as f32).collect();
        let scales = client.create_from_slice(f32::as_bytes(&scales));
        let depth =
            Depth { k: 0, words: groups.words(), tiles: groups.tiles(), groups: groups.len() };
        let product = |kind| {
            let (a, b) = ([&handle, &scales], [&handle, &scales]);
            Product::along(&client, "test", a, b, [3, 3], [Fp8Format::E4M3; 2], depth, kind)
        };
        let plain = product(Kind::Depth(groups.len(), groups.table_handle().unwrap()));
        let of = Rows { rows: 3, words: groups.words(), tiles: groups.tiles() };
        let copy = padded(&plain, &plain.a[0], of).unwrap();

        let mut expected = vec![0u32; 3 * padded_words(groups.tiles())];
        for row in 0..3 {
            for (g, bounds) in OFFSETS.windows(2).enumerate() {
                let count = words(bounds[1] - bounds[0]);
                let layout = groups.layout().unwrap();
                let from = row * groups.words() + layout.words[g];
                let to = row * padded_words(groups.tiles()) + 32 * layout.tiles[g];
                expected[to..to + count].copy_from_slice(&codes[from..from + count]);
            }
        }
        assert_eq!(read(&client, copy.clone())[..expected.len()], expected);

        // The product of the copies is that of what was copied, to the last bit.
        let mut of_copies = product(Kind::Depth(groups.len(), groups.table_handle().unwrap()));
        for operand in [&mut of_copies.a[0], &mut of_copies.b[0]] {
            *operand = Buffer { handle: &copy, count: expected.len() };
        }
        of_copies.a_strides[0] = padded_words(groups.tiles());
        of_copies.b_words = padded_words(groups.tiles());
        of_copies.padded = true;
        let run = |product: &Product<'_>| {
            let c = execute::run(product, |p| Ok(Kernel::portable(p)), Default::default());
            read(&client, c.unwrap())
        };
        assert_eq!(run(&of_copies), run(&plain));
        assert!(run(&plain)[..9 * groups.len()].iter().any(|&bits| bits != 0));
    }

    #[test]
    fn rows_without_groups() {
        let client = cubecl::Device::default().client();
        for k in [1, 127, 128, 131, 1700] {
            let (rows, words) = (5, words(k));
            let codes = trial::codes(rows, k, 7);
            let handle = client.create_from_slice(u32::as_bytes(&codes));
            let depth = Depth { k, words, tiles: tiles(k), groups: 1 };
            let (a, b) = ([&handle, &handle], [&handle, &handle]);
            let formats = [Fp8Format::E4M3; 2];
            let product =
                Product::along(&client, "test", a, b, [rows; 2], formats, depth, Kind::Dense);
            let of = Rows { rows, words, tiles: tiles(k) };
            let copy = read(&client, padded(&product, &product.a[0], of).unwrap());
            for row in 0..rows {
                let mut expected = codes[row * words..(row + 1) * words].to_vec();
                expected.resize(padded_words(tiles(k)), 0);
                assert_eq!(copy[row * expected.len()..][..expected.len()], expected, "{k} {row}");
            }
        }
    }
}
