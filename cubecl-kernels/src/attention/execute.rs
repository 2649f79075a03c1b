//! Attention by a given tile: checks and launches.

use super::gradient::{key_gradient, query_gradient, row_statistics, sum_heads};
use super::kernel::attend;
use super::plan::{UNITS, check, sizes, units, vector};
use super::planes::Buffers;
use super::tile::Tile;
use crate::definition::{AttentionShape, KernelError};
use crate::device::{addressable, allocate, argument, check_handle, cubes_of};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// What [`attention`](super::attention) gives.
#[derive(Debug, Clone)]
pub struct DeviceAttention {
    /// The mix of values, `[b, t, h, dv]`.
    pub out: Handle,
    /// The log of the sum of exponentials of each row's scaled scores, `[b, h, t]`.
    pub lse: Handle,
}

/// What [`attention_backward`](super::attention_backward) gives.
#[derive(Debug, Clone)]
pub struct DeviceAttentionGradients {
    /// The gradient for `q`.
    pub dq: Handle,
    /// The gradient for `kv`.
    pub dkv: Handle,
    /// The gradient for `k_rope`, summed over the heads in their order.
    pub dk_rope: Handle,
}

/// As [`attention`](super::attention), by some tile.
pub(super) fn attention_by(
    client: &Client,
    q: &Handle,
    kv: &Handle,
    k_rope: &Handle,
    shape: &AttentionShape,
    scale: f32,
    tile: Tile,
) -> Result<DeviceAttention, KernelError> {
    const OP: &str = "attention";
    let [q_count, kv_count, rope_count] = check_inputs(OP, q, kv, k_rope, shape)?;
    let AttentionShape { batch, queries, heads, v_dim, .. } = *shape;
    let count = addressable(OP, "out", &[batch, queries, heads, v_dim])?;
    let rows = addressable(OP, "lse", &[batch, heads, queries])?;
    let (out, lse) = (allocate(client, count, 4), allocate(client, rows, 4));
    let units = units(OP, shape, queries)?;
    let width = vector(client, shape);
    if units == 0 {
        return Ok(DeviceAttention { out, lse });
    }
    let inputs = [(q, q_count), (kv, kv_count), (k_rope, rope_count)];
    let x = Buffers { inputs, out: (&out, count), rows: (&lse, rows) };
    match tile {
        Tile::Matrix(tiles) => tiles.forward(client, &x, shape, scale)?,
        Tile::Plane(planes) => planes.forward(client, &x, shape, scale),
        // SAFETY: the inputs were found to hold what their shapes say and the results were
        // allocated for theirs; a unit past the last block does nothing, a line past the last of a
        // head is read as the last one and not written.
        Tile::Unit => unsafe {
            attend::launch_unchecked(
                client,
                cubes_of(client, units, UNITS),
                CubeDim::new_1d(UNITS),
                width,
                argument(q, q_count),
                argument(kv, kv_count),
                argument(k_rope, rope_count),
                argument(&out, count),
                argument(&lse, rows),
                sizes(shape, width),
                scale,
                units as u32,
                width as u32,
            );
        },
    }
    Ok(DeviceAttention { out, lse })
}

/// As [`attention_backward`](super::attention_backward), by some tile.
pub(super) fn attention_backward_by(
    client: &Client,
    [q, kv, k_rope]: [&Handle; 3],
    output: &DeviceAttention,
    dout: &Handle,
    shape: &AttentionShape,
    scale: f32,
    tile: Tile,
) -> Result<DeviceAttentionGradients, KernelError> {
    const OP: &str = "attention_backward";
    let [q_count, kv_count, rope_count] = check_inputs(OP, q, kv, k_rope, shape)?;
    let AttentionShape { batch, queries, keys, heads, rope_dim, v_dim, .. } = *shape;
    let out_dims = [batch, queries, heads, v_dim];
    let count = check_handle(OP, "out", &output.out, 4, &out_dims)?;
    check_handle(OP, "dout", dout, 4, &out_dims)?;
    let rows = check_handle(OP, "lse", &output.lse, 4, &[batch, heads, queries])?;
    let parts_count = addressable(OP, "dk_rope", &[batch, keys, heads, rope_dim])?;
    if rows == 0 {
        // No query: no key has a gradient.
        let zeros = |count: usize| client.create_from_slice(&vec![0; 4 * count.max(1)]);
        return Ok(DeviceAttentionGradients {
            dq: allocate(client, q_count, 4),
            dkv: zeros(kv_count),
            dk_rope: zeros(rope_count),
        });
    }
    let statistics = allocate(client, 2 * rows, 4);
    let gradients = DeviceAttentionGradients {
        dq: allocate(client, q_count, 4),
        dkv: allocate(client, kv_count, 4),
        dk_rope: allocate(client, rope_count, 4),
    };
    let parts = allocate(client, parts_count, 4);
    let units_of = CubeDim::new_1d(UNITS);
    let width = vector(client, shape);
    let (query_units, key_units) = (units(OP, shape, queries)?, units(OP, shape, keys)?);
    // SAFETY: as in `attention`; `statistics` and `parts` were allocated for what they are passed
    // with, and a unit past the last row or entry does nothing.
    unsafe {
        row_statistics::launch_unchecked(
            client,
            cubes_of(client, rows, UNITS),
            units_of,
            width,
            argument(&output.out, count),
            argument(dout, count),
            argument(&output.lse, rows),
            argument(&statistics, 2 * rows),
            sizes(shape, width),
            rows as u32,
            width as u32,
        );
    }
    let inputs = [(q, q_count), (kv, kv_count), (k_rope, rope_count)];
    let x = Buffers { inputs, out: (dout, count), rows: (&statistics, 2 * rows) };
    match tile {
        Tile::Matrix(tiles) => {
            let parts = (&parts, parts_count);
            tiles.backward(client, &x, &gradients.dq, &gradients.dkv, parts, shape, scale)?;
        }
        Tile::Plane(planes) => {
            planes.query_gradient(client, &x, &gradients.dq, shape, scale);
            let parts = (&parts, parts_count);
            planes.key_gradient(client, &x, &gradients.dkv, parts, shape, scale);
        }
        // SAFETY: as above.
        Tile::Unit => unsafe {
            query_gradient::launch_unchecked(
                client,
                cubes_of(client, query_units, UNITS),
                units_of,
                width,
                argument(q, q_count),
                argument(kv, kv_count),
                argument(k_rope, rope_count),
                argument(dout, count),
                argument(&statistics, 2 * rows),
                argument(&gradients.dq, q_count),
                sizes(shape, width),
                scale,
                query_units as u32,
                width as u32,
            );
            key_gradient::launch_unchecked(
                client,
                cubes_of(client, key_units, UNITS),
                units_of,
                width,
                argument(q, q_count),
                argument(kv, kv_count),
                argument(k_rope, rope_count),
                argument(dout, count),
                argument(&statistics, 2 * rows),
                argument(&gradients.dkv, kv_count),
                argument(&parts, parts_count),
                sizes(shape, width),
                scale,
                key_units as u32,
                width as u32,
            );
        },
    }
    if rope_count > 0 {
        // SAFETY: as above.
        unsafe {
            sum_heads::launch_unchecked(
                client,
                cubes_of(client, rope_count, UNITS),
                units_of,
                argument(&parts, parts_count),
                argument(&gradients.dk_rope, rope_count),
                heads as u32,
                rope_dim as u32,
                rope_count as u32,
            );
        }
    }
    Ok(gradients)
}

/// The numbers of `q`, `kv` and `k_rope`.
fn check_inputs(
    op: &'static str,
    q: &Handle,
    kv: &Handle,
    k_rope: &Handle,
    shape: &AttentionShape,
) -> Result<[usize; 3], KernelError> {
    check(op, shape)?;
    let AttentionShape { batch, queries, keys, heads, rope_dim, .. } = *shape;
    Ok([
        check_handle(op, "q", q, 4, &[batch, queries, heads, shape.qk_dim()])?,
        check_handle(op, "kv", kv, 4, &[batch, keys, heads, shape.kv_dim()])?,
        check_handle(op, "k_rope", k_rope, 4, &[batch, keys, rope_dim])?,
    ])
}
