//! What decoding keeps of the tokens behind it: the normed key-value latent and the rotated shared
//! key (2.1.1).

use burn::tensor::Tensor;

/// How attention over the cache is computed; both give the same numbers up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttentionForm {
    /// `kv_b` expands the cached latents to keys and values of every head: best for long runs of
    /// new tokens.
    Expanded,
    /// `kv_b` is absorbed into the query and the output, and the latents are attended over as they
    /// are.
    Absorbed,
    /// Absorbed for a few new tokens after a prefix, expanded otherwise.
    #[default]
    Auto,
}

/// Latents and shared rope keys of one layer, `kv_lora_rank + qk_rope_head_dim` numbers a token.
#[derive(Clone, Debug, Default)]
pub struct LatentCache {
    /// `[batch, capacity, kv_lora_rank]` and `[batch, capacity, qk_rope_head_dim]`, grown by
    /// doubling.
    buffers: Option<(Tensor<3>, Tensor<3>)>,
    len: usize,
    /// The form that attention takes when it reads this cache.
    pub form: AttentionForm,
}

impl LatentCache {
    /// An empty cache.
    pub fn new(form: AttentionForm) -> Self {
        Self { buffers: None, len: 0, form }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all but the first `len` tokens (drafts that were rejected).
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Appends the new tokens and returns all latents and rope keys held.
    ///
    /// # Shapes
    ///
    /// - latents: `[batch, new, kv_lora_rank]`, k_rope: `[batch, new, qk_rope_head_dim]`
    /// - output: the same with `len` tokens
    pub fn append(&mut self, latents: Tensor<3>, k_rope: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let [_, new, _] = latents.dims();
        let (latent_buffer, rope_buffer) = match self.buffers.take() {
            None => (with_capacity(&latents, new.max(64)), with_capacity(&k_rope, new.max(64))),
            Some((l, r)) if self.len + new > l.dims()[1] => {
                let capacity = (self.len + new).next_power_of_two();
                (regrown(l, self.len, capacity), regrown(r, self.len, capacity))
            }
            Some(buffers) => buffers,
        };
        let range = self.len..self.len + new;
        let latent_buffer = write(latent_buffer, range.clone(), latents);
        let rope_buffer = write(rope_buffer, range, k_rope);
        self.len += new;
        let held = (
            latent_buffer.clone().narrow(1, 0, self.len),
            rope_buffer.clone().narrow(1, 0, self.len),
        );
        self.buffers = Some((latent_buffer, rope_buffer));
        held
    }
}

fn with_capacity(like: &Tensor<3>, capacity: usize) -> Tensor<3> {
    let [batch, _, d] = like.dims();
    Tensor::zeros([batch, capacity, d], &like.device())
}

fn regrown(buffer: Tensor<3>, len: usize, capacity: usize) -> Tensor<3> {
    let held = buffer.narrow(1, 0, len);
    let grown = with_capacity(&held, capacity);
    write(grown, 0..len, held)
}

fn write(buffer: Tensor<3>, range: std::ops::Range<usize>, values: Tensor<3>) -> Tensor<3> {
    let [batch, _, d] = buffer.dims();
    buffer.slice_assign([0..batch, range, 0..d], values)
}
