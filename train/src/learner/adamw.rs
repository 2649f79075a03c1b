//! AdamW over a whole model, with the global-norm clip folded into the update (4.2; arXiv
//! 1711.05101).

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use burn_deepseek::definition::AdamWScalars;
use burn_deepseek::ops;

use crate::config::MomentsConfig;

/// The type that AdamW keeps its moments in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MomentFormat {
    /// Four bytes a value.
    F32,
    /// Two bytes a value (report, 3.3.3).
    Bf16,
}

impl MomentFormat {
    /// The tensors' type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl From<MomentFormat> for MomentsConfig {
    fn from(format: MomentFormat) -> Self {
        match format {
            MomentFormat::F32 => Self::F32,
            MomentFormat::Bf16 => Self::Bf16,
        }
    }
}

/// Settings of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, on every parameter.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm; none leaves them alone.
    pub clip_grad_norm: Option<f64>,
    /// What the moments are kept in; the update is computed in F32.
    pub moments: MomentFormat,
}

/// First and second moment of one parameter, flat.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Tensor<1>,
    /// Running mean of its square.
    pub second: Tensor<1>,
}

/// The optimizer and its state.
#[derive(Clone, Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    step: u64,
    moments: HashMap<ParamId, Moments>,
}

impl AdamW {
    /// An optimizer before its first step.
    pub fn new(settings: AdamWSettings) -> Self {
        Self { settings, step: 0, moments: HashMap::new() }
    }

    /// An optimizer that continues after `step` steps.
    pub fn resumed(settings: AdamWSettings, step: u64, moments: HashMap<ParamId, Moments>) -> Self {
        Self { settings, step, moments }
    }

    /// Steps taken.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Settings of the optimizer.
    pub fn settings(&self) -> AdamWSettings {
        self.settings
    }

    /// The state of each parameter that has had a gradient.
    pub fn moments(&self) -> &HashMap<ParamId, Moments> {
        &self.moments
    }

    /// Updates the model and returns it with the global norm of the gradients before clipping.
    ///
    /// `theta -= lr * (weight_decay * theta + m_hat / (sqrt(v_hat) + eps))`, with bias-corrected
    /// moments of the clipped gradient. Parameters without a gradient (the balance bias among them)
    /// are left alone. The model is taken by value: where it is the only owner of its weights they
    /// are updated in place.
    ///
    /// The gradients are those of a loss that was multiplied by `scale`, a power of two.
    pub fn update<M: Module>(
        &mut self,
        model: M,
        grads: GradientsParams,
        scale: f64,
        lr: f64,
    ) -> (M, f64) {
        let norm = norm_of(&gradient_squares(&model, &grads)) / scale;
        (self.update_by_norm(model, grads, norm, scale, lr), norm)
    }

    /// [`update`](Self::update) of a part of a model, clipped by the global norm of the whole
    /// model's gradients (which is that of the loss itself, without `scale`).
    pub fn update_by_norm<M: Module>(
        &mut self,
        model: M,
        grads: GradientsParams,
        norm: f64,
        scale: f64,
        lr: f64,
    ) -> M {
        let clip = match self.settings.clip_grad_norm {
            Some(limit) if norm > limit => limit / (norm + 1e-6),
            _ => 1.0,
        };
        self.step += 1;
        let AdamWSettings { beta1, beta2, eps, weight_decay, .. } = self.settings;
        let scalars = AdamWScalars {
            lr,
            beta1,
            beta2,
            eps,
            weight_decay,
            step: self.step,
            grad_scale: clip / scale,
        };
        let dtype = self.settings.moments.dtype();
        model.map(&mut Update { grads, moments: &mut self.moments, dtype, scalars })
    }
}

/// `sqrt(sum over all gradients of g^2)`, each gradient as [`gradient_squares`] has it, in their
/// order.
pub fn norm_of(squares: &[(ParamId, f64)]) -> f64 {
    squares.iter().map(|(_, square)| square).sum::<f64>().sqrt()
}

/// The sum of the squares of each gradient, as the device sums it (in FP64 on the host), in the
/// order of the model's parameters; the device is waited for once.
pub fn gradient_squares<M: Module>(model: &M, grads: &GradientsParams) -> Vec<(ParamId, f64)> {
    struct Found<'a> {
        grads: &'a GradientsParams,
        ids: Vec<ParamId>,
        values: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Found<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                let count = grad.shape().num_elements();
                self.ids.push(param.id);
                self.values.push(grad.reshape([count]));
            }
        }
    }
    let mut found = Found { grads, ids: Vec::new(), values: Vec::new() };
    model.visit(&mut found);
    found.ids.into_iter().zip(ops::sums_of_squares(found.values)).collect()
}

/// The sum of the squares of each parameter's values, in the model's order; the device is waited for
/// once.
pub fn parameter_squares<M: Module>(model: &M) -> Vec<(ParamId, f64)> {
    #[derive(Default)]
    struct Values(Vec<ParamId>, Vec<Tensor<1>>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let value = if value.is_autodiff() { value.inner() } else { value };
            let count = value.shape().num_elements();
            self.0.push(param.id);
            self.1.push(value.reshape([count]));
        }
    }
    let mut values = Values::default();
    model.visit(&mut values);
    values.0.into_iter().zip(ops::sums_of_squares(values.1)).collect()
}

struct Update<'a> {
    grads: GradientsParams,
    moments: &'a mut HashMap<ParamId, Moments>,
    dtype: DType,
    scalars: AdamWScalars,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(grad) = self.grads.remove::<D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let shape = tensor.shape();
        let count = shape.num_elements();
        let autodiff = tensor.is_autodiff();
        let strategy = tensor.gradient_checkpointing_strategy();
        let value = if autodiff { tensor.inner() } else { tensor }.reshape([count]);
        let grad = grad.reshape([count]);
        let Moments { first, second } = self.moments.remove(&id).unwrap_or_else(|| {
            let zeros = Tensor::zeros([count], (&value.device(), self.dtype));
            Moments { first: zeros.clone(), second: zeros.zeros_like() }
        });
        let (value, first, second) = ops::adamw(value, grad, first, second, &self.scalars);
        self.moments.insert(id, Moments { first, second });
        let value = value.reshape(shape.dims::<D>());
        if !autodiff {
            return Param::from_mapped_value(id, value, mapper);
        }
        let mut updated = Tensor::from_inner(value);
        if let Some(strategy) = strategy {
            updated = updated.with_gradient_checkpointing_strategy(strategy);
        }
        Param::from_mapped_value(id, updated.require_grad(), mapper)
    }
}
