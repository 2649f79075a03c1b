//! Whether a device's matrix instructions give attention: tried before they serve.

use super::execute::{DeviceAttention, attention_backward_by, attention_by};
use super::matrix::MatrixTiles;
use super::tile::Tile;
use crate::definition::{AttentionShape, KernelError};
use crate::device::{MatrixUnit, PerDevice, Shortfall, matrix_unit, trial_numbers};
use crate::metric::calc_diff;
use cubecl::prelude::*;
use cubecl::server::Handle;

/// More query rows than a cube takes and more keys than come into shared memory at a time, in both
/// passes; the last blocks are not full, and the first query sees keys before its own.
const SHAPE: AttentionShape = AttentionShape {
    batch: 2,
    queries: 150,
    keys: 170,
    heads: 2,
    nope_dim: 32,
    rope_dim: 16,
    v_dim: 32,
};
/// The largest [`calc_diff`] of a result from FP32's: operands and weights are rounded to BF16.
const BOUND: f64 = 1e-3;

/// The matrix unit of a device's attention in BF16, or why it has none. Found out on the first call
/// for a device: an attention and its gradients, which are read back, against the tile of a unit.
///
/// # Errors
/// [`Shortfall`] where the device has no BF16 matrix instruction, or attention came out wrong.
pub fn attention_unit(client: &Client) -> Result<MatrixUnit, Shortfall> {
    static KNOWN: PerDevice<Result<MatrixUnit, Shortfall>> = PerDevice::new();
    let unit = matrix_unit(client)?;
    KNOWN.get(client, || match worst(client, unit) {
        Ok((_, calc_diff)) if calc_diff <= BOUND => Ok(unit),
        Ok((product, calc_diff)) => Err(Shortfall::Wrong { product, calc_diff }),
        Err(reason) => Err(Shortfall::Failed(format!("attention in BF16: {reason}"))),
    })
}

/// The result that differs most from that of the tile of a unit, and by how much.
///
/// # Errors
/// Fails where one does not run.
fn worst(client: &Client, unit: MatrixUnit) -> Result<(&'static str, f64), String> {
    let tiles = MatrixTiles::by(client, &SHAPE, unit).ok_or("the device has no room for it")?;
    let [ours, plain] = [Tile::Matrix(tiles), Tile::Unit].map(|tile| results(client, tile));
    let (ours, plain) = (ours?, plain?);
    let differences = ours.iter().zip(&plain).map(|((name, x), (_, y))| (*name, calc_diff(x, y)));
    // NaN is the worst of all: `total_cmp` has it last.
    differences.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).ok_or_else(|| "no result".to_owned())
}

/// All results by a tile, with their names.
fn results(client: &Client, tile: Tile) -> Result<[(&'static str, Vec<f32>); 5], String> {
    let AttentionShape { batch, queries, keys, heads, rope_dim, v_dim, .. } = SHAPE;
    let [q_count, kv_count] =
        [queries * SHAPE.qk_dim(), keys * SHAPE.kv_dim()].map(|count| batch * heads * count);
    let (rope_count, out_count) = (batch * keys * rope_dim, batch * queries * heads * v_dim);
    let upload = |seed: u32, count: usize| {
        client.create_from_slice(f32::as_bytes(&trial_numbers(seed, count)))
    };
    let (q, kv, k_rope) = (upload(1, q_count), upload(2, kv_count), upload(3, rope_count));
    let dout = upload(4, out_count);
    let fails = |error: KernelError| error.to_string();
    let output = attention_by(client, &q, &kv, &k_rope, &SHAPE, 0.25, tile).map_err(fails)?;
    let inputs = [&q, &kv, &k_rope];
    let gradients =
        attention_backward_by(client, inputs, &output, &dout, &SHAPE, 0.25, tile).map_err(fails)?;
    let read = |handle: Handle, count: usize| {
        let bytes = client.read_one(handle).map_err(|error| error.to_string())?;
        Ok::<_, String>(f32::from_bytes(&bytes)[..count].to_vec())
    };
    let DeviceAttention { out, lse } = output;
    Ok([
        ("the result of attention in BF16", read(out, out_count)?),
        ("its log of sums", read(lse, batch * heads * queries)?),
        ("its gradient of the queries", read(gradients.dq, q_count)?),
        ("its gradient of keys and values", read(gradients.dkv, kv_count)?),
        ("its gradient of the rotated keys", read(gradients.dk_rope, rope_count)?),
    ])
}

#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod tests {
    use super::*;

    /// A device that has the instruction has passed, and any other says why it has not been tried.
    #[test]
    fn a_device_with_the_instruction_has_passed() {
        let client = cubecl::Device::default().client();
        assert_eq!(attention_unit(&client), matrix_unit(&client));
    }
}
