//! The launches of matrix instructions, of buffers that were checked.

use super::form::{Form, MatrixTiles, launch_of, packed_words, sizes_of};
use super::forward::attend_matrix;
use super::key_gradient::key_gradient_matrix;
use super::pack::{PartsLaunch, pack_lines};
use super::query_gradient::query_gradient_matrix;
use crate::attention::planes::Buffers;
use crate::definition::{AttentionShape, KernelError};
use crate::device::{UNITS, allocate, argument, cubes_of};
use cubecl::prelude::*;
use cubecl::server::Handle;

const OP: &str = "attention";

/// A packed operand and its words.
type Packed = (Handle, usize);

/// How an operand's lines lie: sequences, lines, heads, the numbers of both parts and their slices.
struct Lines {
    argument: &'static str,
    sequences: usize,
    lines: usize,
    heads: usize,
    parts: [usize; 2],
    slices: [u32; 2],
}

/// The operands of both passes.
struct Operands {
    q: Packed,
    kv: Packed,
    k_rope: Packed,
}

impl Operands {
    fn of(
        client: &Client,
        x: &Buffers<'_>,
        shape: &AttentionShape,
        scale: f32,
        form: Form,
    ) -> Result<Self, KernelError> {
        let AttentionShape { batch, queries, keys, heads, nope_dim, rope_dim, v_dim } = *shape;
        let [q, kv, k_rope] = x.inputs;
        let sequences = batch;
        let parts = [nope_dim, rope_dim];
        let slices = [form.nope, form.rope];
        let q_lines = Lines { argument: "q", sequences, lines: queries, heads, parts, slices };
        let parts = [nope_dim, v_dim];
        let slices = [form.nope, form.v];
        let kv_lines = Lines { argument: "kv", sequences, lines: keys, heads, parts, slices };
        let parts = [rope_dim, 0];
        let slices = [form.rope, 0];
        let rope = Lines { argument: "k_rope", sequences, lines: keys, heads: 1, parts, slices };
        Ok(Self {
            q: pack(client, q, &q_lines, 1.0, form)?,
            kv: pack(client, kv, &kv_lines, scale, form)?,
            k_rope: pack(client, k_rope, &rope, scale, form)?,
        })
    }
}

/// An operand in BF16, its first part times `factor`.
fn pack(
    client: &Client,
    (x, count): (&Handle, usize),
    lines: &Lines,
    factor: f32,
    form: Form,
) -> Result<Packed, KernelError> {
    let Lines { argument: name, sequences, lines, heads, parts, slices } = *lines;
    let total = packed_words(OP, name, [sequences, heads, lines], slices[0] + slices[1])?;
    let packed = allocate(client, total, 4);
    if total > 0 {
        let [first, second] = parts;
        // SAFETY: `x` was found to hold what its shape says, and `packed` was allocated for the words
        // of all of its slices; a unit past the last word does nothing.
        unsafe {
            pack_lines::launch_unchecked(
                client,
                cubes_of(client, total, UNITS),
                CubeDim::new_1d(UNITS),
                argument(x, count),
                argument(&packed, total),
                PartsLaunch::new(
                    heads as u32,
                    lines as u32,
                    first as u32,
                    second as u32,
                    slices[0],
                    slices[1],
                ),
                factor,
                total as u32,
                form.unit,
            );
        }
    }
    Ok((packed, total))
}

fn packed((handle, words): &Packed) -> BufferArg {
    argument(handle, *words)
}

impl MatrixTiles {
    /// `out` and `lse`; there is at least one query.
    ///
    /// # Errors
    /// [`KernelError::Overflow`] where 32 bits do not count an operand's words.
    pub(in crate::attention) fn forward(
        &self,
        client: &Client,
        x: &Buffers<'_>,
        shape: &AttentionShape,
        scale: f32,
    ) -> Result<(), KernelError> {
        let form = self.forward;
        let operands = Operands::of(client, x, shape, scale, form)?;
        let cubes = Self::cubes(shape, shape.queries, form);
        let (count, units) = launch_of(client, cubes, form);
        // SAFETY: the operands were packed for their shapes, and the results are as long as theirs; a
        // cube past the last block does nothing, a line past the last of a head is neither read nor
        // written.
        unsafe {
            attend_matrix::launch_unchecked(
                client,
                count,
                units,
                packed(&operands.q),
                packed(&operands.kv),
                packed(&operands.k_rope),
                argument(x.out.0, x.out.1),
                argument(x.rows.0, x.rows.1),
                sizes_of(shape),
                cubes as u32,
                form,
            );
        }
        Ok(())
    }

    /// `dq`, `dkv` and the heads' parts of `dk_rope`, from `dout` and what
    /// [`row_statistics`](crate::attention::gradient::row_statistics) made.
    ///
    /// # Errors
    /// [`KernelError::Overflow`] where 32 bits do not count an operand's words.
    #[allow(clippy::too_many_arguments)]
    pub(in crate::attention) fn backward(
        &self,
        client: &Client,
        x: &Buffers<'_>,
        dq: &Handle,
        dkv: &Handle,
        parts: (&Handle, usize),
        shape: &AttentionShape,
        scale: f32,
    ) -> Result<(), KernelError> {
        let form = self.backward;
        let AttentionShape { batch: sequences, queries, keys, heads, v_dim, .. } = *shape;
        let operands = Operands::of(client, x, shape, scale, form)?;
        let lines = Lines {
            argument: "dout",
            sequences,
            lines: queries,
            heads,
            parts: [v_dim, 0],
            slices: [form.v, 0],
        };
        let dout = pack(client, x.out, &lines, 1.0, form)?;
        let [(_, q_count), (_, kv_count), _] = x.inputs;
        let cubes = Self::cubes(shape, queries, form);
        let (count, units) = launch_of(client, cubes, form);
        // SAFETY: as in `forward`.
        unsafe {
            query_gradient_matrix::launch_unchecked(
                client,
                count,
                units,
                packed(&operands.q),
                packed(&operands.kv),
                packed(&operands.k_rope),
                packed(&dout),
                argument(x.rows.0, x.rows.1),
                argument(dq, q_count),
                sizes_of(shape),
                cubes as u32,
                form,
            );
        }
        let cubes = Self::cubes(shape, keys, form);
        let (count, units) = launch_of(client, cubes, form);
        // SAFETY: as in `forward`.
        unsafe {
            key_gradient_matrix::launch_unchecked(
                client,
                count,
                units,
                packed(&operands.q),
                packed(&operands.kv),
                packed(&operands.k_rope),
                packed(&dout),
                argument(x.rows.0, x.rows.1),
                argument(dkv, kv_count),
                argument(parts.0, parts.1),
                sizes_of(shape),
                scale,
                cubes as u32,
                form,
            );
        }
        Ok(())
    }
}
