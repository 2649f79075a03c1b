//! Linear layers that compute in FP8, forward and backward.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor, assert_shape};

use super::error::{Fp8Error, check_castable};
use crate::definition::ExpertGroups;
use crate::precision::{Fp8Recipe, Operation};
use crate::{Compute, Precision};

/// Makes an [`Fp8Linear`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_deepseek::fp8::{Fp8Error, Fp8LinearConfig};
///
/// let device = Device::flex().autodiff();
/// let layer = Fp8LinearConfig::new(256, 10).init(&device)?;
/// let x = Tensor::<3>::ones([2, 3, 256], &device).require_grad();
/// let y = layer.forward(x.clone());
/// assert_eq!(y.dims(), [2, 3, 10]);
///
/// let grads = y.sum().backward(); // Dgrad and Wgrad in FP8
/// assert_eq!(x.grad(&grads).expect("a gradient").dims(), [2, 3, 256]);
/// # Ok::<(), Fp8Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fp8LinearConfig {
    /// Width of the input.
    pub d_in: usize,
    /// Width of the output.
    pub d_out: usize,
    /// Whether a bias is added, in FP32.
    pub bias: bool,
    /// Formats; the report's by default.
    pub recipe: Fp8Recipe,
    /// How the weight is drawn.
    pub initializer: Initializer,
}

impl Fp8LinearConfig {
    /// The report's recipe, with a bias.
    pub fn new(d_in: usize, d_out: usize) -> Self {
        let initializer =
            Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false };
        Self { d_in, d_out, bias: true, recipe: Fp8Recipe::default(), initializer }
    }

    /// Without a bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    /// A new layer.
    ///
    /// # Errors
    ///
    /// The device has no FP8 operations, or makes tensors of another type than F32.
    pub fn init(&self, device: &Device) -> Result<Fp8Linear, Fp8Error> {
        let (d_in, d_out) = (self.d_in, self.d_out);
        let weight: Param<Tensor<2>> =
            self.initializer.init_with([d_out, d_in], Some(d_in), Some(d_out), device);
        check_castable("weight", weight.val().dtype(), device)?;
        let bias = self.bias.then(|| Initializer::Zeros.init([d_out], device));
        Ok(Fp8Linear { layer: crate::Linear { weight: weight.into(), bias }, recipe: self.recipe })
    }
}

/// `y = x w^T (+ b)` in FP8 (3.3): master weight FP32; input, output gradient and weight quantized
/// online for Fprop, Dgrad and Wgrad; the input kept for backward as FP8 codes.
#[derive(Module, Debug)]
pub struct Fp8Linear {
    /// Weight `[d_out, d_in]` and bias `[d_out]`.
    pub layer: crate::Linear,
    #[module(skip)]
    recipe: Fp8Recipe,
}

impl Fp8Linear {
    /// Applies the layer, quantizing its weight.
    ///
    /// # Shapes
    ///
    /// - x: `[..., d_in]`, output: `[..., d_out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward_with(x, &self.compute())
    }

    /// Applies the layer with the quantized weights of `compute`: one for all micro-batches of a
    /// step, a new one after each update.
    ///
    /// # Shapes
    ///
    /// - x: `[..., d_in]`, output: `[..., d_out]`
    pub fn forward_with<const D: usize>(&self, x: Tensor<D>, compute: &Compute) -> Tensor<D> {
        let [d_out, d_in] = self.layer.weight.dims();
        assert_shape!(x, [.., d_in]);
        let mut dims = x.dims();
        let rows = dims[..D - 1].iter().product::<usize>();
        dims[D - 1] = d_out;
        compute.linear(Operation::GateUp, x.reshape([rows, d_in]), &self.layer).reshape(dims)
    }

    /// What [`Fp8Linear::forward_with`] takes for one step.
    pub fn compute(&self) -> Compute {
        Compute::unchecked(Precision::Fp8(self.recipe))
    }
}

/// Makes an [`Fp8GroupedLinear`].
#[derive(Clone, Debug)]
pub struct Fp8GroupedLinearConfig {
    /// Linears, one a group of rows.
    pub experts: usize,
    /// Width of the input.
    pub d_in: usize,
    /// Width of the output.
    pub d_out: usize,
    /// Formats; the report's by default.
    pub recipe: Fp8Recipe,
    /// How the weights are drawn.
    pub initializer: Initializer,
}

impl Fp8GroupedLinearConfig {
    /// The report's recipe.
    pub fn new(experts: usize, d_in: usize, d_out: usize) -> Self {
        let Fp8LinearConfig { recipe, initializer, .. } = Fp8LinearConfig::new(d_in, d_out);
        Self { experts, d_in, d_out, recipe, initializer }
    }

    /// New layers.
    ///
    /// # Errors
    ///
    /// As [`Fp8LinearConfig::init`].
    pub fn init(&self, device: &Device) -> Result<Fp8GroupedLinear, Fp8Error> {
        let dims = [self.experts, self.d_out, self.d_in];
        let weight: Param<Tensor<3>> =
            self.initializer.init_with(dims, Some(self.d_in), Some(self.d_out), device);
        check_castable("weight", weight.val().dtype(), device)?;
        Ok(Fp8GroupedLinear { weight, recipe: self.recipe })
    }
}

/// One FP8 linear a group of rows, all in one product: the experts of a mixture.
#[derive(Module, Debug)]
pub struct Fp8GroupedLinear {
    /// A weight for each group, `[experts, d_out, d_in]`.
    pub weight: Param<Tensor<3>>,
    #[module(skip)]
    recipe: Fp8Recipe,
}

impl Fp8GroupedLinear {
    /// Applies each expert to its rows, quantizing the weights.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, d_in]`, sorted by expert as `groups` says; output: `[rows, d_out]`
    pub fn forward(&self, x: Tensor<2>, groups: &ExpertGroups) -> Tensor<2> {
        self.forward_with(x, groups, &self.compute())
    }

    /// [`Fp8GroupedLinear::forward`] with the quantized weights of `compute`; see
    /// [`Fp8Linear::forward_with`].
    ///
    /// # Shapes
    ///
    /// - x: `[rows, d_in]`, sorted by expert as `groups` says; output: `[rows, d_out]`
    pub fn forward_with(
        &self,
        x: Tensor<2>,
        groups: &ExpertGroups,
        compute: &Compute,
    ) -> Tensor<2> {
        let [experts, _, d_in] = self.weight.dims();
        assert_shape!(x, [groups.rows(), d_in]);
        assert_eq!(experts, groups.experts(), "`groups` must have as many experts as the layer");
        compute.grouped_linear(Operation::ExpertGateUp, x, &self.weight, groups)
    }

    /// What [`Fp8GroupedLinear::forward_with`] takes for one step.
    pub fn compute(&self) -> Compute {
        Compute::unchecked(Precision::Fp8(self.recipe))
    }
}
