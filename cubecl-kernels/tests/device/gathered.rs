//! Rows by index with their cast: the codes of the copies.

use crate::client::{client, upload, words};
use crate::oracle::spread;
use cubecl::prelude::Client;
use cubecl_kernels::KernelError;
use cubecl_kernels::all_to_all::{DeviceIndex, pack};
use cubecl_kernels::definition::{
    Granularity, QuantizeOptions, ScaleFormat, WireFormat, tiles, words as words_of,
};
use cubecl_kernels::device::{DeviceGroups, Element};
use cubecl_kernels::quantize::{
    DeviceCodes, quantize_both, quantize_gathered, quantize_gathered_rows, quantize_rows,
};

#[track_caller]
fn assert_same(client: &Client, name: &str, pair: [&DeviceCodes; 2], sizes: (usize, usize)) {
    let [fused, apart] = pair;
    let read = |codes: &DeviceCodes| {
        (words(client, &codes.codes, sizes.0), words(client, &codes.scales, sizes.1))
    };
    let (fused, apart) = (read(fused), read(apart));
    assert_eq!(fused.0, apart.0, "{name}: codes");
    assert_eq!(fused.1, apart.1, "{name}: scales");
}

/// Groups of rows, the rows of `x`, and columns.
const HARD: [(&[usize], usize, usize); 8] = [
    (&[0, 5], 2, 7),
    (&[0, 130], 300, 260),
    (&[0, 0, 3, 3, 140, 200], 90, 132),
    (&[0, 0, 3, 3, 140, 200], 90, 144),
    (&[0, 1, 129], 1, 128),
    (&[0, 0, 0], 4, 8),
    (&[0, 0], 0, 8),
    (&[0, 3, 4], 2, 0),
];

#[test]
fn codes_and_scales_are_those_of_the_copies() {
    let client = client();
    for (offsets, rows, columns) in HARD {
        let count = offsets[offsets.len() - 1];
        let groups = DeviceGroups::new(&client, offsets, count).unwrap();
        let index: Vec<u32> = (0..count).map(|i| (7 * i % rows.max(1)) as u32).collect();
        let index = DeviceIndex::new(&client, &index, rows).unwrap();
        let mut x = spread(3, rows * columns);
        if rows > 80 {
            x[columns] = f32::NAN;
            x[2 * columns..3 * columns].fill(0.0);
        }
        let x = upload(&client, &x);
        let all = [Granularity::Tile, Granularity::Block, Granularity::Tensor];
        for granularity in all {
            let options = QuantizeOptions {
                granularity,
                scale: ScaleFormat::PowerOfTwo,
                ..QuantizeOptions::default()
            };
            let name = format!("{offsets:?} of {rows} x {columns}, {granularity:?}");
            let copies = pack(&client, &x, &index, columns, WireFormat::F32).unwrap();
            let f32 = Element::F32;
            let of_rows = (count * words_of(columns), count * tiles(columns));
            let of_columns = (columns * groups.words(), columns * groups.tiles());

            let apart = quantize_rows(&client, &copies, f32, count, columns, &options).unwrap();
            let fused = quantize_gathered_rows(&client, &x, &index, columns, &options).unwrap();
            assert_same(&client, &name, [&fused, &apart], of_rows);

            let apart = quantize_both(&client, &copies, f32, &groups, columns, &options).unwrap();
            let fused = quantize_gathered(&client, &x, &index, &groups, columns, &options).unwrap();
            assert_same(&client, &format!("{name}, by rows"), [&fused.0, &apart.0], of_rows);
            assert_same(&client, &format!("{name}, by columns"), [&fused.1, &apart.1], of_columns);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (client, options) = (client(), QuantizeOptions::default());
    let index = DeviceIndex::new(&client, &[0, 1, 1], 2).unwrap();
    let small = upload(&client, &[0.0; 5]);
    let error = quantize_gathered_rows(&client, &small, &index, 3, &options).unwrap_err();
    assert!(
        matches!(error, KernelError::Length { argument: "x", expected: 6, actual: 5, .. }),
        "{error}"
    );
    let x = upload(&client, &[0.0; 6]);
    let groups = DeviceGroups::new(&client, &[0, 2], 2).unwrap();
    let error = quantize_gathered(&client, &x, &index, &groups, 3, &options).unwrap_err();
    assert!(matches!(error, KernelError::Invalid { argument: "groups", .. }), "{error}");
}
