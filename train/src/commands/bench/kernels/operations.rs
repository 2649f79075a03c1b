//! A linear's operands, each of its FP8 operations beside its competitor, and how far the result is
//! from the unquantized one.

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use burn_deepseek::backend::fp8::{
    Fp8Kernels, Fp8Matrix, Fp8Pair, Fp8Weight, GroupedLinearShape, Side,
};
use burn_deepseek::definition::ExpertGroups;
use burn_deepseek::fp8::calc_diff;
use burn_deepseek::ops::fp8::Rows;
use burn_deepseek::precision::Fp8Rule;

use super::Sizes;
use super::kind::Kind;
use crate::commands::bench::baseline::{Baseline, Work};
use crate::failure::{Failure, Result};

/// Entries that share a scale, for counting bytes.
const TILE: usize = 128;
/// Shares of the rows that experts have, in sixteenths: loads are never even.
const LOADS: [usize; super::EXPERTS] = [4, 1, 2, 1, 3, 1, 3, 1];
/// An operation and its competitor.
pub(super) struct Competition {
    pub ours: Work,
    pub theirs: Work,
    /// Multiplications and additions; 0 for a cast.
    pub flop: usize,
    /// Bytes that ours reads and writes.
    pub bytes: usize,
}

/// The operands of a linear, as they are and quantized.
pub(super) struct Linear {
    shape: GroupedLinearShape,
    /// Where each expert's rows begin, and their number at the end.
    offsets: Vec<usize>,
    rows: Rows,
    rule: Fp8Rule,
    baseline: Baseline,
    device: Device,
    /// `[m, k]`, `[m, n]`, and a weight `[n, k]` an expert.
    x: Tensor<2>,
    dy: Tensor<2>,
    w: Vec<Tensor<2>>,
    x_codes: Fp8Pair<Dispatch>,
    dy_codes: Fp8Pair<Dispatch>,
    w_codes: Fp8Weight<Dispatch>,
}

impl Linear {
    /// Operands drawn from the normal distribution by the device's generator.
    pub fn new(
        Sizes { m, n, k, .. }: Sizes,
        experts: usize,
        rule: Fp8Rule,
        baseline: Baseline,
        device: &Device,
    ) -> Self {
        let normal =
            |dims: [usize; 2]| Tensor::<2>::random(dims, Distribution::Normal(0.0, 1.0), device);
        let (x, dy) = (normal([m, k]), normal([m, n]));
        let w: Vec<_> = (0..experts).map(|_| normal([n, k])).collect();
        let (offsets, by_expert) = match experts {
            1 => (vec![0, m], Rows::one(m, device)),
            _ => {
                let choices: Vec<u32> = (0..)
                    .zip(LOADS)
                    .flat_map(|(expert, load)| std::iter::repeat_n(expert, m / 16 * load))
                    .collect();
                let groups = ExpertGroups::new(&choices, 1, experts);
                (groups.offsets().to_vec(), Rows::of(&groups, &x))
            }
        };
        let both = |x: &Tensor<2>, options| {
            let Rows { groups, table } = by_expert.clone();
            let x = x.clone().into_dispatch();
            Dispatch::fp8_quantize_both(x, table.into_dispatch(), groups, options)
        };
        let (x_codes, dy_codes) = (both(&x, rule.activations), both(&dy, rule.gradients));
        let w_codes = match &w[..] {
            [w] => Dispatch::fp8_quantize_weight(w.clone().into_dispatch(), rule.weights),
            w => Dispatch::fp8_quantize_weight(
                Tensor::stack::<3>(w.to_vec(), 0).into_dispatch(),
                rule.weights,
            ),
        };
        let shape = GroupedLinearShape { rows: m, inputs: k, outputs: n, experts };
        Self {
            shape,
            offsets,
            rows: by_expert,
            rule,
            baseline,
            device: device.clone(),
            x,
            dy,
            w,
            x_codes,
            dy_codes,
            w_codes,
        }
    }

    /// What is timed for an operation.
    pub fn competition(&self, kind: Kind) -> Competition {
        let GroupedLinearShape { rows, inputs, outputs, experts } = self.shape;
        let rule = self.rule;
        let flop = 2 * rows * inputs * outputs;
        // Bytes of codes with their scales, by rows of tiles.
        let codes =
            |rows: usize, columns: usize| rows * columns + 4 * rows * columns.div_ceil(TILE);
        let weights = |count: usize| {
            experts
                * (count * inputs * outputs + 4 * inputs.div_ceil(TILE) * outputs.div_ceil(TILE))
        };
        let cast = |ours: Work, bytes: usize| Competition {
            ours,
            theirs: self.baseline.copy(bytes, &self.device),
            flop: 0,
            bytes,
        };
        let (x, by_expert) = (self.x.clone(), self.rows.clone());
        match kind {
            Kind::QuantizeRows => cast(
                Box::new(move || {
                    drop(Dispatch::fp8_quantize_rows(x.clone().into_dispatch(), rule.activations))
                }),
                4 * rows * inputs + codes(rows, inputs),
            ),
            Kind::QuantizeBoth => cast(
                Box::new(move || {
                    let Rows { groups, table } = by_expert.clone();
                    drop(Dispatch::fp8_quantize_both(
                        x.clone().into_dispatch(),
                        table.into_dispatch(),
                        groups,
                        rule.activations,
                    ))
                }),
                4 * rows * inputs + 2 * codes(rows, inputs),
            ),
            Kind::QuantizeWeight => {
                let w = self.w[0].clone();
                cast(
                    Box::new(move || {
                        drop(Dispatch::fp8_quantize_weight(w.clone().into_dispatch(), rule.weights))
                    }),
                    4 * inputs * outputs + weights(2),
                )
            }
            product => {
                let (ours, theirs) = (
                    self.quantized_product(product),
                    self.plain_product(product, self.baseline.product),
                );
                let (x, dy) = (codes(rows, inputs), codes(rows, outputs));
                let bytes = match product {
                    Kind::Fprop | Kind::GroupedFprop => x + weights(1) + 4 * rows * outputs,
                    Kind::Dgrad | Kind::GroupedDgrad => dy + weights(1) + 4 * rows * inputs,
                    _ => x + dy + 4 * experts * inputs * outputs,
                };
                Competition {
                    ours: Box::new(move || drop(ours())),
                    theirs: Box::new(move || drop(theirs())),
                    flop,
                    bytes,
                }
            }
        }
    }

    /// `calc_diff` between what an operation makes (dequantized, of a cast) and the same of
    /// unquantized operands by Burn in F32.
    ///
    /// # Errors
    /// A result that cannot be read.
    pub fn difference(&self, kind: Kind) -> Result<f64> {
        let (options, shape) = (self.rule.activations, self.shape);
        let rows =
            || Dispatch::fp8_dequantize_rows(self.x_codes.rows.clone(), shape.inputs, options);
        let columns = || {
            let (codes, Rows { groups, table }) = (self.x_codes.columns.clone(), self.rows.clone());
            Dispatch::fp8_dequantize_columns(codes, table.into_dispatch(), groups, options)
        };
        let to_x = |values| difference(Tensor::from_dispatch(values), self.x.clone());
        match kind {
            Kind::QuantizeRows => to_x(rows()),
            Kind::QuantizeBoth => Ok(to_x(rows())?.max(to_x(columns())?)),
            Kind::QuantizeWeight => {
                let values =
                    Dispatch::fp8_dequantize_weight(self.w_codes.clone(), shape, self.rule.weights);
                difference(Tensor::from_dispatch(values), self.w[0].clone())
            }
            product => difference(
                self.quantized_product(product)(),
                Tensor::cat(self.plain_product(product, DType::F32)(), 0),
            ),
        }
    }

    /// A product in FP8; of a weight gradient the experts' below each other.
    fn quantized_product(&self, kind: Kind) -> Box<dyn Fn() -> Tensor<2>> {
        let (shape, rule, Rows { groups, table }) = (self.shape, self.rule, self.rows.clone());
        let (x, dy, w) = (self.x_codes.clone(), self.dy_codes.clone(), self.w_codes.clone());
        let gemm = move |a: Fp8Matrix<Dispatch>, side| {
            let (w, table) = (w.clone(), table.clone());
            Box::new(move || {
                Tensor::from_dispatch(Dispatch::fp8_gemm(
                    a.clone(),
                    w.clone(),
                    table.clone().into_dispatch(),
                    groups,
                    shape,
                    side,
                    rule,
                ))
            })
        };
        match kind {
            Kind::Fprop | Kind::GroupedFprop => gemm(x.rows, Side::Fprop),
            Kind::Dgrad | Kind::GroupedDgrad => gemm(dy.rows, Side::Dgrad),
            _ => {
                let table = self.rows.table.clone();
                Box::new(move || {
                    let (dy, x) = (dy.columns.clone(), x.columns.clone());
                    let dw = Tensor::<3>::from_dispatch(Dispatch::fp8_weight_gradient(
                        dy,
                        x,
                        table.clone().into_dispatch(),
                        groups,
                        shape,
                        rule,
                    ));
                    dw.reshape([shape.experts * shape.outputs, shape.inputs])
                })
            }
        }
    }

    /// The product by Burn, one matmul an expert.
    fn plain_product(&self, kind: Kind, dtype: DType) -> Box<dyn Fn() -> Vec<Tensor<2>>> {
        let cast =
            |x: &Tensor<2>| if x.dtype() == dtype { x.clone() } else { x.clone().cast(dtype) };
        // An expert's rows are cut out before anything is timed.
        let rows = |x: &Tensor<2>| -> Vec<Tensor<2>> {
            let x = cast(x);
            let bounds = self.offsets.windows(2);
            bounds
                .map(|bounds| {
                    if self.w.len() == 1 {
                        x.clone()
                    } else {
                        x.clone().narrow(0, bounds[0], bounds[1] - bounds[0])
                    }
                })
                .collect()
        };
        let (x, dy, w) =
            (rows(&self.x), rows(&self.dy), self.w.iter().map(cast).collect::<Vec<_>>());
        let each = move |product: fn((Tensor<2>, Tensor<2>)) -> Tensor<2>,
                         a: Vec<Tensor<2>>,
                         b: Vec<Tensor<2>>| {
            Box::new(move || a.iter().cloned().zip(b.iter().cloned()).map(product).collect())
        };
        match kind {
            Kind::Fprop | Kind::GroupedFprop => each(|(x, w)| x.matmul(w.transpose()), x, w),
            Kind::Dgrad | Kind::GroupedDgrad => each(|(dy, w)| dy.matmul(w), dy, w),
            _ => each(|(dy, x)| dy.transpose().matmul(x), dy, x),
        }
    }
}

fn difference(ours: Tensor<2>, exact: Tensor<2>) -> Result<f64> {
    let (ours, exact) = (ours.into_data(), exact.into_data());
    let values = |data: &TensorData| {
        data.as_slice::<f32>()
            .map(<[f32]>::to_vec)
            .map_err(|error| Failure::new(format!("a result is no F32: {error:?}")))
    };
    Ok(calc_diff(&values(&ours)?, &values(&exact)?))
}
