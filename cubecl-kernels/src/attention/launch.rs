//! Attention by the tile that suits a device, a shape and a format.

use super::execute::{
    DeviceAttention, DeviceAttentionGradients, attention_backward_by, attention_by,
};
use super::tile::Tile;
use super::trial::attention_unit;
use crate::definition::{AttentionOptions, AttentionShape, KernelError, ProductFormat};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// MLA's causal attention, `softmax(scale (q_nope k_nope^T + q_rope k_rope^T)) v`; query row `i` sees
/// keys `0 ..= s - t + i`. What is allocated is the result and, for BF16, the operands in it, so that
/// bytes grow with the sequence and not with its square.
///
/// Products of BF16 are made where the device has matrix instructions and no head is too wide for
/// them; all others, and the softmax, are in FP32.
///
/// # Shapes
/// FP32: `q` `[b, t, h, dn + dr]`, `kv` `[b, s, h, dn + dv]`, `k_rope` `[b, s, dr]` ->
/// [`DeviceAttention`].
///
/// # Errors
/// [`KernelError`] where a buffer is too small, a size cannot be addressed or there are fewer keys
/// than queries.
///
/// Source: technical report 2.1.1.
pub fn attention(
    client: &Client,
    q: &Handle,
    kv: &Handle,
    k_rope: &Handle,
    shape: &AttentionShape,
    options: &AttentionOptions,
) -> Result<DeviceAttention, KernelError> {
    let tile = tile_of(client, shape, options.format);
    attention_by(client, q, kv, k_rope, shape, options.scale, tile)
}

/// The gradients of [`attention`] for `dout`, from its inputs and outputs; probabilities are
/// computed again, and no two units add to the same entry.
///
/// With `P = exp(S - lse)` and `D = rowsum(dout * out)`: `dv = P^T dout`,
/// `dS = P * (dout v^T - D)`, `dq = scale dS k`, `dk = scale dS^T q`.
///
/// # Shapes
/// FP32: the inputs and results of [`attention`], `dout` as `out` -> [`DeviceAttentionGradients`].
///
/// # Errors
/// Fails as [`attention`] does.
///
/// Source: technical report 2.1.1.
#[allow(clippy::too_many_arguments)]
pub fn attention_backward(
    client: &Client,
    q: &Handle,
    kv: &Handle,
    k_rope: &Handle,
    output: &DeviceAttention,
    dout: &Handle,
    shape: &AttentionShape,
    options: &AttentionOptions,
) -> Result<DeviceAttentionGradients, KernelError> {
    let tile = tile_of(client, shape, options.format);
    attention_backward_by(client, [q, kv, k_rope], output, dout, shape, options.scale, tile)
}

/// The tile: that of matrix instructions where BF16 is asked for and the device has passed the trial.
fn tile_of(client: &Client, shape: &AttentionShape, format: ProductFormat) -> Tile {
    let unit = (format == ProductFormat::Bf16).then(|| attention_unit(client).ok()).flatten();
    Tile::of(client, shape, unit)
}
