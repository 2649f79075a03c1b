//! What a cast computes and writes, as its kernel is told when it is compiled.

use crate::definition::{Fp8Format, ScaleFormat};
use crate::device::codec::Conversion;

/// Which orientations a launch writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::quantize) struct Orientations {
    pub(in crate::quantize) rows: bool,
    pub(in crate::quantize) columns: bool,
}

/// Where a tile's largest magnitude comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::quantize) enum AmaxOf {
    /// The tile itself.
    Tile,
    /// The 128x128 block it lies in.
    Block,
    /// A number computed before, for the whole tensor.
    Given,
}

/// Where scales go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::quantize) enum ScalesAs {
    /// A scale a row and tile of each orientation written.
    Tiles,
    /// One a block.
    Blocks,
}

/// What is cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::quantize) enum Entries {
    /// `x` as it is.
    Given,
    /// `silu(gate) * up`, both of which `x` has side by side.
    Swiglu,
    /// Rows of `x` by a table of their numbers.
    Gathered,
}

/// What a cast computes and writes, fixed when the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::quantize) struct CastForm {
    pub(in crate::quantize) entries: Entries,
    pub(in crate::quantize) format: Fp8Format,
    pub(in crate::quantize) scale: ScaleFormat,
    pub(in crate::quantize) amax: AmaxOf,
    pub(in crate::quantize) scales: ScalesAs,
    pub(in crate::quantize) orientations: Orientations,
    pub(in crate::quantize) conversion: Conversion,
    /// Whether there is a table of groups; if not, all rows are one.
    pub(in crate::quantize) grouped: bool,
    /// Whether a unit's entries have constant indices and so live in registers; otherwise the
    /// kernel is a tenth of the size.
    pub(in crate::quantize) unroll: bool,
}
