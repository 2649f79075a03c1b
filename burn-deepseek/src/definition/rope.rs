//! Rotary angles of a run of positions, as the operations take them.

use burn::tensor::{Tensor, assert_shape};

/// cos and sin of a run of positions, `[seq, rope_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Tensor<2>,
    sin: Tensor<2>,
    interleaved: bool,
}

impl RopeTable {
    /// A table of given angles.
    ///
    /// Rotated pairs are (even, odd) entries of a head where `interleaved`, (first half, second
    /// half) otherwise.
    ///
    /// # Shapes
    ///
    /// - cos, sin: `[seq, rope_dim / 2]`
    pub fn new(cos: Tensor<2>, sin: Tensor<2>, interleaved: bool) -> Self {
        let [seq, half] = cos.dims();
        assert_shape!(sin, [seq, half]);
        Self { cos, sin, interleaved }
    }

    /// `cos(position * inv_freq) * attention_factor`, `[seq, rope_dim / 2]`.
    pub fn cos(&self) -> Tensor<2> {
        self.cos.clone()
    }

    /// `sin(position * inv_freq) * attention_factor`, `[seq, rope_dim / 2]`.
    pub fn sin(&self) -> Tensor<2> {
        self.sin.clone()
    }

    /// Positions.
    pub fn len(&self) -> usize {
        self.cos.dims()[0]
    }

    /// Whether there is no position.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries of a head that are rotated.
    pub fn rope_dim(&self) -> usize {
        2 * self.cos.dims()[1]
    }

    /// Pairs are (even, odd) entries when true, (first half, second half) when false.
    pub fn interleaved(&self) -> bool {
        self.interleaved
    }

    /// The first `len` positions.
    pub fn first(&self, len: usize) -> Self {
        self.narrow(0, len)
    }

    /// The last `len` positions.
    pub fn last(&self, len: usize) -> Self {
        self.narrow(self.len() - len, len)
    }

    fn narrow(&self, start: usize, len: usize) -> Self {
        Self {
            cos: self.cos.clone().narrow(0, start, len),
            sin: self.sin.clone().narrow(0, start, len),
            interleaved: self.interleaved,
        }
    }
}
