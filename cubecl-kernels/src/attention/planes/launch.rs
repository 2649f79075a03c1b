//! The launches of planes, of buffers that were checked.

use super::forward::attend_planes;
use super::gradient::{key_gradient_planes, query_gradient_planes};
use super::plan::Planes;
use crate::definition::AttentionShape;
use crate::device::argument;
use crate::device::plane_tile::PAIR;
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Words of a buffer of so many numbers.
fn words((handle, count): (&Handle, usize)) -> BufferArg {
    argument(handle, count / PAIR as usize)
}

/// Buffers with how many numbers they hold.
pub(in crate::attention) struct Buffers<'a> {
    /// `q`, `kv` and `k_rope`.
    pub(in crate::attention) inputs: [(&'a Handle, usize); 3],
    /// The result, or its gradient.
    pub(in crate::attention) out: (&'a Handle, usize),
    /// `lse`, or what backward needs of each row.
    pub(in crate::attention) rows: (&'a Handle, usize),
}

impl Planes {
    /// Launches the forward pass.
    pub(in crate::attention) fn forward(
        &self,
        client: &Client,
        x: &Buffers<'_>,
        shape: &AttentionShape,
        scale: f32,
    ) {
        let planes = self.count(shape, shape.queries);
        let (cubes, dim) = Self::cubes(client, planes);
        // SAFETY: the caller found the inputs to hold what the shape says and allocated the results
        // for theirs; a plane past the last block does nothing, a line past the last of a head is
        // read as the last one and not written.
        unsafe {
            attend_planes::launch_unchecked(
                client,
                cubes,
                dim,
                words(x.inputs[0]),
                words(x.inputs[1]),
                words(x.inputs[2]),
                words(x.out),
                argument(x.rows.0, x.rows.1),
                Self::sizes(shape),
                scale,
                planes as u32,
                self.groups,
                self.tile,
            );
        }
    }

    /// Launches the gradient of the queries.
    pub(in crate::attention) fn query_gradient(
        &self,
        client: &Client,
        x: &Buffers<'_>,
        dq: &Handle,
        shape: &AttentionShape,
        scale: f32,
    ) {
        let planes = self.count(shape, shape.queries);
        let (cubes, dim) = Self::cubes(client, planes);
        // SAFETY: as in `forward`; `dq` is of the size of `q`.
        unsafe {
            query_gradient_planes::launch_unchecked(
                client,
                cubes,
                dim,
                words(x.inputs[0]),
                words(x.inputs[1]),
                words(x.inputs[2]),
                words(x.out),
                argument(x.rows.0, x.rows.1),
                words((dq, x.inputs[0].1)),
                Self::sizes(shape),
                scale,
                planes as u32,
                self.groups,
                self.tile,
            );
        }
    }

    /// Launches the gradients of the keys: `dkv`, of the size of `kv`, and each head's part of the
    /// rotated keys'.
    pub(in crate::attention) fn key_gradient(
        &self,
        client: &Client,
        x: &Buffers<'_>,
        dkv: &Handle,
        parts: (&Handle, usize),
        shape: &AttentionShape,
        scale: f32,
    ) {
        let planes = self.count(shape, shape.keys);
        let (cubes, dim) = Self::cubes(client, planes);
        // SAFETY: as in `forward`; `parts` was allocated for as many numbers as it is passed with.
        unsafe {
            key_gradient_planes::launch_unchecked(
                client,
                cubes,
                dim,
                words(x.inputs[0]),
                words(x.inputs[1]),
                words(x.inputs[2]),
                words(x.out),
                argument(x.rows.0, x.rows.1),
                words((dkv, x.inputs[1].1)),
                words(parts),
                Self::sizes(shape),
                scale,
                planes as u32,
                self.groups,
                self.tile,
            );
        }
    }
}
