//! A product whose operands were checked: what the launch of any of the kernels starts from.

use super::kernel::problem::ScaleOf;
use super::operand::{DeviceBlockTiled, DeviceRowTiled};
use crate::definition::{Accumulation, Fp8Format, KernelError, tiles, words};
use crate::device::{DeviceGroups, argument};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Which rows meet which, with the table on the device that says so.
pub(crate) enum Kind<'a> {
    Dense,
    /// The groups of rows, and their table.
    Rows(&'a DeviceGroups, &'a Handle),
    /// Rows of room for each expert, and the counts.
    Masked(usize, usize, &'a Handle),
    /// The number of groups, and their table.
    Depth(usize, &'a Handle),
}

/// A buffer and how many elements of it a kernel may touch.
pub(super) struct Buffer<'a> {
    pub(super) handle: &'a Handle,
    pub(super) count: usize,
}

impl Buffer<'_> {
    /// The buffer as a kernel's argument.
    pub(super) fn argument(&self) -> BufferArg {
        argument(self.handle, self.count)
    }
}

/// A product whose operands were checked.
pub(crate) struct Product<'a> {
    pub(super) client: &'a Client,
    pub(super) op: &'static str,
    pub(super) a: [Buffer<'a>; 2],
    pub(super) b: [Buffer<'a>; 2],
    pub(super) formats: [Fp8Format; 2],
    pub(super) kind: Kind<'a>,
    /// Rows of `C` a group, for the plan; rows and columns of all of `C`.
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) experts_of_c: usize,
    pub(super) a_strides: [usize; 2],
    pub(super) b_words: usize,
    pub(super) b_scale: ScaleOf,
    pub(super) b_strides: [u32; 3],
    pub(super) accumulation: Accumulation,
    /// Whether groups along the depth begin at whole tiles of the rows.
    pub(super) padded: bool,
}

impl<'a> Product<'a> {
    /// Row tiles against blocks.
    pub(crate) fn with_weight(
        client: &'a Client,
        op: &'static str,
        a: &DeviceRowTiled<'a>,
        b: &DeviceBlockTiled<'a>,
        kind: Kind<'a>,
    ) -> Result<Self, KernelError> {
        a.check(op, "a")?;
        b.check(op, "b")?;
        same_depth(op, a.depth, b.depth)?;
        let groups = match &kind {
            Kind::Dense => 1,
            Kind::Rows(groups, _) => groups.len(),
            Kind::Masked(groups, ..) | Kind::Depth(groups, _) => *groups,
        };
        if groups != b.experts {
            return Err(KernelError::Invalid {
                op,
                argument: "b",
                requirement: "must have one matrix for each group of rows",
            });
        }
        let (m, experts_of_c) = match &kind {
            Kind::Masked(groups, rows, _) => (*rows, *groups),
            _ => (a.rows, 1),
        };
        Ok(Self {
            client,
            op,
            a: [
                Buffer { handle: a.codes, count: a.rows * words(a.depth) },
                Buffer { handle: a.scales, count: a.rows * tiles(a.depth) },
            ],
            b: [
                Buffer { handle: b.codes, count: b.experts * b.rows * words(b.depth) },
                Buffer { handle: b.scales, count: b.experts * tiles(b.rows) * tiles(b.depth) },
            ],
            formats: [a.format, b.format],
            kind,
            m,
            n: b.rows,
            k: a.depth,
            experts_of_c,
            a_strides: [words(a.depth), tiles(a.depth)],
            b_words: words(b.depth),
            b_scale: ScaleOf::Block,
            b_strides: b.scale_strides(),
            accumulation: Accumulation::Promoted,
            padded: false,
        })
    }

    /// Row tiles against row tiles.
    pub(super) fn of_rows(
        client: &'a Client,
        op: &'static str,
        a: &DeviceRowTiled<'a>,
        b: &DeviceRowTiled<'a>,
    ) -> Result<Self, KernelError> {
        a.check(op, "a")?;
        b.check(op, "b")?;
        same_depth(op, a.depth, b.depth)?;
        let depth = Depth { k: a.depth, words: words(a.depth), tiles: tiles(a.depth), groups: 1 };
        Ok(Self::along(
            client,
            op,
            [a.codes, a.scales],
            [b.codes, b.scales],
            [a.rows, b.rows],
            [a.format, b.format],
            depth,
            Kind::Dense,
        ))
    }

    /// Row tiles against row tiles whose rows are `words` and `tiles` long.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn along(
        client: &'a Client,
        op: &'static str,
        a: [&'a Handle; 2],
        b: [&'a Handle; 2],
        [m, n]: [usize; 2],
        formats: [Fp8Format; 2],
        depth: Depth,
        kind: Kind<'a>,
    ) -> Self {
        let buffers = |[codes, scales]: [&'a Handle; 2], rows: usize| {
            [
                Buffer { handle: codes, count: rows * depth.words },
                Buffer { handle: scales, count: rows * depth.tiles },
            ]
        };
        Self {
            client,
            op,
            a: buffers(a, m),
            b: buffers(b, n),
            formats,
            kind,
            m,
            n,
            k: depth.k,
            experts_of_c: depth.groups,
            a_strides: [depth.words, depth.tiles],
            b_words: depth.words,
            b_scale: ScaleOf::Row,
            b_strides: [depth.tiles as u32, 1, 0],
            accumulation: Accumulation::Promoted,
            padded: false,
        }
    }

    /// The product with this accumulation.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where it has not 2 to 24 bits.
    pub(crate) fn with(mut self, accumulation: Accumulation) -> Result<Self, KernelError> {
        if let Accumulation::Emulated { bits, .. } = accumulation
            && !(2..=24).contains(&bits)
        {
            return Err(KernelError::Invalid {
                op: self.op,
                argument: "accumulation",
                requirement: "must have 2 to 24 bits",
            });
        }
        self.accumulation = accumulation;
        Ok(self)
    }
}

/// The summed dimension of a product of row tiles.
#[derive(Clone, Copy)]
pub(crate) struct Depth {
    /// Its length, where it is not a group's.
    pub(crate) k: usize,
    pub(crate) words: usize,
    pub(crate) tiles: usize,
    /// Groups along it, each with a result of its own.
    pub(crate) groups: usize,
}

fn same_depth(op: &'static str, a: usize, b: usize) -> Result<(), KernelError> {
    if a == b {
        return Ok(());
    }
    Err(KernelError::Invalid { op, argument: "b", requirement: "must be as deep as `a`" })
}
