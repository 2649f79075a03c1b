//! FP8 on Flex: the kernels of `cubecl_kernels::host`, on tensors that are plain memory.

use burn::backend::{Flex, TensorMetadata};
use burn_flex::FlexTensor;
use cubecl_kernels::definition::{
    BlockScales, BlockTiled, GroupedColumns, QuantizeOptions, Quantized, RowTiled, ScaleFormat,
};
use cubecl_kernels::host::{self, ColumnTiled};

use super::GroupedLinearShape;
use super::kernels::{Fp8Kernels, SwigluColumns};
use super::matrix::{Fp8Hidden, Fp8Matrix, Fp8Pair, Fp8Weight};
use super::shapes::{MatrixShape, RowGroups, Side, WeightShape};
use crate::backend::flex_tensor::{Contiguous, dims, first_rows, tensor, word_tensor};
use crate::backend::kernels::{RowTables, done};
use crate::precision::{Fp8Rule, KeptActivation};

impl Fp8Kernels for Flex {
    fn fp8_quantize_rows(x: FlexTensor, options: QuantizeOptions) -> Fp8Matrix<Self> {
        let [rows, columns] = dims(&x);
        let codes = done(host::quantize_rows(Contiguous::new(x).floats(), rows, columns, &options));
        matrix(codes, MatrixShape::row_tiled([rows, columns]))
    }

    fn fp8_quantize_columns(
        x: FlexTensor,
        table: FlexTensor,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self> {
        let [_, columns] = dims(&x);
        let codes = done(host::quantize_columns(
            Contiguous::new(x).floats(),
            &offsets(table, &groups),
            columns,
            &options,
        ));
        matrix(codes, MatrixShape::column_tiled(&groups, columns))
    }

    fn fp8_quantize_both(
        x: FlexTensor,
        table: FlexTensor,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> Fp8Pair<Self> {
        let [rows, columns] = dims(&x);
        let (by_rows, by_columns) = done(host::quantize_both(
            Contiguous::new(x).floats(),
            &offsets(table, &groups),
            columns,
            &options,
        ));
        Fp8Pair {
            rows: matrix(by_rows, MatrixShape::row_tiled([rows, columns])),
            columns: matrix(by_columns, MatrixShape::column_tiled(&groups, columns)),
        }
    }

    fn fp8_quantize_weight(w: FlexTensor, options: QuantizeOptions) -> Fp8Weight<Self> {
        let shape = WeightShape::of(&w.shape());
        let WeightShape { experts, outputs, inputs } = shape;
        let blocks = done(host::quantize_blocks(
            Contiguous::new(w).floats(),
            experts,
            outputs,
            inputs,
            &options,
        ));
        Fp8Weight {
            codes: word_tensor(blocks.codes, shape.codes()),
            transposed: word_tensor(blocks.transposed, shape.transposed()),
            scales: tensor(blocks.scales, shape.scales()),
        }
    }

    fn fp8_dequantize_rows(
        x: Fp8Matrix<Self>,
        columns: usize,
        options: QuantizeOptions,
    ) -> FlexTensor {
        let [rows, _] = dims(&x.codes);
        let (codes, scales) = (Contiguous::new(x.codes), Contiguous::new(x.scales));
        tensor(
            done(host::dequantize_rows(
                codes.words(),
                scales.floats(),
                rows,
                columns,
                options.format,
            )),
            [rows, columns],
        )
    }

    fn fp8_dequantize_columns(
        x: Fp8Matrix<Self>,
        table: FlexTensor,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> FlexTensor {
        let [columns, _] = dims(&x.codes);
        let (codes, scales) = (Contiguous::new(x.codes), Contiguous::new(x.scales));
        let values = host::dequantize_columns(
            codes.words(),
            scales.floats(),
            &offsets(table, &groups),
            columns,
            options.format,
        );
        tensor(done(values), [groups.rows(), columns])
    }

    fn fp8_dequantize_weight(
        w: Fp8Weight<Self>,
        shape: GroupedLinearShape,
        options: QuantizeOptions,
    ) -> FlexTensor {
        let GroupedLinearShape { inputs, outputs, experts, .. } = shape;
        let (codes, scales) = (Contiguous::new(w.codes), Contiguous::new(w.scales));
        let values = host::dequantize_blocks(
            codes.words(),
            scales.floats(),
            experts,
            outputs,
            inputs,
            options.format,
        );
        tensor(done(values), shape.stacked_weight_dims())
    }

    fn e5m6_quantize(x: FlexTensor) -> Fp8Matrix<Self> {
        let [rows, columns] = dims(&x);
        let kept = done(host::quantize_e5m6(
            Contiguous::new(x).floats(),
            rows,
            columns,
            ScaleFormat::PowerOfTwo,
        ));
        let shape = MatrixShape::e5m6([rows, columns]);
        Fp8Matrix {
            codes: word_tensor(kept.codes, shape.codes),
            scales: tensor(kept.scales, shape.scales),
        }
    }

    fn e5m6_dequantize(x: Fp8Matrix<Self>, columns: usize) -> FlexTensor {
        let [rows, _] = dims(&x.codes);
        let (codes, scales) = (Contiguous::new(x.codes), Contiguous::new(x.scales));
        tensor(
            done(host::dequantize_e5m6(codes.words(), scales.floats(), rows, columns)),
            [rows, columns],
        )
    }

    fn fp8_requantize(
        x: Fp8Matrix<Self>,
        table: FlexTensor,
        columns: usize,
        groups: RowGroups,
        kept: KeptActivation,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self> {
        let (codes, scales) = (Contiguous::new(x.codes.clone()), Contiguous::new(x.scales.clone()));
        let (codes, scales, offsets) = (codes.words(), scales.floats(), offsets(table, &groups));
        let quantized = match kept {
            KeptActivation::Columns => return x,
            KeptActivation::Rows => {
                host::requantize_columns(codes, scales, options.format, &offsets, columns, &options)
            }
            KeptActivation::E5m6 => {
                host::quantize_columns_from_e5m6(codes, scales, &offsets, columns, &options)
            }
        };
        matrix(done(quantized), MatrixShape::column_tiled(&groups, columns))
    }

    fn fp8_gemm(
        a: Fp8Matrix<Self>,
        w: Fp8Weight<Self>,
        table: FlexTensor,
        groups: RowGroups,
        shape: GroupedLinearShape,
        side: Side,
        rule: Fp8Rule,
    ) -> FlexTensor {
        let (GroupedLinearShape { inputs, outputs, .. }, [rows, width]) =
            (shape, side.result_dims(&shape));
        let (depth, codes, scale_layout, format) = match side {
            Side::Fprop => (inputs, w.codes, BlockScales::Stored, rule.activations.format),
            Side::Dgrad => (outputs, w.transposed, BlockScales::Transposed, rule.gradients.format),
        };
        let (a_codes, a_scales) = (Contiguous::new(a.codes), Contiguous::new(a.scales));
        let (w_codes, w_scales) = (Contiguous::new(codes), Contiguous::new(w.scales));
        let a = RowTiled { codes: a_codes.words(), scales: a_scales.floats(), rows, depth, format };
        let w = BlockTiled {
            codes: w_codes.words(),
            scales: w_scales.floats(),
            scale_layout,
            rows: width,
            depth,
            format: rule.weights.format,
        };
        tensor(
            done(host::fp8_grouped_gemm_nt(&a, &offsets(table, &groups), &w, rule.accumulation)),
            [rows, width],
        )
    }

    fn fp8_weight_gradient(
        dy: Fp8Matrix<Self>,
        x: Fp8Matrix<Self>,
        table: FlexTensor,
        groups: RowGroups,
        shape: GroupedLinearShape,
        rule: Fp8Rule,
    ) -> FlexTensor {
        let GroupedLinearShape { inputs, outputs, .. } = shape;
        let (dy_codes, dy_scales) = (Contiguous::new(dy.codes), Contiguous::new(dy.scales));
        let (x_codes, x_scales) = (Contiguous::new(x.codes), Contiguous::new(x.scales));
        let dy = ColumnTiled {
            codes: dy_codes.words(),
            scales: dy_scales.floats(),
            columns: outputs,
            format: rule.gradients.format,
        };
        let x = ColumnTiled {
            codes: x_codes.words(),
            scales: x_scales.floats(),
            columns: inputs,
            format: rule.activations.format,
        };
        tensor(
            done(host::fp8_grouped_wgrad_nt(&dy, &x, &offsets(table, &groups), rule.accumulation)),
            shape.weight_dims(),
        )
    }

    fn fp8_permute_rows(
        x: FlexTensor,
        rows: RowTables<Self>,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self> {
        let ([tokens, columns], [count]) = (dims(&x), dims(&rows.token_of_row));
        let (x, token_of_row) = (Contiguous::new(x), Contiguous::new(rows.token_of_row));
        let codes = host::quantize_gathered_rows(
            x.floats(),
            token_of_row.words(),
            tokens,
            columns,
            &options,
        );
        matrix(done(codes), MatrixShape::row_tiled([count, columns]))
    }

    fn fp8_permute_both(
        x: FlexTensor,
        rows: RowTables<Self>,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> Fp8Pair<Self> {
        let ([tokens, columns], [count]) = (dims(&x), dims(&rows.token_of_row));
        let (x, token_of_row) = (Contiguous::new(x), Contiguous::new(rows.token_of_row));
        let both = host::quantize_gathered(
            x.floats(),
            token_of_row.words(),
            &offsets(rows.bounds, &groups),
            tokens,
            columns,
            &options,
        );
        let (by_rows, by_columns) = done(both);
        Fp8Pair {
            rows: matrix(by_rows, MatrixShape::row_tiled([count, columns])),
            columns: matrix(by_columns, MatrixShape::column_tiled(&groups, columns)),
        }
    }

    fn fp8_swiglu_rows(gate_up: FlexTensor, options: QuantizeOptions) -> Fp8Matrix<Self> {
        let [rows, width] = dims(&gate_up);
        let hidden = host::swiglu_quantize_rows(
            Contiguous::new(gate_up).floats(),
            rows,
            width / 2,
            &options,
        );
        matrix(done(hidden), MatrixShape::row_tiled([rows, width / 2]))
    }

    fn fp8_swiglu_rows_and_input(gate_up: FlexTensor, options: QuantizeOptions) -> Fp8Hidden<Self> {
        let [rows, width] = dims(&gate_up);
        let (hidden, gate_up) = done(host::swiglu_quantize_rows_and_input(
            Contiguous::new(gate_up).floats(),
            rows,
            width / 2,
            &options,
        ));
        Fp8Hidden {
            rows: matrix(hidden, MatrixShape::row_tiled([rows, width / 2])),
            gate_up: matrix(gate_up, MatrixShape::row_tiled([rows, width])),
        }
    }

    fn fp8_swiglu_columns(
        gate_up: Fp8Matrix<Self>,
        table: FlexTensor,
        call: SwigluColumns,
    ) -> Fp8Matrix<Self> {
        let SwigluColumns { columns, groups, kept, options } = call;
        let (codes, scales) = (Contiguous::new(gate_up.codes), Contiguous::new(gate_up.scales));
        let (codes, scales, offsets) = (codes.words(), scales.floats(), offsets(table, &groups));
        let hidden = host::swiglu_quantize_columns_from_codes(
            codes,
            scales,
            kept.format,
            &offsets,
            columns,
            &options,
        );
        matrix(done(hidden), MatrixShape::column_tiled(&groups, columns))
    }

    fn fp8_swiglu_backward(
        gate_up: Fp8Matrix<Self>,
        dy: FlexTensor,
        kept: QuantizeOptions,
    ) -> FlexTensor {
        let [rows, inter] = dims(&dy);
        let (codes, scales, dy) =
            (Contiguous::new(gate_up.codes), Contiguous::new(gate_up.scales), Contiguous::new(dy));
        let d = host::swiglu_backward_from_codes(
            codes.words(),
            scales.floats(),
            kept.format,
            dy.floats(),
            rows,
            inter,
        );
        tensor(done(d), [rows, 2 * inter])
    }
}

/// The first row of each group and the number of rows.
fn offsets(table: FlexTensor, groups: &RowGroups) -> Vec<usize> {
    let offsets = match groups.len() {
        1 => vec![0, groups.rows()],
        _ => first_rows(table),
    };
    // What is there before a kernel has run was told from `groups` alone.
    let layout = done(GroupedColumns::new("fp8", &offsets, groups.rows()));
    let told = (groups.words, groups.tiles);
    let ends = (layout.words.last().copied(), layout.tiles.last().copied());
    assert_eq!(ends, (Some(told.0), Some(told.1)), "groups are `exact` on Flex");
    offsets
}

fn matrix(quantized: Quantized, shape: MatrixShape) -> Fp8Matrix<Flex> {
    Fp8Matrix {
        codes: word_tensor(quantized.codes, shape.codes),
        scales: tensor(quantized.scales, shape.scales),
    }
}
