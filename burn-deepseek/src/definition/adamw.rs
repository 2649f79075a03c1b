//! Numbers of one optimizer step.

use cubecl_kernels::definition::AdamWConfig;

/// What AdamW multiplies by in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWScalars {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
    /// Multiplier of the gradient: the global-norm clip.
    pub grad_scale: f64,
}

impl AdamWScalars {
    /// `1 - beta1^step`.
    pub fn first_correction(&self) -> f64 {
        1.0 - self.beta1.powi(self.step as i32)
    }

    /// `1 - beta2^step`.
    pub fn second_correction(&self) -> f64 {
        1.0 - self.beta2.powi(self.step as i32)
    }
}

impl From<AdamWScalars> for AdamWConfig {
    fn from(scalars: AdamWScalars) -> Self {
        Self {
            lr: scalars.lr as f32,
            beta1: scalars.beta1 as f32,
            beta2: scalars.beta2 as f32,
            eps: scalars.eps as f32,
            weight_decay: scalars.weight_decay as f32,
            step: scalars.step,
            gradient_scale: scalars.grad_scale as f32,
        }
    }
}
