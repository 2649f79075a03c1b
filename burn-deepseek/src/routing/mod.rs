//! What a pass may ask of its routers beside routing: to choose otherwise, to take choices that are
//! given, and to tell what they chose by (2.1.2).

mod change;
mod given;
mod log;

use std::sync::Arc;

pub use change::{BiasDelta, RoutingChange, RoutingChangeError};
pub use given::{GivenChoices, GivenChoicesError};
pub use log::{LayerRecord, RoutingDetail, RoutingLog};

/// What is asked of the routers of a pass; by default nothing, which costs nothing.
///
/// It travels in a [`Compute`](crate::Compute), so it reaches every router: those of the main model
/// and of the MTP modules, of a whole model and of a pipeline's stage, in training and in decoding.
/// Backward computes no router again, whatever else it recomputes. Where anything is asked the choice
/// is made on the host (2.1.2), which every router waits for; all of this is the same on every
/// device.
///
/// ```
/// use burn_deepseek::Compute;
/// use burn_deepseek::routing::{RoutingChange, RoutingControl, RoutingLog};
///
/// let log = RoutingLog::of_everything();
/// // What if expert 3 of layer 1 took no token?
/// let change = RoutingChange { disabled: [(1, 3)].into(), ..RoutingChange::default() };
/// let control = RoutingControl { change, log: Some(log.clone()), ..RoutingControl::default() };
/// let compute = Compute::f32().with_routing(control);
/// // ... a pass with `compute`; then `log.take()` has what each layer did.
/// # assert!(compute.routing().is_some() && log.take().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct RoutingControl {
    /// How the choice is another than the model's own.
    pub change: RoutingChange,
    /// Choices that are taken instead of being made. Scores and gate values are computed as always,
    /// and what `change` says of the choice is without effect.
    pub given: Option<Arc<GivenChoices>>,
    /// Where the routers tell what they did.
    pub log: Option<RoutingLog>,
}
