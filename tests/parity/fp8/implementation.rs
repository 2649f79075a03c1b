//! What is compared with the fixtures: operations on numbers and codes in memory, whatever computes them.

use anyhow::Result;
use burn::tensor::bf16;
use cubecl_kernels::definition::{Fp8Format, QuantizeOptions, Quantized, QuantizedBlocks};
use cubecl_kernels::{host, reference};

/// The casts, and the products where there are any.
///
/// Shapes and layouts are those of [`cubecl_kernels::definition`]; column tiles are of one group.
pub trait Implementation {
    /// For the printout.
    fn name(&self) -> &'static str;
    fn quantize_rows(&self, x: &[f32], dims: [usize; 2], options: &QuantizeOptions) -> Result<Quantized>;
    /// Nothing where it takes no BF16.
    fn quantize_rows_bf16(&self, x: &[bf16], dims: [usize; 2], options: &QuantizeOptions) -> Result<Option<Quantized>>;
    fn quantize_columns(&self, x: &[f32], dims: [usize; 2], options: &QuantizeOptions) -> Result<Quantized>;
    /// (rows, columns).
    fn quantize_both(&self, x: &[f32], dims: [usize; 2], options: &QuantizeOptions) -> Result<(Quantized, Quantized)>;
    fn quantize_blocks(&self, w: &[f32], dims: [usize; 2], options: &QuantizeOptions) -> Result<QuantizedBlocks>;
    fn dequantize_rows(&self, x: &Quantized, dims: [usize; 2]) -> Result<Vec<f32>>;
    fn dequantize_columns(&self, x: &Quantized, dims: [usize; 2]) -> Result<Vec<f32>>;
    fn dequantize_blocks(&self, w: &QuantizedBlocks, dims: [usize; 2]) -> Result<Vec<f32>>;
    /// Nothing where there are only casts.
    fn products(&self) -> Option<&dyn Products> {
        None
    }
}

/// The three products of a linear map with weight `[n, k]` for `m` rows, from codes.
pub trait Products {
    /// `y = x w^T`: row tiles `[m, k]` and blocks `[n, k]` -> `[m, n]`.
    fn forward(&self, x: &Quantized, w: &QuantizedBlocks, size: [usize; 3]) -> Result<Vec<f64>>;
    /// `dx = dy w`: row tiles `[m, n]` and blocks `[n, k]` -> `[m, k]`.
    fn input_gradient(&self, dy: &Quantized, w: &QuantizedBlocks, size: [usize; 3]) -> Result<Vec<f64>>;
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
    fn quantize_rows(&self, x: &[f32], [rows, cols]: [usize; 2], options: &QuantizeOptions) -> Result<Quantized> {
        Ok(reference::quantize_rows(x, rows, cols, options))
    }
    fn quantize_rows_bf16(&self, x: &[bf16], dims: [usize; 2], options: &QuantizeOptions) -> Result<Option<Quantized>> {
        let x: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        self.quantize_rows(&x, dims, options).map(Some)
    }
    fn quantize_columns(&self, x: &[f32], [rows, cols]: [usize; 2], options: &QuantizeOptions) -> Result<Quantized> {
        Ok(reference::quantize_columns(x, &[0, rows], cols, options))
    }
    fn quantize_both(&self, x: &[f32], dims: [usize; 2], options: &QuantizeOptions) -> Result<(Quantized, Quantized)> {
        Ok((self.quantize_rows(x, dims, options)?, self.quantize_columns(x, dims, options)?))
    }
    fn quantize_blocks(&self, w: &[f32], [n, k]: [usize; 2], options: &QuantizeOptions) -> Result<QuantizedBlocks> {
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
    fn products(&self) -> Option<&dyn Products> {
        Some(self)
    }
}

impl Products for Plain {
    fn forward(&self, x: &Quantized, w: &QuantizedBlocks, [m, n, k]: [usize; 3]) -> Result<Vec<f64>> {
        let (x, w) = (self.dequantize_rows(x, [m, k])?, self.dequantize_blocks(w, [n, k])?);
        Ok(product([m, n, k], |i, l| x[i * k + l], |j, l| w[j * k + l]))
    }
    fn input_gradient(&self, dy: &Quantized, w: &QuantizedBlocks, [m, n, k]: [usize; 3]) -> Result<Vec<f64>> {
        let (dy, w) = (self.dequantize_rows(dy, [m, n])?, self.dequantize_blocks(w, [n, k])?);
        Ok(product([m, k, n], |i, l| dy[i * n + l], |j, l| w[l * k + j]))
    }
    fn weight_gradient(&self, dy: &Quantized, x: &Quantized, [m, n, k]: [usize; 3]) -> Result<Vec<f64>> {
        let (dy, x) = (self.dequantize_columns(dy, [m, n])?, self.dequantize_columns(x, [m, k])?);
        Ok(product([n, k, m], |i, l| dy[l * n + i], |j, l| x[l * k + j]))
    }
}

/// `c[i, j] = sum_l a(i, l) b(j, l)` in f64, `[rows, columns, depth]`.
pub fn product([rows, columns, depth]: [usize; 3], a: impl Fn(usize, usize) -> f32, b: impl Fn(usize, usize) -> f32) -> Vec<f64> {
    let entry = |i, j| (0..depth).map(|l| f64::from(a(i, l)) * f64::from(b(j, l))).sum();
    (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| entry(i, j)).collect()
}

/// The operations on the CPU.
pub struct Host;

impl Implementation for Host {
    fn name(&self) -> &'static str {
        "host"
    }
    fn quantize_rows(&self, x: &[f32], [rows, cols]: [usize; 2], options: &QuantizeOptions) -> Result<Quantized> {
        Ok(host::quantize_rows(x, rows, cols, options)?)
    }
    fn quantize_rows_bf16(&self, x: &[bf16], [rows, cols]: [usize; 2], options: &QuantizeOptions) -> Result<Option<Quantized>> {
        Ok(Some(host::quantize_rows(x, rows, cols, options)?))
    }
    fn quantize_columns(&self, x: &[f32], [rows, cols]: [usize; 2], options: &QuantizeOptions) -> Result<Quantized> {
        Ok(host::quantize_columns(x, &[0, rows], cols, options)?)
    }
    fn quantize_both(&self, x: &[f32], [rows, cols]: [usize; 2], options: &QuantizeOptions) -> Result<(Quantized, Quantized)> {
        Ok(host::quantize_both(x, &[0, rows], cols, options)?)
    }
    fn quantize_blocks(&self, w: &[f32], [n, k]: [usize; 2], options: &QuantizeOptions) -> Result<QuantizedBlocks> {
        Ok(host::quantize_blocks(w, 1, n, k, options)?)
    }
    fn dequantize_rows(&self, x: &Quantized, [rows, cols]: [usize; 2]) -> Result<Vec<f32>> {
        Ok(host::dequantize_rows(&x.codes, &x.scales, rows, cols, FORMAT)?)
    }
    fn dequantize_columns(&self, x: &Quantized, [rows, cols]: [usize; 2]) -> Result<Vec<f32>> {
        Ok(host::dequantize_columns(&x.codes, &x.scales, &[0, rows], cols, FORMAT)?)
    }
    fn dequantize_blocks(&self, w: &QuantizedBlocks, [n, k]: [usize; 2]) -> Result<Vec<f32>> {
        Ok(host::dequantize_blocks(&w.codes, &w.scales, 1, n, k, FORMAT)?)
    }
}
