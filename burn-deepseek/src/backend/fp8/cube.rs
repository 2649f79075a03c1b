//! FP8 on CubeCL's runtimes: the kernels of `cubecl_kernels`, on their buffers.

use burn::backend::TensorMetadata;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl_kernels::all_to_all::DeviceIndex;
use cubecl_kernels::definition::{QuantizeOptions, ScaleFormat};
use cubecl_kernels::device::{DeviceGroups, Element};
use cubecl_kernels::gemm::{DeviceBlockTiled, DeviceRowTiled, ScaleTable};
use cubecl_kernels::grouped_gemm::{DeviceColumnTiled, fp8_grouped_gemm_nt, fp8_grouped_wgrad_nt};
use cubecl_kernels::quantize::{self, DeviceCodes};
use cubecl_kernels::swiglu;

use super::GroupedLinearShape;
use super::kernels::{Fp8Kernels, SwigluColumns};
use super::matrix::{Fp8Hidden, Fp8Matrix, Fp8Pair, Fp8Weight};
use super::shapes::{MatrixShape, RowGroups, Side, WeightShape};
use crate::backend::cube_tensor::{Place, dims, handle, slots};
use crate::backend::kernels::{RowTables, done};
use crate::precision::{Fp8Rule, KeptActivation};

fn matrix(place: &Place, codes: DeviceCodes, shape: MatrixShape) -> Fp8Matrix<CubeBackend> {
    Fp8Matrix {
        codes: place.words(codes.codes, shape.codes),
        scales: place.floats(codes.scales, shape.scales),
    }
}

/// The groups by their table on the device; one group has none.
fn groups_of(place: &Place, table: CubeTensor, groups: &RowGroups) -> DeviceGroups {
    let of = done(match groups.len() {
        1 => DeviceGroups::single(&place.client, groups.rows()),
        count => DeviceGroups::of_table(handle(table), count, groups.rows()),
    });
    // What is there before a kernel has run was told from `groups` alone.
    let told = (groups.words, groups.tiles);
    assert_eq!((of.words(), of.tiles()), told, "groups are `most` of a device's");
    of
}

fn codes_of(x: Fp8Matrix<CubeBackend>) -> DeviceCodes {
    DeviceCodes { codes: handle(x.codes), scales: handle(x.scales) }
}

impl Fp8Kernels for CubeBackend {
    fn fp8_quantize_rows(x: CubeTensor, options: QuantizeOptions) -> Fp8Matrix<Self> {
        let (place, [rows, columns]) = (Place::of(&x), dims(&x));
        let codes = done(quantize::quantize_rows(
            &place.client,
            &handle(x),
            Element::F32,
            rows,
            columns,
            &options,
        ));
        matrix(&place, codes, MatrixShape::row_tiled([rows, columns]))
    }

    fn fp8_quantize_columns(
        x: CubeTensor,
        table: CubeTensor,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self> {
        let (place, [_, columns]) = (Place::of(&x), dims(&x));
        let codes = quantize::quantize_columns(
            &place.client,
            &handle(x),
            Element::F32,
            &groups_of(&place, table, &groups),
            columns,
            &options,
        );
        matrix(&place, done(codes), MatrixShape::column_tiled(&groups, columns))
    }

    fn fp8_quantize_both(
        x: CubeTensor,
        table: CubeTensor,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> Fp8Pair<Self> {
        let (place, [rows, columns]) = (Place::of(&x), dims(&x));
        let both = quantize::quantize_both(
            &place.client,
            &handle(x),
            Element::F32,
            &groups_of(&place, table, &groups),
            columns,
            &options,
        );
        let (by_rows, by_columns) = done(both);
        Fp8Pair {
            rows: matrix(&place, by_rows, MatrixShape::row_tiled([rows, columns])),
            columns: matrix(&place, by_columns, MatrixShape::column_tiled(&groups, columns)),
        }
    }

    fn fp8_quantize_weight(w: CubeTensor, options: QuantizeOptions) -> Fp8Weight<Self> {
        let place = Place::of(&w);
        let shape = WeightShape::of(&w.shape());
        let WeightShape { experts, outputs, inputs } = shape;
        let blocks = done(quantize::quantize_blocks(
            &place.client,
            &handle(w),
            Element::F32,
            experts,
            outputs,
            inputs,
            &options,
        ));
        Fp8Weight {
            codes: place.words(blocks.codes, shape.codes()),
            transposed: place.words(blocks.transposed, shape.transposed()),
            scales: place.floats(blocks.scales, shape.scales()),
        }
    }

    fn fp8_dequantize_rows(
        x: Fp8Matrix<Self>,
        columns: usize,
        options: QuantizeOptions,
    ) -> CubeTensor {
        let (place, [rows, _]) = (Place::of(&x.codes), dims(&x.codes));
        let values =
            quantize::dequantize_rows(&place.client, &codes_of(x), rows, columns, options.format);
        place.floats(done(values), [rows, columns])
    }

    fn fp8_dequantize_columns(
        x: Fp8Matrix<Self>,
        table: CubeTensor,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> CubeTensor {
        let (place, [columns, _]) = (Place::of(&x.codes), dims(&x.codes));
        let values = quantize::dequantize_columns(
            &place.client,
            &codes_of(x),
            &groups_of(&place, table, &groups),
            columns,
            options.format,
        );
        place.floats(done(values), [groups.rows(), columns])
    }

    fn fp8_dequantize_weight(
        w: Fp8Weight<Self>,
        shape: GroupedLinearShape,
        options: QuantizeOptions,
    ) -> CubeTensor {
        let GroupedLinearShape { inputs, outputs, experts, .. } = shape;
        let place = Place::of(&w.codes);
        let blocks = quantize::DeviceBlocks {
            codes: handle(w.codes),
            transposed: handle(w.transposed),
            scales: handle(w.scales),
        };
        let values = quantize::dequantize_blocks(
            &place.client,
            &blocks,
            experts,
            outputs,
            inputs,
            options.format,
        );
        place.floats(done(values), shape.stacked_weight_dims())
    }

    fn e5m6_quantize(x: CubeTensor) -> Fp8Matrix<Self> {
        let (place, [rows, columns]) = (Place::of(&x), dims(&x));
        let codes = done(quantize::quantize_e5m6(
            &place.client,
            &handle(x),
            Element::F32,
            rows,
            columns,
            ScaleFormat::PowerOfTwo,
        ));
        matrix(&place, codes, MatrixShape::e5m6([rows, columns]))
    }

    fn e5m6_dequantize(x: Fp8Matrix<Self>, columns: usize) -> CubeTensor {
        let (place, [rows, _]) = (Place::of(&x.codes), dims(&x.codes));
        place.floats(
            done(quantize::dequantize_e5m6(&place.client, &codes_of(x), rows, columns)),
            [rows, columns],
        )
    }

    fn fp8_requantize(
        x: Fp8Matrix<Self>,
        table: CubeTensor,
        columns: usize,
        groups: RowGroups,
        kept: KeptActivation,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self> {
        match kept {
            KeptActivation::Columns => x,
            KeptActivation::Rows => {
                let x = Self::fp8_dequantize_rows(x, columns, options);
                Self::fp8_quantize_columns(x, table, groups, options)
            }
            KeptActivation::E5m6 => {
                let x = Self::e5m6_dequantize(x, columns);
                Self::fp8_quantize_columns(x, table, groups, options)
            }
        }
    }

    fn fp8_gemm(
        a: Fp8Matrix<Self>,
        w: Fp8Weight<Self>,
        table: CubeTensor,
        groups: RowGroups,
        shape: GroupedLinearShape,
        side: Side,
        rule: Fp8Rule,
    ) -> CubeTensor {
        let (GroupedLinearShape { inputs, outputs, experts, .. }, [rows, width]) =
            (shape, side.result_dims(&shape));
        let (depth, codes, scale_table, format) = match side {
            Side::Fprop => (inputs, w.codes, ScaleTable::AsStored, rule.activations.format),
            Side::Dgrad => (outputs, w.transposed, ScaleTable::Transposed, rule.gradients.format),
        };
        let place = Place::of(&a.codes);
        let (a, w_codes, w_scales) = (codes_of(a), handle(codes), handle(w.scales));
        let a = DeviceRowTiled { codes: &a.codes, scales: &a.scales, rows, depth, format };
        let w = DeviceBlockTiled {
            codes: &w_codes,
            scales: &w_scales,
            table: scale_table,
            experts,
            rows: width,
            depth,
            format: rule.weights.format,
        };
        let product = fp8_grouped_gemm_nt(
            &place.client,
            &a,
            &groups_of(&place, table, &groups),
            &w,
            rule.accumulation,
            Element::F32,
        );
        place.floats(done(product), [rows, width])
    }

    fn fp8_weight_gradient(
        dy: Fp8Matrix<Self>,
        x: Fp8Matrix<Self>,
        table: CubeTensor,
        groups: RowGroups,
        shape: GroupedLinearShape,
        rule: Fp8Rule,
    ) -> CubeTensor {
        let GroupedLinearShape { inputs, outputs, .. } = shape;
        let place = Place::of(&dy.codes);
        let (dy, x) = (codes_of(dy), codes_of(x));
        let dy = DeviceColumnTiled {
            codes: &dy.codes,
            scales: &dy.scales,
            columns: outputs,
            format: rule.gradients.format,
        };
        let x = DeviceColumnTiled {
            codes: &x.codes,
            scales: &x.scales,
            columns: inputs,
            format: rule.activations.format,
        };
        let gradient = fp8_grouped_wgrad_nt(
            &place.client,
            &dy,
            &x,
            &groups_of(&place, table, &groups),
            rule.accumulation,
        );
        place.floats(done(gradient), shape.weight_dims())
    }

    fn fp8_permute_rows(
        x: CubeTensor,
        rows: RowTables<Self>,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self> {
        let (place, [_, columns]) = (Place::of(&x), dims(&x));
        let index = done(DeviceIndex::of_slots(&slots(rows)));
        let codes =
            quantize::quantize_gathered_rows(&place.client, &handle(x), &index, columns, &options);
        matrix(&place, done(codes), MatrixShape::row_tiled([index.len(), columns]))
    }

    fn fp8_permute_both(
        x: CubeTensor,
        rows: RowTables<Self>,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> Fp8Pair<Self> {
        let (place, [_, columns]) = (Place::of(&x), dims(&x));
        let of = groups_of(&place, rows.bounds.clone(), &groups);
        let index = done(DeviceIndex::of_slots(&slots(rows)));
        let both =
            quantize::quantize_gathered(&place.client, &handle(x), &index, &of, columns, &options);
        let (by_rows, by_columns) = done(both);
        Fp8Pair {
            rows: matrix(&place, by_rows, MatrixShape::row_tiled([index.len(), columns])),
            columns: matrix(&place, by_columns, MatrixShape::column_tiled(&groups, columns)),
        }
    }

    fn fp8_swiglu_rows(gate_up: CubeTensor, options: QuantizeOptions) -> Fp8Matrix<Self> {
        let (place, [rows, width]) = (Place::of(&gate_up), dims(&gate_up));
        let columns = width / 2;
        let codes = quantize::quantize_swiglu_rows(
            &place.client,
            &handle(gate_up),
            rows,
            columns,
            &options,
        );
        matrix(&place, done(codes), MatrixShape::row_tiled([rows, columns]))
    }

    fn fp8_swiglu_rows_and_input(gate_up: CubeTensor, options: QuantizeOptions) -> Fp8Hidden<Self> {
        Fp8Hidden {
            rows: Self::fp8_swiglu_rows(gate_up.clone(), options),
            gate_up: Self::fp8_quantize_rows(gate_up, options),
        }
    }

    fn fp8_swiglu_columns(
        gate_up: Fp8Matrix<Self>,
        table: CubeTensor,
        call: SwigluColumns,
    ) -> Fp8Matrix<Self> {
        let SwigluColumns { columns, groups, kept, options } = call;
        let gate_up = Self::fp8_dequantize_rows(gate_up, 2 * columns, kept);
        let place = Place::of(&gate_up);
        let codes = quantize::quantize_swiglu_columns(
            &place.client,
            &handle(gate_up),
            &groups_of(&place, table, &groups),
            columns,
            &options,
        );
        matrix(&place, done(codes), MatrixShape::column_tiled(&groups, columns))
    }

    fn fp8_swiglu_backward(
        gate_up: Fp8Matrix<Self>,
        dy: CubeTensor,
        kept: QuantizeOptions,
    ) -> CubeTensor {
        let (place, [rows, inter]) = (Place::of(&dy), dims(&dy));
        let gate_up = Self::fp8_dequantize_rows(gate_up, 2 * inter, kept);
        let d = swiglu::swiglu_backward(&place.client, &handle(gate_up), &handle(dy), rows, inter);
        place.floats(done(d), [rows, 2 * inter])
    }
}
