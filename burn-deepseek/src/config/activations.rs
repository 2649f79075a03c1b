//! What a layer keeps between its forward and its backward pass: computed from the configuration,
//! as the fused operations do it.

use cubecl_kernels::definition::{e5m6_words, tiles, words};

use super::DeepSeekConfig;
use crate::precision::{KeptActivation, Operation, Precision, Rule};

/// Bytes of an FP32 value, of a word of codes, and of a scale.
const FOUR: u64 = 4;

/// One thing that is kept, for all tokens of a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptTensor {
    /// What it is.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
}

/// How activations are kept.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// Formats of the linears' inputs.
    pub precision: Precision,
    /// Whether RMSNorms, MLA up-projections and SwiGLU are computed again (3.2.3).
    pub recompute: bool,
    /// Tokens that go through the layer at once.
    pub tokens: usize,
}

impl DeepSeekConfig {
    /// What layer `layer` keeps of `keeping.tokens` tokens. Experts' rows are taken to be spread so
    /// that padding does not count.
    pub fn kept_activations(&self, layer: usize, keeping: &Keeping) -> Vec<KeptTensor> {
        let mut kept = self.kept_by_attention(keeping);
        kept.extend(if self.is_moe_layer(layer) {
            self.kept_by_experts(keeping)
        } else {
            self.kept_by_dense(keeping)
        });
        kept.retain(|tensor| tensor.bytes > 0);
        kept
    }

    fn kept_by_attention(&self, keeping: &Keeping) -> Vec<KeptTensor> {
        let (heads, rope) = (self.num_attention_heads, self.qk_rope_head_dim);
        let (q_width, kv_width) =
            (heads * self.qk_head_dim(), heads * (self.qk_nope_head_dim + self.v_head_dim));
        let t = keeping.tokens;
        let mut kept = vec![
            tensor("residual stream into attention", floats(t, self.hidden_size)),
            tensor("its norm", keeping.input(Operation::QueryDown, t, self.hidden_size)),
        ];
        let queries_recomputed = match self.q_lora_rank {
            Some(rank) => {
                kept.push(tensor("query latent", floats(t, rank)));
                kept.push(tensor(
                    "its norm",
                    keeping.up_projection_input(Operation::QueryUp, rank),
                ));
                keeping.recompute
            }
            None => false,
        };
        let output = heads * self.v_head_dim;
        kept.extend([
            tensor("queries", unless(queries_recomputed, floats(t, q_width))),
            tensor("key-value latent and rope key", floats(t, self.kv_lora_rank + rope)),
            tensor(
                "norm of the latent",
                keeping.up_projection_input(Operation::KeyValueUp, self.kv_lora_rank),
            ),
            tensor("rotated rope key", unless(keeping.recompute, floats(t, rope))),
            tensor("keys and values", unless(keeping.recompute, floats(t, kv_width))),
            tensor("attention output", floats(t, output)),
            tensor("softmax denominators", floats(t, heads)),
        ]);
        if let Rule::Fp8(_) = keeping.precision.rule(Operation::AttentionOutput) {
            kept.push(tensor(
                "attention output for its linear",
                keeping.input(Operation::AttentionOutput, t, output),
            ));
        }
        kept
    }

    fn kept_by_dense(&self, keeping: &Keeping) -> Vec<KeptTensor> {
        let (t, d) = (keeping.tokens, self.hidden_size);
        let mut kept = vec![
            tensor("residual stream into feed-forward", floats(t, d)),
            tensor("its norm", keeping.input(Operation::GateUp, t, d)),
        ];
        kept.extend(keeping.swiglu(Operation::Down, t, self.intermediate_size));
        kept
    }

    fn kept_by_experts(&self, keeping: &Keeping) -> Vec<KeptTensor> {
        let (t, d, inter) = (keeping.tokens, self.hidden_size, self.moe_intermediate_size);
        let (rows, shared) = (t * self.num_experts_per_tok, inter * self.n_shared_experts);
        let mut kept = vec![
            tensor("residual stream into feed-forward", floats(t, d)),
            // The router computes in FP32, so its input is kept in FP32.
            tensor("its norm", unless(keeping.recompute, floats(t, d))),
            tensor("router scores", 2 * floats(t, self.n_routed_experts)),
            // The row of each slot, and slot and token of each row, for the host and as tensors.
            tensor("tables of the routing", 6 * floats(t, self.num_experts_per_tok)),
        ];
        if shared > 0 {
            if let Rule::Fp8(_) = keeping.precision.rule(Operation::GateUp) {
                kept.push(tensor(
                    "its norm for shared experts",
                    keeping.input(Operation::GateUp, t, d),
                ));
            }
            kept.extend(keeping.swiglu(Operation::Down, t, shared));
        }
        let permuted = match keeping.precision.rule(Operation::ExpertGateUp) {
            Rule::Plain(_) => floats(rows, d),
            Rule::Fp8(_) => keeping.input(Operation::ExpertGateUp, rows, d),
        };
        kept.push(tensor("experts' inputs", permuted));
        kept.extend(keeping.swiglu(Operation::ExpertDown, rows, inter));
        kept.push(tensor("experts' outputs", floats(rows, d)));
        kept
    }
}

impl Keeping {
    /// The input of a linear behind a norm.
    fn input(&self, operation: Operation, rows: usize, columns: usize) -> u64 {
        let rule = match self.precision.rule(operation) {
            Rule::Plain(_) => return unless(self.recompute, floats(rows, columns)),
            Rule::Fp8(rule) => rule,
        };
        match rule.kept {
            KeptActivation::Columns => codes(columns, rows),
            KeptActivation::Rows => codes(rows, columns),
            KeptActivation::E5m6 => (rows * (e5m6_words(columns) + tiles(columns))) as u64 * FOUR,
        }
    }

    /// The input of a linear that is recomputed itself, from a norm that is too.
    fn up_projection_input(&self, operation: Operation, columns: usize) -> u64 {
        unless(self.recompute, self.input(operation, self.tokens, columns))
    }

    /// Gate and up, and where it is kept their SwiGLU.
    fn swiglu(&self, operation: Operation, rows: usize, inter: usize) -> [KeptTensor; 2] {
        match self.precision.rule(operation) {
            Rule::Plain(_) => [
                tensor("gate and up projections", floats(rows, 2 * inter)),
                tensor("their SwiGLU", unless(self.recompute, floats(rows, inter))),
            ],
            Rule::Fp8(_) => [
                tensor("gate and up projections", codes(rows, 2 * inter)),
                tensor("their SwiGLU", 0),
            ],
        }
    }
}

const fn tensor(name: &'static str, bytes: u64) -> KeptTensor {
    KeptTensor { name, bytes }
}

const fn floats(rows: usize, columns: usize) -> u64 {
    FOUR * rows as u64 * columns as u64
}

/// FP8 codes and scales of rows in tiles of 128.
const fn codes(rows: usize, columns: usize) -> u64 {
    rows as u64 * (words(columns) + tiles(columns)) as u64 * FOUR
}

const fn unless(recomputed: bool, bytes: u64) -> u64 {
    if recomputed { 0 } else { bytes }
}
