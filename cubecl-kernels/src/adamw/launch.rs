//! Checks and launch of a step.

use super::kernel::{FactorsLaunch, update};
use crate::definition::{AdamWConfig, KernelError};
use crate::device::{Element, UNITS, argument, check_handle, elementwise_cubes, load_width};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// One AdamW step in place: `g = gradient_scale gradient`, `p -= lr weight_decay p`,
/// `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
/// `p -= lr / (1 - beta1^step) m / (sqrt(v / (1 - beta2^step)) + eps)`.
///
/// In FP32; moments are widened when read and rounded when stored, and the parameter sees them
/// before that rounding.
///
/// # Shapes
/// All `[count]`: `param` and `gradient` FP32, `first` and `second` of `moments`.
///
/// # Errors
/// [`KernelError::Invalid`] where `step` is 0 or the device has no such moments, else
/// [`KernelError`] where a buffer is too small or the size cannot be addressed.
///
/// Source: Loshchilov and Hutter, 2019 (arXiv 1711.05101); technical report 4.2.
#[allow(clippy::too_many_arguments)]
pub fn adamw(
    client: &Client,
    param: &Handle,
    gradient: &Handle,
    first: &Handle,
    second: &Handle,
    moments: Element,
    count: usize,
    config: &AdamWConfig,
) -> Result<(), KernelError> {
    const OP: &str = "adamw";
    if config.step == 0 {
        return Err(KernelError::Invalid {
            op: OP,
            argument: "config.step",
            requirement: "must count from 1",
        });
    }
    moments.check(client, OP, "first")?;
    check_handle(OP, "param", param, 4, &[count])?;
    check_handle(OP, "gradient", gradient, 4, &[count])?;
    check_handle(OP, "first", first, moments.size(), &[count])?;
    check_handle(OP, "second", second, moments.size(), &[count])?;
    if count == 0 {
        return Ok(());
    }
    let vector = load_width(count);
    let total = count / vector;
    let (cubes, units) = (elementwise_cubes(client, total), CubeDim::new_1d(UNITS));
    let values = [param, gradient, first, second].map(|handle| argument(handle, count));
    let [param, gradient, first, second] = values;
    let factors = factors(config);
    let launch = match moments {
        Element::F32 => update::launch_unchecked::<f32>,
        Element::Bf16 => update::launch_unchecked::<half::bf16>,
    };
    // SAFETY: all four were found to hold `count` numbers, and a unit past the last does nothing.
    unsafe {
        launch(
            client,
            cubes,
            units,
            vector,
            param,
            gradient,
            first,
            second,
            factors,
            total as u32,
            vector as u32,
        );
    }
    Ok(())
}

/// What a step multiplies by, worked out in FP64.
fn factors(config: &AdamWConfig) -> FactorsLaunch {
    let [beta1, beta2, lr, decay] =
        [config.beta1, config.beta2, config.lr, config.weight_decay].map(f64::from);
    let step = config.step as f64;
    FactorsLaunch::new(
        config.gradient_scale,
        config.beta1,
        (1.0 - beta1) as f32,
        config.beta2,
        (1.0 - beta2) as f32,
        (1.0 - lr * decay) as f32,
        (lr / (1.0 - beta1.powf(step))) as f32,
        (1.0 / (1.0 - beta2.powf(step)).sqrt()) as f32,
        config.eps,
    )
}
