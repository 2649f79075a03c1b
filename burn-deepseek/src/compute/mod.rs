//! How a pass computes: the precision of each operation, the quantized weights of the step, and
//! where weight gradients go.

mod experts;
#[cfg(test)]
mod experts_tests;
mod linears;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use burn::backend::Dispatch;
use burn::module::ParamId;
use burn::tensor::Device;

use crate::backend::fp8::{CastCounter, Fp8Weight};
use crate::backend::{WeightGradientQueue, supports_bf16x3, supports_fp8};
use crate::definition::ExpertDispatch;
use crate::precision::Precision;
use crate::routing::RoutingControl;

/// A precision that a device cannot compute in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} has no {lacks}")]
pub struct UnsupportedPrecision {
    device: String,
    lacks: &'static str,
}

/// How a pass computes.
///
/// It holds the quantized weights, each made once when it is first needed: make a new one (or
/// [`Compute::next_step`]) whenever weights have changed. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Compute {
    precision: Precision,
    weights: Arc<Mutex<HashMap<ParamId, Fp8Weight<Dispatch>>>>,
    deferred: Option<WeightGradientQueue>,
    expert_dispatch: Option<Arc<dyn ExpertDispatch>>,
    counter: Option<CastCounter>,
    routing: Option<RoutingControl>,
}

impl Compute {
    /// A pass in a precision.
    ///
    /// # Errors
    ///
    /// The device has no operations for it.
    pub fn new(precision: Precision, device: &Device) -> Result<Self, UnsupportedPrecision> {
        let lacks = match precision {
            Precision::Fp8(_) if !supports_fp8(device) => {
                "FP8 operations: take f32 or bf16, or a device of Flex or CubeCL"
            }
            Precision::Bf16x3 if !supports_bf16x3(device) => {
                "tile unit that three BF16 products would be faster on than FP32 ones: take f32, or \
                 Flex on a processor with AMX"
            }
            _ => return Ok(Self::unchecked(precision)),
        };
        Err(UnsupportedPrecision { device: format!("{device:?}"), lacks })
    }

    /// A pass in a precision that the device is known to have operations for.
    pub(crate) fn unchecked(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }

    /// A pass in FP32 throughout.
    pub fn f32() -> Self {
        Self::default()
    }

    /// A copy for weights that have changed: nothing quantized is carried over, and nothing is
    /// measured.
    pub fn next_step(&self) -> Self {
        Self { weights: Arc::default(), counter: None, ..self.clone() }
    }

    /// A copy for the rest of the step whose passes measure more of themselves: `counter` is told of
    /// casts to FP8, and routers give the entropy of their scores. Weights are quantized again, so
    /// that their casts are counted whatever has been computed before.
    pub fn detailed(&self, counter: CastCounter) -> Self {
        Self { weights: Arc::default(), counter: Some(counter), ..self.clone() }
    }

    /// Whether passes measure more of themselves.
    pub fn is_detailed(&self) -> bool {
        self.counter.is_some()
    }

    /// A copy that leaves the weight gradients of linears in `queue`; those of the head, of norms
    /// and of the router come at once.
    pub fn deferring_to(&self, queue: WeightGradientQueue) -> Self {
        Self { deferred: Some(queue), ..self.clone() }
    }

    /// A copy whose rows are carried to experts by `dispatch`; without one all experts are on the
    /// device.
    pub fn with_expert_dispatch(&self, dispatch: Arc<dyn ExpertDispatch>) -> Self {
        Self { expert_dispatch: Some(dispatch), ..self.clone() }
    }

    /// A copy that asks its routers what `control` says.
    pub fn with_routing(&self, control: RoutingControl) -> Self {
        Self { routing: Some(control), ..self.clone() }
    }

    /// What its routers are asked beside routing; mostly nothing.
    pub fn routing(&self) -> Option<&RoutingControl> {
        self.routing.as_ref()
    }

    /// The precision.
    pub fn precision(&self) -> &Precision {
        &self.precision
    }
}
