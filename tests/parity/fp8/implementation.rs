//! What is compared with the fixtures: operations on numbers and codes in memory, whatever computes
//! them.

use anyhow::{Result, anyhow};
use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::{DType, Device, Int, Tensor, TensorData, bf16};
use burn_deepseek::backend::fp8::{Fp8Kernels, Fp8Matrix, Fp8Weight, GroupedLinearShape, Side};
use burn_deepseek::ops::fp8::Rows;
use burn_deepseek::precision::{Fp8Recipe, Fp8Rule, Operation, Precision, Rule};
use cubecl_kernels::definition::{Fp8Format, QuantizeOptions, Quantized, QuantizedBlocks, tiles};
use cubecl_kernels::reference;

/// The casts and the products.
///
/// Shapes and layouts are those of [`cubecl_kernels::definition`]; column tiles are of one group.
pub trait Implementation: Products {
    /// For the printout.
    fn name(&self) -> &'static str;
    fn quantize_rows(
        &self,
        x: &[f32],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<Quantized>;
    fn quantize_rows_bf16(
        &self,
        x: &[bf16],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<Quantized>;
    fn quantize_columns(
        &self,
        x: &[f32],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<Quantized>;
    /// (rows, columns).
    fn quantize_both(
        &self,
        x: &[f32],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<(Quantized, Quantized)>;
    fn quantize_blocks(
        &self,
        w: &[f32],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<QuantizedBlocks>;
    fn dequantize_rows(&self, x: &Quantized, dims: [usize; 2]) -> Result<Vec<f32>>;
    fn dequantize_columns(&self, x: &Quantized, dims: [usize; 2]) -> Result<Vec<f32>>;
    fn dequantize_blocks(&self, w: &QuantizedBlocks, dims: [usize; 2]) -> Result<Vec<f32>>;
}

/// The three products of a linear map with weight `[n, k]` for `m` rows, from codes.
pub trait Products {
    /// `y = x w^T`: row tiles `[m, k]` and blocks `[n, k]` -> `[m, n]`.
    fn forward(&self, x: &Quantized, w: &QuantizedBlocks, size: [usize; 3]) -> Result<Vec<f64>>;
    /// `dx = dy w`: row tiles `[m, n]` and blocks `[n, k]` -> `[m, k]`.
    fn input_gradient(
        &self,
        dy: &Quantized,
        w: &QuantizedBlocks,
        size: [usize; 3],
    ) -> Result<Vec<f64>>;
    /// `dw = dy^T x`: column tiles of `[m, n]` and of `[m, k]` -> `[n, k]`.
    fn weight_gradient(&self, dy: &Quantized, x: &Quantized, size: [usize; 3]) -> Result<Vec<f64>>;
}

const FORMAT: Fp8Format = Fp8Format::E4M3;

/// The plain forms, products in f64: what the fixtures themselves are checked with.
pub struct Plain;

impl Implementation for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }
    fn quantize_rows(
        &self,
        x: &[f32],
        [rows, cols]: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<Quantized> {
        Ok(reference::quantize_rows(x, rows, cols, options))
    }
    fn quantize_rows_bf16(
        &self,
        x: &[bf16],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<Quantized> {
        let x: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        self.quantize_rows(&x, dims, options)
    }
    fn quantize_columns(
        &self,
        x: &[f32],
        [rows, cols]: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<Quantized> {
        Ok(reference::quantize_columns(x, &[0, rows], cols, options))
    }
    fn quantize_both(
        &self,
        x: &[f32],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<(Quantized, Quantized)> {
        Ok((self.quantize_rows(x, dims, options)?, self.quantize_columns(x, dims, options)?))
    }
    fn quantize_blocks(
        &self,
        w: &[f32],
        [n, k]: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<QuantizedBlocks> {
        Ok(reference::quantize_blocks(w, 1, n, k, options))
    }
    fn dequantize_rows(&self, x: &Quantized, [rows, cols]: [usize; 2]) -> Result<Vec<f32>> {
        Ok(reference::dequantize_rows(&x.codes, &x.scales, rows, cols, FORMAT))
    }
    fn dequantize_columns(&self, x: &Quantized, [rows, cols]: [usize; 2]) -> Result<Vec<f32>> {
        Ok(reference::dequantize_columns(&x.codes, &x.scales, &[0, rows], cols, FORMAT))
    }
    fn dequantize_blocks(&self, w: &QuantizedBlocks, [n, k]: [usize; 2]) -> Result<Vec<f32>> {
        Ok(reference::dequantize_blocks(&w.codes, &w.scales, 1, n, k, FORMAT))
    }
}

impl Products for Plain {
    fn forward(
        &self,
        x: &Quantized,
        w: &QuantizedBlocks,
        [m, n, k]: [usize; 3],
    ) -> Result<Vec<f64>> {
        let (x, w) = (self.dequantize_rows(x, [m, k])?, self.dequantize_blocks(w, [n, k])?);
        Ok(product([m, n, k], |i, l| x[i * k + l], |j, l| w[j * k + l]))
    }
    fn input_gradient(
        &self,
        dy: &Quantized,
        w: &QuantizedBlocks,
        [m, n, k]: [usize; 3],
    ) -> Result<Vec<f64>> {
        let (dy, w) = (self.dequantize_rows(dy, [m, n])?, self.dequantize_blocks(w, [n, k])?);
        Ok(product([m, k, n], |i, l| dy[i * n + l], |j, l| w[l * k + j]))
    }
    fn weight_gradient(
        &self,
        dy: &Quantized,
        x: &Quantized,
        [m, n, k]: [usize; 3],
    ) -> Result<Vec<f64>> {
        let (dy, x) = (self.dequantize_columns(dy, [m, n])?, self.dequantize_columns(x, [m, k])?);
        Ok(product([n, k, m], |i, l| dy[l * n + i], |j, l| x[l * k + j]))
    }
}

/// `c[i, j] = sum_l a(i, l) b(j, l)` in f64, `[rows, columns, depth]`.
pub fn product(
    [rows, columns, depth]: [usize; 3],
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> Vec<f64> {
    let entry = |i, j| (0..depth).map(|l| f64::from(a(i, l)) * f64::from(b(j, l))).sum();
    (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| entry(i, j)).collect()
}

/// The operations on tensors of a device.
pub struct OnDevice {
    pub name: &'static str,
    pub device: Device,
}

impl OnDevice {
    fn floats(&self, values: &[f32], dims: [usize; 2]) -> DispatchTensor {
        Tensor::<2>::from_data(TensorData::new(values.to_vec(), dims), &self.device).into_dispatch()
    }

    fn words(&self, words: &[u32], rows: usize) -> DispatchTensor {
        let data = TensorData::new(words.to_vec(), [rows, words.len() / rows.max(1)]);
        Tensor::<2, Int>::from_data(data, (&self.device, DType::U32)).into_dispatch()
    }

    fn matrix(&self, x: &Quantized, rows: usize) -> Fp8Matrix<Dispatch> {
        Fp8Matrix {
            codes: self.words(&x.codes, rows),
            scales: self.floats(&x.scales, [rows, x.scales.len() / rows.max(1)]),
        }
    }

    fn weight(&self, w: &QuantizedBlocks, [n, k]: [usize; 2]) -> Fp8Weight<Dispatch> {
        Fp8Weight {
            codes: self.words(&w.codes, n),
            transposed: self.words(&w.transposed, k),
            scales: self.floats(&w.scales, [tiles(n), tiles(k)]),
        }
    }
}

fn read_floats<const D: usize>(tensor: DispatchTensor) -> Result<Vec<f32>> {
    Tensor::<D>::from_dispatch(tensor)
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|error| anyhow!("{error:?}"))
}

fn read_words(tensor: DispatchTensor) -> Result<Vec<u32>> {
    Tensor::<2, Int>::from_dispatch(tensor)
        .into_data()
        .try_to_vec::<u32>()
        .map_err(|error| anyhow!("{error:?}"))
}

fn read(x: Fp8Matrix<Dispatch>) -> Result<Quantized> {
    Ok(Quantized { codes: read_words(x.codes)?, scales: read_floats::<2>(x.scales)? })
}

fn widen(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

/// The report's rule, of a linear behind nothing.
fn rule() -> Fp8Rule {
    let Rule::Fp8(rule) = Precision::Fp8(Fp8Recipe::default()).rule(Operation::GateUp) else {
        unreachable!("linears are in FP8")
    };
    rule
}

impl Implementation for OnDevice {
    fn name(&self) -> &'static str {
        self.name
    }
    fn quantize_rows(
        &self,
        x: &[f32],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<Quantized> {
        read(Dispatch::fp8_quantize_rows(self.floats(x, dims), *options))
    }
    fn quantize_rows_bf16(
        &self,
        x: &[bf16],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<Quantized> {
        // Tensors are F32 here; every BF16 value is one.
        let x: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        self.quantize_rows(&x, dims, options)
    }
    fn quantize_columns(
        &self,
        x: &[f32],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<Quantized> {
        let Rows { groups, table } = Rows::one(dims[0], &self.device);
        let (x, table) = (self.floats(x, dims), table.into_dispatch());
        read(Dispatch::fp8_quantize_columns(x, table, groups, *options))
    }
    fn quantize_both(
        &self,
        x: &[f32],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<(Quantized, Quantized)> {
        let Rows { groups, table } = Rows::one(dims[0], &self.device);
        let (x, table) = (self.floats(x, dims), table.into_dispatch());
        let both = Dispatch::fp8_quantize_both(x, table, groups, *options);
        Ok((read(both.rows)?, read(both.columns)?))
    }
    fn quantize_blocks(
        &self,
        w: &[f32],
        dims: [usize; 2],
        options: &QuantizeOptions,
    ) -> Result<QuantizedBlocks> {
        let blocks = Dispatch::fp8_quantize_weight(self.floats(w, dims), *options);
        Ok(QuantizedBlocks {
            codes: read_words(blocks.codes)?,
            transposed: read_words(blocks.transposed)?,
            scales: read_floats::<2>(blocks.scales)?,
        })
    }
    fn dequantize_rows(&self, x: &Quantized, [rows, cols]: [usize; 2]) -> Result<Vec<f32>> {
        read_floats::<2>(Dispatch::fp8_dequantize_rows(
            self.matrix(x, rows),
            cols,
            QuantizeOptions::default(),
        ))
    }
    fn dequantize_columns(&self, x: &Quantized, [rows, cols]: [usize; 2]) -> Result<Vec<f32>> {
        let Rows { groups, table } = Rows::one(rows, &self.device);
        read_floats::<2>(Dispatch::fp8_dequantize_columns(
            self.matrix(x, cols),
            table.into_dispatch(),
            groups,
            QuantizeOptions::default(),
        ))
    }
    fn dequantize_blocks(&self, w: &QuantizedBlocks, [n, k]: [usize; 2]) -> Result<Vec<f32>> {
        let shape = GroupedLinearShape { rows: 0, inputs: k, outputs: n, experts: 1 };
        read_floats::<2>(Dispatch::fp8_dequantize_weight(
            self.weight(w, [n, k]),
            shape,
            QuantizeOptions::default(),
        ))
    }
}

impl Products for OnDevice {
    fn forward(
        &self,
        x: &Quantized,
        w: &QuantizedBlocks,
        [m, n, k]: [usize; 3],
    ) -> Result<Vec<f64>> {
        let shape = GroupedLinearShape { rows: m, inputs: k, outputs: n, experts: 1 };
        let (x, w) = (self.matrix(x, m), self.weight(w, [n, k]));
        let Rows { groups, table } = Rows::one(m, &self.device);
        let table = table.into_dispatch();
        read_floats::<2>(Dispatch::fp8_gemm(x, w, table, groups, shape, Side::Fprop, rule()))
            .map(widen)
    }
    fn input_gradient(
        &self,
        dy: &Quantized,
        w: &QuantizedBlocks,
        [m, n, k]: [usize; 3],
    ) -> Result<Vec<f64>> {
        let shape = GroupedLinearShape { rows: m, inputs: k, outputs: n, experts: 1 };
        let (dy, w) = (self.matrix(dy, m), self.weight(w, [n, k]));
        let Rows { groups, table } = Rows::one(m, &self.device);
        let table = table.into_dispatch();
        read_floats::<2>(Dispatch::fp8_gemm(dy, w, table, groups, shape, Side::Dgrad, rule()))
            .map(widen)
    }
    fn weight_gradient(
        &self,
        dy: &Quantized,
        x: &Quantized,
        [m, n, k]: [usize; 3],
    ) -> Result<Vec<f64>> {
        let shape = GroupedLinearShape { rows: m, inputs: k, outputs: n, experts: 1 };
        let (dy, x) = (self.matrix(dy, n), self.matrix(x, k));
        let Rows { groups, table } = Rows::one(m, &self.device);
        let table = table.into_dispatch();
        read_floats::<3>(Dispatch::fp8_weight_gradient(dy, x, table, groups, shape, rule()))
            .map(widen)
    }
}
