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
fn words(handle: &Handle, count: usize) -> BufferArg {
    argument(handle, count / PAIR as usize)
}

/// Buffers with how many numbers they hold.
pub(in crate::attention) struct Buffers<'a> {
    pub(in crate::attention) q: (&'a Handle, usize),
    pub(in crate::attention) kv: (&'a Handle, usize),
    pub(in crate::attention) k_rope: (&'a Handle, usize),
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
                words(x.q.0, x.q.1),
                words(x.kv.0, x.kv.1),
                words(x.k_rope.0, x.k_rope.1),
                words(x.out.0, x.out.1),
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
                words(x.q.0, x.q.1),
                words(x.kv.0, x.kv.1),
                words(x.k_rope.0, x.k_rope.1),
                words(x.out.0, x.out.1),
                argument(x.rows.0, x.rows.1),
                words(dq, x.q.1),
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
                words(x.q.0, x.q.1),
                words(x.kv.0, x.kv.1),
                words(x.k_rope.0, x.k_rope.1),
                words(x.out.0, x.out.1),
                argument(x.rows.0, x.rows.1),
                words(dkv, x.kv.1),
                words(parts.0, parts.1),
                Self::sizes(shape),
                scale,
                planes as u32,
                self.groups,
                self.tile,
            );
        }
    }
}
