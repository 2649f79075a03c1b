//! FP8 on Flex: the kernels of `cubecl_kernels::host`, on tensors that are plain memory.
use super::*;
use burn::backend::Flex;
impl Fp8Ops for Flex {
    fn fp8_quantize_rows(_x: FloatTensor<Self>, _options: QuantizeOptions) -> Fp8Matrix<Self> {
        todo!()
    }
    fn fp8_quantize_columns(_x: FloatTensor<Self>, _groups: RowGroups, _options: QuantizeOptions) -> Fp8Matrix<Self> {
        todo!()
    }
    fn fp8_quantize_both(_x: FloatTensor<Self>, _groups: RowGroups, _options: QuantizeOptions) -> Fp8Pair<Self> {
        todo!()
    }
    fn fp8_quantize_weight(_w: FloatTensor<Self>, _options: QuantizeOptions) -> Fp8Weight<Self> {
        todo!()
    }
    fn fp8_dequantize_rows(_x: Fp8Matrix<Self>, _columns: usize, _options: QuantizeOptions) -> FloatTensor<Self> {
        todo!()
    }
    fn fp8_dequantize_columns(_x: Fp8Matrix<Self>, _groups: RowGroups, _options: QuantizeOptions) -> FloatTensor<Self> {
        todo!()
    }
    fn fp8_dequantize_weight(_w: Fp8Weight<Self>, _shape: LinearShape, _options: QuantizeOptions) -> FloatTensor<Self> {
        todo!()
    }
    fn e5m6_quantize(_x: FloatTensor<Self>) -> Fp8Matrix<Self> {
        todo!()
    }
    fn e5m6_dequantize(_x: Fp8Matrix<Self>, _columns: usize) -> FloatTensor<Self> {
        todo!()
    }
    fn fp8_gemm(
        _a: Fp8Matrix<Self>,
        _w: Fp8Weight<Self>,
        _groups: RowGroups,
        _shape: LinearShape,
        _side: Side,
        _rule: Fp8Rule,
    ) -> FloatTensor<Self> {
        todo!()
    }
    fn fp8_weight_gradient(
        _dy: Fp8Matrix<Self>,
        _x: Fp8Matrix<Self>,
        _groups: RowGroups,
        _shape: LinearShape,
        _rule: Fp8Rule,
    ) -> FloatTensor<Self> {
        todo!()
    }
    fn fp8_swiglu_rows(_gate_up: FloatTensor<Self>, _options: QuantizeOptions) -> Fp8Matrix<Self> {
        todo!()
    }
    fn fp8_swiglu_columns(
        _gate_up: Fp8Matrix<Self>,
        _columns: usize,
        _groups: RowGroups,
        _kept: QuantizeOptions,
        _options: QuantizeOptions,
    ) -> Fp8Matrix<Self> {
        todo!()
    }
    fn fp8_swiglu_backward(_gate_up: Fp8Matrix<Self>, _dy: FloatTensor<Self>, _kept: QuantizeOptions) -> FloatTensor<Self> {
        todo!()
    }
    fn fp8_linear(
        _x: FloatTensor<Self>,
        _input: Fp8Pair<Self>,
        _w: FloatTensor<Self>,
        _weight: Fp8Weight<Self>,
        _call: LinearCall,
    ) -> FloatTensor<Self> {
        todo!()
    }
    fn fp8_swiglu_linear(
        _gate_up: FloatTensor<Self>,
        _w: FloatTensor<Self>,
        _weight: Fp8Weight<Self>,
        _call: LinearCall,
    ) -> FloatTensor<Self> {
        todo!()
    }
}
