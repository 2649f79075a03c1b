//! FP8 on a server's device: the calls of the client, and what the server does for each.

use burn::backend::{Remote, TensorMetadata};
use burn::server::CustomOpRegistry;
use burn::tensor::DType;
use burn_ir::BackendIr;
use cubecl_kernels::definition::QuantizeOptions;

use super::client::{Call, RemoteTensor, dims};
use super::server::{Request, serve};
use crate::backend::fp8::shapes::{MatrixShape, WeightShape};
use crate::backend::fp8::{Fp8Matrix, Fp8Ops, Fp8Pair, Fp8Weight, LinearShape, RowGroups, Side};
use crate::precision::{Fp8Rule, KeptActivation};

impl Call {
    fn of_matrix(id: &'static str, x: Fp8Matrix<Remote>) -> Self {
        Self::new(id, x.codes).with(x.scales)
    }

    fn with_matrix(self, x: Fp8Matrix<Remote>) -> Self {
        self.with(x.codes).with(x.scales)
    }

    fn with_weight(self, w: Fp8Weight<Remote>) -> Self {
        self.with(w.codes).with(w.transposed).with(w.scales)
    }

    fn codes(self, shape: MatrixShape) -> Self {
        self.gives(shape.codes, DType::U32).floats(shape.scales)
    }

    fn matrix(self, shape: MatrixShape) -> Fp8Matrix<Remote> {
        let [codes, scales] = self.codes(shape).run();
        Fp8Matrix { codes, scales }
    }
}

impl Fp8Ops for Remote {
    fn fp8_quantize_rows(x: RemoteTensor, options: QuantizeOptions) -> Fp8Matrix<Self> {
        let shape = MatrixShape::row_tiled(dims(&x));
        Call::new("deepseek/fp8_quantize_rows", x).given(&options).matrix(shape)
    }

    fn fp8_quantize_columns(
        x: RemoteTensor,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self> {
        let [_, columns] = dims(&x);
        Call::new("deepseek/fp8_quantize_columns", x)
            .given(&groups)
            .given(&options)
            .matrix(MatrixShape::column_tiled(&groups, columns))
    }

    fn fp8_quantize_both(
        x: RemoteTensor,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> Fp8Pair<Self> {
        let (by_rows, [_, columns]) = (MatrixShape::row_tiled(dims(&x)), dims(&x));
        let call = Call::new("deepseek/fp8_quantize_both", x).given(&groups).given(&options);
        let [row_codes, row_scales, codes, scales] =
            call.codes(by_rows).codes(MatrixShape::column_tiled(&groups, columns)).run();
        Fp8Pair {
            rows: Fp8Matrix { codes: row_codes, scales: row_scales },
            columns: Fp8Matrix { codes, scales },
        }
    }

    fn fp8_quantize_weight(w: RemoteTensor, options: QuantizeOptions) -> Fp8Weight<Self> {
        let shape = WeightShape::of(&w.shape());
        let [codes, transposed, scales] = Call::new("deepseek/fp8_quantize_weight", w)
            .given(&options)
            .gives(shape.codes(), DType::U32)
            .gives(shape.transposed(), DType::U32)
            .floats(shape.scales())
            .run();
        Fp8Weight { codes, transposed, scales }
    }

    fn fp8_dequantize_rows(
        x: Fp8Matrix<Self>,
        columns: usize,
        options: QuantizeOptions,
    ) -> RemoteTensor {
        let [rows, _] = dims(&x.codes);
        Call::of_matrix("deepseek/fp8_dequantize_rows", x)
            .given(&columns)
            .given(&options)
            .floats([rows, columns])
            .one()
    }

    fn fp8_dequantize_columns(
        x: Fp8Matrix<Self>,
        groups: RowGroups,
        options: QuantizeOptions,
    ) -> RemoteTensor {
        let [columns, _] = dims(&x.codes);
        let call =
            Call::of_matrix("deepseek/fp8_dequantize_columns", x).given(&groups).given(&options);
        call.floats([groups.rows(), columns]).one()
    }

    fn fp8_dequantize_weight(
        w: Fp8Weight<Self>,
        shape: LinearShape,
        options: QuantizeOptions,
    ) -> RemoteTensor {
        let call =
            Call::new("deepseek/fp8_dequantize_weight", w.codes).with(w.transposed).with(w.scales);
        call.given(&shape).given(&options).floats(shape.weight_rows()).one()
    }

    fn e5m6_quantize(x: RemoteTensor) -> Fp8Matrix<Self> {
        let shape = MatrixShape::e5m6(dims(&x));
        Call::new("deepseek/e5m6_quantize", x).matrix(shape)
    }

    fn e5m6_dequantize(x: Fp8Matrix<Self>, columns: usize) -> RemoteTensor {
        let [rows, _] = dims(&x.codes);
        Call::of_matrix("deepseek/e5m6_dequantize", x).given(&columns).floats([rows, columns]).one()
    }

    fn fp8_requantize(
        x: Fp8Matrix<Self>,
        columns: usize,
        groups: RowGroups,
        kept: KeptActivation,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self> {
        if kept == KeptActivation::Columns {
            return x;
        }
        let call = Call::of_matrix("deepseek/fp8_requantize", x)
            .given(&columns)
            .given(&groups)
            .given(&kept)
            .given(&options);
        call.matrix(MatrixShape::column_tiled(&groups, columns))
    }

    fn fp8_gemm(
        a: Fp8Matrix<Self>,
        w: Fp8Weight<Self>,
        groups: RowGroups,
        shape: LinearShape,
        side: Side,
        rule: Fp8Rule,
    ) -> RemoteTensor {
        let call = Call::of_matrix("deepseek/fp8_gemm", a).with_weight(w);
        call.given(&groups)
            .given(&shape)
            .given(&side)
            .given(&rule)
            .floats(shape.product(side))
            .one()
    }

    fn fp8_weight_gradient(
        dy: Fp8Matrix<Self>,
        x: Fp8Matrix<Self>,
        groups: RowGroups,
        shape: LinearShape,
        rule: Fp8Rule,
    ) -> RemoteTensor {
        let call = Call::of_matrix("deepseek/fp8_weight_gradient", dy).with_matrix(x);
        call.given(&groups).given(&shape).given(&rule).floats(shape.weight_gradient()).one()
    }

    fn fp8_swiglu_rows(gate_up: RemoteTensor, options: QuantizeOptions) -> Fp8Matrix<Self> {
        let [rows, width] = dims(&gate_up);
        Call::new("deepseek/fp8_swiglu_rows", gate_up)
            .given(&options)
            .matrix(MatrixShape::row_tiled([rows, width / 2]))
    }

    fn fp8_swiglu_columns(
        gate_up: Fp8Matrix<Self>,
        columns: usize,
        groups: RowGroups,
        kept: QuantizeOptions,
        options: QuantizeOptions,
    ) -> Fp8Matrix<Self> {
        let call = Call::of_matrix("deepseek/fp8_swiglu_columns", gate_up)
            .given(&columns)
            .given(&groups)
            .given(&kept)
            .given(&options);
        call.matrix(MatrixShape::column_tiled(&groups, columns))
    }

    fn fp8_swiglu_backward(
        gate_up: Fp8Matrix<Self>,
        dy: RemoteTensor,
        kept: QuantizeOptions,
    ) -> RemoteTensor {
        let [rows, inter] = dims(&dy);
        Call::of_matrix("deepseek/fp8_swiglu_backward", gate_up)
            .with(dy)
            .given(&kept)
            .floats([rows, 2 * inter])
            .one()
    }
}

impl<B: BackendIr + Fp8Ops> Request<'_, B> {
    fn matrix(&mut self) -> Fp8Matrix<B> {
        Fp8Matrix { codes: self.int(), scales: self.float() }
    }

    fn weight(&mut self) -> Fp8Weight<B> {
        Fp8Weight { codes: self.int(), transposed: self.int(), scales: self.float() }
    }

    fn give_matrix(&mut self, x: Fp8Matrix<B>) {
        self.give_int(x.codes);
        self.give_float(x.scales);
    }
}

/// The operations on the backend of a server.
pub(super) fn register<B: BackendIr + Fp8Ops>(operations: &mut CustomOpRegistry<B>) {
    serve(operations, "deepseek/fp8_quantize_rows", |r| {
        let x = B::fp8_quantize_rows(r.float(), r.argument());
        r.give_matrix(x);
    });
    serve(operations, "deepseek/fp8_quantize_columns", |r| {
        let x = B::fp8_quantize_columns(r.float(), r.argument(), r.argument());
        r.give_matrix(x);
    });
    serve(operations, "deepseek/fp8_quantize_both", |r| {
        let x = B::fp8_quantize_both(r.float(), r.argument(), r.argument());
        r.give_matrix(x.rows);
        r.give_matrix(x.columns);
    });
    serve(operations, "deepseek/fp8_quantize_weight", |r| {
        let w = B::fp8_quantize_weight(r.float(), r.argument());
        r.give_int(w.codes);
        r.give_int(w.transposed);
        r.give_float(w.scales);
    });
    serve(operations, "deepseek/fp8_dequantize_rows", |r| {
        let x = B::fp8_dequantize_rows(r.matrix(), r.argument(), r.argument());
        r.give_float(x);
    });
    serve(operations, "deepseek/fp8_dequantize_columns", |r| {
        let x = B::fp8_dequantize_columns(r.matrix(), r.argument(), r.argument());
        r.give_float(x);
    });
    serve(operations, "deepseek/fp8_dequantize_weight", |r| {
        let w = B::fp8_dequantize_weight(r.weight(), r.argument(), r.argument());
        r.give_float(w);
    });
    serve(operations, "deepseek/e5m6_quantize", |r| {
        let x = B::e5m6_quantize(r.float());
        r.give_matrix(x);
    });
    serve(operations, "deepseek/e5m6_dequantize", |r| {
        let x = B::e5m6_dequantize(r.matrix(), r.argument());
        r.give_float(x);
    });
    serve(operations, "deepseek/fp8_requantize", |r| {
        let x =
            B::fp8_requantize(r.matrix(), r.argument(), r.argument(), r.argument(), r.argument());
        r.give_matrix(x);
    });
    serve(operations, "deepseek/fp8_gemm", |r| {
        let y = B::fp8_gemm(
            r.matrix(),
            r.weight(),
            r.argument(),
            r.argument(),
            r.argument(),
            r.argument(),
        );
        r.give_float(y);
    });
    serve(operations, "deepseek/fp8_weight_gradient", |r| {
        let dw = B::fp8_weight_gradient(
            r.matrix(),
            r.matrix(),
            r.argument(),
            r.argument(),
            r.argument(),
        );
        r.give_float(dw);
    });
    serve(operations, "deepseek/fp8_swiglu_rows", |r| {
        let x = B::fp8_swiglu_rows(r.float(), r.argument());
        r.give_matrix(x);
    });
    serve(operations, "deepseek/fp8_swiglu_columns", |r| {
        let x = B::fp8_swiglu_columns(
            r.matrix(),
            r.argument(),
            r.argument(),
            r.argument(),
            r.argument(),
        );
        r.give_matrix(x);
    });
    serve(operations, "deepseek/fp8_swiglu_backward", |r| {
        let d = B::fp8_swiglu_backward(r.matrix(), r.float(), r.argument());
        r.give_float(d);
    });
}
