//! The sizes of problems that a single number does not describe.

use super::KernelError;

/// The format that a product takes its operands in. Sums are FP32 in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProductFormat {
    /// FP32.
    #[default]
    F32,
    /// Rounded to BF16 on the way into the product.
    Bf16,
    /// FP32, each number as the sum of three BF16 numbers, of whose nine products the six largest
    /// are added up: about as exact as FP32, for tile units, whose BF16 is many times as fast.
    /// Where there is none, for few rows, and in attention it is FP32 itself.
    ///
    /// A number that is infinite, or that BF16 rounds to infinity, makes its results infinite or
    /// NaN, and what is under 2^-126 counts as zero, parts of numbers included.
    Bf16x3,
}

/// The sizes of a linear map, `y [rows, outputs] = x [rows, inputs] w^T`, with a weight
/// `w [outputs, inputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of the input and of the output, `m`.
    pub rows: usize,
    /// Width of an input row, `k`.
    pub inputs: usize,
    /// Width of an output row, `n`; of the output head, the vocabulary.
    pub outputs: usize,
}

/// The sizes of the experts' linear maps: rows sorted by expert, a weight for each expert. A linear
/// without experts is one whose only expert has all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupedLinearShape {
    /// Rows of all experts together, `m`.
    pub rows: usize,
    /// Experts, `e`.
    pub experts: usize,
    /// Width of an input row, `k`.
    pub inputs: usize,
    /// Width of an output row, `n`.
    pub outputs: usize,
}

impl GroupedLinearShape {
    /// The dims of the weights, and of their gradients.
    pub fn weight_dims(&self) -> [usize; 3] {
        [self.experts, self.outputs, self.inputs]
    }

    /// The dims of the weights as one matrix, the experts one below the other.
    pub fn stacked_weight_dims(&self) -> [usize; 2] {
        [self.experts * self.outputs, self.inputs]
    }
}

/// The sizes of a dispatch of tokens to experts and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PermuteShape {
    /// Tokens, `n`.
    pub tokens: usize,
    /// Experts each token goes to, `k`.
    pub slots: usize,
    /// Rows sorted by expert, `m`: `n k` where all experts are here.
    pub sorted: usize,
    /// Width of a row, `d`.
    pub width: usize,
}

/// Checks that the bounds between experts' rows rise from 0 to the number of rows.
///
/// # Errors
/// [`KernelError::Invalid`] naming `offsets` where they do not.
pub(crate) fn check_offsets(
    op: &'static str,
    offsets: &[usize],
    rows: usize,
) -> Result<(), KernelError> {
    let ends = (offsets.first(), offsets.last());
    if ends == (Some(&0), Some(&rows)) && offsets.is_sorted() {
        return Ok(());
    }
    Err(KernelError::Invalid {
        op,
        argument: "offsets",
        requirement: "must rise from 0 to the number of rows",
    })
}

/// The sizes of a multi-head latent attention (2.1.1) after its up-projections.
///
/// Query row `i` stands at absolute position `keys - queries + i`: training has `queries == keys`,
/// decoding with a cache `queries < keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences, `b`.
    pub batch: usize,
    /// Query rows a sequence, `t`.
    pub queries: usize,
    /// Key rows a sequence, `s`.
    pub keys: usize,
    /// Heads, `h`.
    pub heads: usize,
    /// Part of a head's query and key without rotation, `dn`.
    pub nope_dim: usize,
    /// Part with rotation, `dr`; its key is shared by all heads.
    pub rope_dim: usize,
    /// A head's value, `dv`.
    pub v_dim: usize,
}

impl AttentionShape {
    /// Width of one head's query, `dn + dr`.
    pub const fn qk_dim(&self) -> usize {
        self.nope_dim + self.rope_dim
    }

    /// Width of one head's part of a `kv` row, `dn + dv`.
    pub const fn kv_dim(&self) -> usize {
        self.nope_dim + self.v_dim
    }

    /// Keys that query row `i` sees.
    pub(crate) const fn visible(&self, i: usize) -> usize {
        self.keys - self.queries + i + 1
    }
}

/// How an attention computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionOptions {
    /// What scores are multiplied by.
    pub scale: f32,
    /// What its products take; the softmax is FP32.
    pub format: ProductFormat,
}

/// Which two entries make a pair that is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopeLayout {
    /// `(2j, 2j + 1)`: what `rope_interleave = true` means, and what DeepSeek's weights expect.
    Interleaved,
    /// `(j, j + dr / 2)`.
    Halves,
}

/// The sizes of a rotation of `[b, t, h, head_dim]`, whose last `rope_dim` entries of each head
/// turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeShape {
    /// Sequences, `b`.
    pub batch: usize,
    /// Rows a sequence, `t`.
    pub tokens: usize,
    /// Heads, `h`.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How many of its last entries turn, `dr`; even.
    pub rope_dim: usize,
    /// Which entries make a pair.
    pub layout: RopeLayout,
}

/// The settings of one AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// The step being taken, from 1.
    pub step: u64,
    /// What every gradient is multiplied by first (clipping).
    pub gradient_scale: f32,
}
