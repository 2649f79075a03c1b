//! Checks and launches.

use super::kernel::{LatentSizesLaunch, absorb, attend_latents, expand_values, merge_parts};
use crate::attention::plan::check;
use crate::definition::{AttentionShape, KernelError};
use crate::device::tile::EACH;
use crate::device::{addressable, allocate, argument, check_handle, cubes_of, load_width};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Units of a cube.
const UNITS: u32 = 32;
/// Units that there should be of blocks of rows and parts of keys.
const MANY: usize = 512;
/// Keys of a part at the least.
const FEWEST_KEYS: usize = 64;

/// [`attention`](crate::attention::attention) over `kv = latents kv_b^T` without making `kv`, in
/// FP32, for a few query rows; query row `i` sees keys `0 ..= s - t + i`.
///
/// # Shapes
/// FP32: `q` `[b, t, h, dn + dr]`, `latents` `[b, s, rank]`, `k_rope` `[b, s, dr]`, `kv_b`
/// `[h, dn + dv, rank]` -> `[b, t, h, dv]`, zero where `rank` is.
///
/// # Errors
/// [`KernelError`] where a buffer is too small, a size cannot be addressed or there are fewer keys
/// than queries.
///
/// Source: technical report 2.1.1; DeepSeek-V2 (arXiv 2405.04434) 2.1.2.
#[allow(clippy::too_many_arguments)]
pub fn absorbed_attention(
    client: &Client,
    q: &Handle,
    latents: &Handle,
    k_rope: &Handle,
    kv_b: &Handle,
    shape: &AttentionShape,
    rank: usize,
    scale: f32,
) -> Result<Handle, KernelError> {
    const OP: &str = "absorbed_attention";
    check(OP, shape)?;
    let AttentionShape { batch, queries, keys, heads, rope_dim, v_dim, .. } = *shape;
    let q_count = check_handle(OP, "q", q, 4, &[batch, queries, heads, shape.qk_dim()])?;
    let latent_count = check_handle(OP, "latents", latents, 4, &[batch, keys, rank])?;
    let rope_count = check_handle(OP, "k_rope", k_rope, 4, &[batch, keys, rope_dim])?;
    let kv_b_count = check_handle(OP, "kv_b", kv_b, 4, &[heads, shape.kv_dim(), rank])?;
    let count = addressable(OP, "out", &[batch, queries, heads, v_dim])?;
    if count == 0 || rank == 0 {
        return Ok(client.create_from_slice(&vec![0; 4 * count.max(1)]));
    }
    let cut = Cut::new(shape);
    let rows = batch * queries * heads;
    let mixes_count = addressable(OP, "mixes", &[cut.parts, rows, rank])?;
    let widths = [rank, shape.nope_dim, rope_dim].map(load_width);
    let width = widths.into_iter().min().unwrap_or(1);
    let out = allocate(client, count, 4);
    let [absorbed, mix] = [(); 2].map(|()| allocate(client, rows * rank, 4));
    let (mixes, states) =
        (allocate(client, mixes_count, 4), allocate(client, 2 * cut.parts * rows, 4));
    let dim = CubeDim::new_1d(UNITS);
    let (vectors, block_units) = (rows * rank / width, cut.parts * batch * cut.blocks);
    let cubes = |units| cubes_of(client, units, UNITS);
    let sizes = || cut.sizes(shape, rank, width);
    // SAFETY: the inputs were found to hold what their shapes say, the others were allocated for
    // what they are passed with; a unit past the last vector, block or entry does nothing, and a
    // line past the last is read as the last one and not written.
    unsafe {
        absorb::launch_unchecked(
            client,
            cubes(vectors),
            dim,
            width,
            argument(q, q_count),
            argument(kv_b, kv_b_count),
            argument(&absorbed, rows * rank),
            sizes(),
            vectors as u32,
            width as u32,
        );
        attend_latents::launch_unchecked(
            client,
            cubes(block_units),
            dim,
            width,
            argument(&absorbed, rows * rank),
            argument(q, q_count),
            argument(latents, latent_count),
            argument(k_rope, rope_count),
            argument(&mixes, mixes_count),
            argument(&states, 2 * cut.parts * rows),
            sizes(),
            scale,
            block_units as u32,
            width as u32,
        );
        merge_parts::launch_unchecked(
            client,
            cubes(vectors),
            dim,
            width,
            argument(&mixes, mixes_count),
            argument(&states, 2 * cut.parts * rows),
            argument(&mix, rows * rank),
            sizes(),
            vectors as u32,
            width as u32,
        );
        expand_values::launch_unchecked(
            client,
            cubes(count),
            dim,
            width,
            argument(&mix, rows * rank),
            argument(kv_b, kv_b_count),
            argument(&out, count),
            sizes(),
            count as u32,
            width as u32,
        );
    }
    Ok(out)
}

/// How rows and keys are cut; a function of the shape alone.
struct Cut {
    /// Blocks of rows of a sequence.
    blocks: usize,
    /// Keys of a part: whole blocks of them.
    part: usize,
    parts: usize,
}

impl Cut {
    fn new(shape: &AttentionShape) -> Self {
        let blocks = (shape.queries * shape.heads).div_ceil(EACH as usize);
        let wanted = MANY.div_ceil(shape.batch * blocks);
        let part = shape.keys.div_ceil(wanted).max(FEWEST_KEYS).next_multiple_of(EACH as usize);
        Self { blocks, part, parts: shape.keys.div_ceil(part) }
    }

    fn sizes(&self, shape: &AttentionShape, rank: usize, width: usize) -> LatentSizesLaunch {
        LatentSizesLaunch::new(
            shape.batch as u32,
            shape.keys as u32,
            shape.heads as u32,
            (shape.queries * shape.heads) as u32,
            (shape.keys - shape.queries) as u32,
            (rank / width) as u32,
            (shape.nope_dim / width) as u32,
            (shape.rope_dim / width) as u32,
            shape.v_dim as u32,
            self.part as u32,
            self.parts as u32,
        )
    }
}
