//! Groups and rows that only the device knows: the bits of those that the host knows.

use crate::client::{client, upload, upload_words, words};
use crate::oracle::{random, spread};
use cubecl::prelude::Client;
use cubecl_kernels::KernelError;
use cubecl_kernels::all_to_all::{
    DeviceIndex, DeviceSums, combine, combine_backward, pack, pack_backward,
};
use cubecl_kernels::definition::{
    Accumulation, DispatchPlan, Fp8Format, GroupScore, GroupedColumns, QuantizeOptions, RouteShape,
    RowSums, WireFormat,
};
use cubecl_kernels::device::{DeviceGroups, Element};
use cubecl_kernels::gemm::{DeviceBlockTiled, DeviceRowTiled, ScaleTable};
use cubecl_kernels::grouped_gemm::{DeviceColumnTiled, fp8_grouped_gemm_nt, fp8_grouped_wgrad_nt};
use cubecl_kernels::quantize::{
    dequantize_columns, quantize_blocks, quantize_both, quantize_columns, quantize_rows,
};
use cubecl_kernels::route::{route_choices, sequence_counts};

const OFFSETS: [&[usize]; 7] = [
    &[0, 0],
    &[0, 5],
    &[0, 0, 1, 1, 34, 34],
    &[0, 130, 133, 133, 200],
    &[0, 9, 18, 27, 36, 45],
    &[0, 0, 0],
    &[0, 3, 3, 296, 697],
];

/// The groups as a device has counted them.
fn counted(client: &Client, offsets: &[usize]) -> DeviceGroups {
    let rows = *offsets.last().unwrap();
    let layout = GroupedColumns::new("test", offsets, rows).unwrap();
    let table: Vec<u32> =
        [offsets, &layout.words, &layout.tiles].into_iter().flatten().map(|&x| x as u32).collect();
    let groups =
        DeviceGroups::of_table(upload_words(client, &table), offsets.len() - 1, rows).unwrap();
    assert!(groups.offsets().is_none() && groups.layout().is_none());
    assert!(groups.words() >= *layout.words.last().unwrap());
    assert!(groups.tiles() >= *layout.tiles.last().unwrap());
    groups
}

#[test]
fn casts_and_products_in_fp8() {
    let client = client();
    let (n, k, o) = (33, 130, QuantizeOptions::default());
    for offsets in OFFSETS {
        let (rows, experts) = (*offsets.last().unwrap(), offsets.len() - 1);
        let [dy, x] =
            [(1, n), (2, k)].map(|(seed, width)| upload(&client, &spread(seed, rows * width)));
        let w = upload(&client, &spread(3, experts * n * k));
        let w = quantize_blocks(&client, &w, Element::F32, experts, n, k, &o).unwrap();
        let known = DeviceGroups::new(&client, offsets, rows).unwrap();
        let of = |groups: &DeviceGroups| {
            let columns =
                |x, width| quantize_columns(&client, x, Element::F32, groups, width, &o).unwrap();
            let (dy_columns, x_columns) = (columns(&dy, n), columns(&x, k));
            let (by_row, both) = quantize_both(&client, &x, Element::F32, groups, k, &o).unwrap();
            let values = |codes, width| {
                let values =
                    dequantize_columns(&client, codes, groups, width, Fp8Format::E4M3).unwrap();
                words(&client, &values, rows * width)
            };
            let dy_tiled = DeviceColumnTiled {
                codes: &dy_columns.codes,
                scales: &dy_columns.scales,
                columns: n,
                format: Fp8Format::E4M3,
            };
            let x_tiled = DeviceColumnTiled {
                codes: &x_columns.codes,
                scales: &x_columns.scales,
                columns: k,
                format: Fp8Format::E4M3,
            };
            let dw =
                fp8_grouped_wgrad_nt(&client, &dy_tiled, &x_tiled, groups, Accumulation::Promoted)
                    .unwrap();
            let alone = quantize_rows(&client, &x, Element::F32, rows, k, &o).unwrap();
            let a = DeviceRowTiled {
                codes: &alone.codes,
                scales: &alone.scales,
                rows,
                depth: k,
                format: Fp8Format::E4M3,
            };
            let b = DeviceBlockTiled {
                codes: &w.codes,
                scales: &w.scales,
                table: ScaleTable::AsStored,
                experts,
                rows: n,
                depth: k,
                format: Fp8Format::E4M3,
            };
            let product = |accumulation| {
                let y = fp8_grouped_gemm_nt(&client, &a, groups, &b, accumulation, Element::F32);
                words(&client, &y.unwrap(), rows * n)
            };
            vec![
                ("columns", values(&x_columns, k)),
                ("columns of both", values(&both, k)),
                ("rows of both", words(&client, &by_row.codes, rows * k.div_ceil(4))),
                ("wgrad", words(&client, &dw, experts * n * k)),
                ("product", product(Accumulation::Promoted)),
                ("emulated", product(Accumulation::Emulated { bits: 14, promote: true })),
            ]
        };
        for ((name, here), (_, there)) in of(&known).into_iter().zip(of(&counted(&client, offsets)))
        {
            assert!(here == there, "{name} of {offsets:?}");
        }
    }
}

#[test]
fn rows_of_slots_and_counts_of_sequences() {
    let client = client();
    for (sequences, seq, top_k, experts, width) in
        [(1, 1, 1, 1, 5), (3, 7, 3, 5, 33), (2, 130, 2, 8, 130), (1, 40, 8, 9, 4), (2, 0, 2, 4, 3)]
    {
        let tokens = sequences * seq;
        // Ascending, the last expert without a token where one can be left out.
        let choices: Vec<u32> = (0..tokens)
            .flat_map(|token| {
                let spare = experts - top_k;
                (0..top_k).map(move |j| (j + if spare > 1 { token % spare } else { 0 }) as u32)
            })
            .collect();
        let shape = RouteShape {
            tokens,
            experts,
            top_k,
            groups: 1,
            kept_groups: 1,
            group_score: GroupScore::Best,
        };
        let tables = route_choices(&client, upload_words(&client, &choices), &shape).unwrap();
        let plan = DispatchPlan::new(&choices, top_k, experts).unwrap();
        let rows = plan.rows();
        let x = upload(&client, &random(1, tokens * width));
        let y = upload(&client, &random(2, rows * width));
        let weights = upload(&client, &random(3, rows));
        let of = |index: &DeviceIndex, sums: &DeviceSums| {
            let format = WireFormat::F32;
            let run = |weights| {
                let out = combine(&client, &y, weights, sums, width, format).unwrap();
                let (dy, dweights) =
                    combine_backward(&client, &y, weights, sums, &x, width, format).unwrap();
                [
                    words(&client, &out, tokens * width),
                    words(&client, &dy, rows * width),
                    words(&client, &dweights, rows),
                ]
            };
            let packed = pack(&client, &x, index, width, format).unwrap();
            let dx = pack_backward(&client, &y, index, width).unwrap();
            (
                [run(None), run(Some(&weights))],
                words(&client, &packed, rows * width),
                words(&client, &dx, tokens * width),
            )
        };
        let slots = tables.slots();
        let on_device =
            of(&DeviceIndex::of_slots(&slots).unwrap(), &DeviceSums::of_slots(&slots).unwrap());
        let sums = RowSums::of_slots(plan.row_of_slot(), tokens, top_k, rows).unwrap();
        let known = of(
            &DeviceIndex::new(&client, plan.token_of_row(), tokens).unwrap(),
            &DeviceSums::new(&client, &sums).unwrap(),
        );
        assert!(on_device == known, "{tokens} tokens, {top_k} of {experts}");

        if seq > 0 {
            let mut expected = vec![0u32; sequences * experts];
            for (slot, &expert) in choices.iter().enumerate() {
                expected[slot / (seq * top_k) * experts + expert as usize] += 1;
            }
            let counts = sequence_counts(&client, &tables.choices, &shape, seq).unwrap();
            assert_eq!(words(&client, &counts, expected.len()), expected);
        }
    }
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let table = upload_words(&client, &[0; 8]);
    let error = DeviceGroups::of_table(table.clone(), 2, 5).unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "table", expected: 9, .. }), "{error}");
    let error = DeviceGroups::of_table(table.clone(), 0, 5).unwrap_err();
    assert!(matches!(error, KernelError::Invalid { argument: "count", .. }), "{error}");
    let shape = RouteShape {
        tokens: 4,
        experts: 2,
        top_k: 1,
        groups: 1,
        kept_groups: 1,
        group_score: GroupScore::Best,
    };
    for seq in [0, 3] {
        let error = sequence_counts(&client, &table, &shape, seq).unwrap_err();
        assert!(matches!(error, KernelError::Invalid { argument: "seq", .. }), "{error}");
    }
    let mut slots = route_choices(&client, table, &shape).unwrap().slots();
    slots.tokens = 1 << 20;
    let error = DeviceSums::of_slots(&slots).unwrap_err();
    assert!(matches!(error, KernelError::Length { argument: "row_of_slot", .. }), "{error}");
}
