//! What one token costs in a layer: floating-point operations, and bytes that are read and written
//! outside of products.

use std::iter::Sum;
use std::ops::Add;

use burn_deepseek::{DeepSeekConfig, Precision};
use serde::Serialize;

/// Operations and bytes of one token in the forward pass, by what they run in. A multiplication and
/// an addition are two operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LayerWork {
    /// Linears that every token passes: MLA's projections, dense feed-forward, shared experts,
    /// `eh_proj`. `2 m n` for a weight of `m x n`.
    pub linear: f64,
    /// Routed experts that a token visits.
    pub experts: f64,
    /// The up-projections of MLA among `linear`, which backward computes again where it recomputes
    /// (3.2.3).
    pub up_projections: f64,
    /// Scores and weighted values over the causal half: `2 H (qk + v)` for each of the
    /// `(S + 1) / 2` keys that a token sees on average.
    pub attention: f64,
    /// Their backward, the scores computed again: `2 H (3 qk + 2 v)` a key, for S, dQ, dK and dP,
    /// dV.
    pub attention_backward: f64,
    /// The router, in FP32 (on a GPU perhaps TF32).
    pub router: f64,
    /// The output head.
    pub head: f64,
    /// Bytes read and written by what is not a product.
    pub bytes: f64,
    /// The part of `bytes` that backward moves again where it recomputes: RMSNorms and SwiGLU.
    pub bytes_recomputed: f64,
}

/// What a token costs in every layer and at the end, forward.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Work {
    /// Layers of the main model in order.
    pub layers: Vec<LayerWork>,
    /// The last norm, the head, and the MTP modules with their heads.
    pub end: LayerWork,
}

/// Bytes of a plain value and of a cast one; a cast value is kept with its transposed form beside
/// it.
#[derive(Clone, Copy, Debug)]
struct Widths {
    plain: f64,
    cast: f64,
}

impl Work {
    /// Counts the work of sequences of `seq_len` tokens.
    pub fn new(model: &DeepSeekConfig, precision: &Precision, seq_len: usize) -> Self {
        let widths = match precision {
            Precision::F32 | Precision::Bf16x3 => Widths { plain: 4.0, cast: 0.0 },
            Precision::Bf16 => Widths { plain: 2.0, cast: 0.0 },
            Precision::Fp8(_) => Widths { plain: 2.0, cast: 1.0 },
        };
        let layer = |layer| LayerWork::of_layer(model, layer, seq_len, widths);
        let (d, layers) = (model.hidden_size as f64, model.num_hidden_layers);
        let head = LayerWork {
            head: 2.0 * d * model.vocab_size as f64,
            bytes: 2.0 * widths.plain * d,
            ..LayerWork::default()
        };
        let mtp = (0..model.num_nextn_predict_layers).map(|k| {
            // Two norms, their concatenation, eh_proj of [2d, d], the block, and the shared head.
            let projection = LayerWork {
                linear: 4.0 * d * d,
                bytes: 8.0 * widths.plain * d,
                ..LayerWork::default()
            };
            projection + layer(layers + k) + head
        });
        Self { end: head + mtp.sum(), layers: (0..layers).map(layer).collect() }
    }

    /// All of it, for one token.
    pub fn total(&self) -> LayerWork {
        self.layers.iter().copied().sum::<LayerWork>() + self.end
    }
}

impl LayerWork {
    fn of_layer(model: &DeepSeekConfig, layer: usize, seq_len: usize, widths: Widths) -> Self {
        let attention = Self::of_attention(model, seq_len, widths);
        attention
            + if model.is_moe_layer(layer) {
                Self::of_experts(model, widths)
            } else {
                Self::of_dense(model, widths)
            }
    }

    fn of_attention(model: &DeepSeekConfig, seq_len: usize, widths: Widths) -> Self {
        let [d, heads, rope] =
            [model.hidden_size, model.num_attention_heads, model.qk_rope_head_dim]
                .map(|size| size as f64);
        let [qk, nope, v] =
            [model.qk_head_dim(), model.qk_nope_head_dim, model.v_head_dim].map(|size| size as f64);
        let (latent, query_latent) =
            (model.kv_lora_rank as f64, model.q_lora_rank.map(|rank| rank as f64));
        let (query_down, query_up) = match query_latent {
            Some(rank) => (d * rank, rank * heads * qk),
            None => (d * heads * qk, 0.0),
        };
        let up_projections = query_up + latent * heads * (nope + v);
        let keys = (seq_len as f64 + 1.0) / 2.0;
        let plain = widths.plain;
        let latents = latent + query_latent.unwrap_or(0.0);
        // Read and written: the residual sum and the norm, the latents' norms; q and k put together
        // with their rotated parts; casts of what goes into q_a and kv_a, into q_b and kv_b, and
        // into o.
        let norms = plain * (2.0 * d + 2.0 * latents);
        let bytes = norms
            + plain * 3.0 * d
            + plain * 4.0 * heads * qk
            + widths.cast_bytes(d + latents)
            + widths.cast_bytes(heads * v);
        Self {
            linear: 2.0 * (query_down + up_projections + d * (latent + rope) + heads * v * d),
            up_projections: 2.0 * up_projections,
            attention: 2.0 * heads * (qk + v) * keys,
            attention_backward: 2.0 * heads * (3.0 * qk + 2.0 * v) * keys,
            bytes,
            bytes_recomputed: norms,
            ..Self::default()
        }
    }

    fn of_dense(model: &DeepSeekConfig, widths: Widths) -> Self {
        let (d, inter) = (model.hidden_size as f64, model.intermediate_size as f64);
        Self { linear: 6.0 * d * inter, ..Self::default() }
            + Self::feed_forward_bytes(d, inter, widths)
    }

    fn of_experts(model: &DeepSeekConfig, widths: Widths) -> Self {
        let [d, inter, visited] =
            [model.hidden_size, model.moe_intermediate_size, model.num_experts_per_tok]
                .map(|size| size as f64);
        let (shared, experts) = (model.n_shared_experts as f64, model.n_routed_experts as f64);
        // Rows are spread to the experts as they were sent, and their outputs summed.
        let sent = if widths.cast > 0.0 { widths.cast } else { widths.plain };
        let spread = sent * d * (1.0 + visited) + widths.plain * d * (visited + 1.0);
        let scores = 3.0 * 4.0 * experts;
        let work = Self {
            linear: 6.0 * d * inter * shared,
            experts: 6.0 * d * inter * visited,
            router: 2.0 * d * experts,
            bytes: spread + scores + widths.plain * d,
            ..Self::default()
        };
        work + Self::feed_forward_bytes(d, inter * (shared + visited), widths)
    }

    /// The residual sum, the norm and its cast, and SwiGLU over `inter` values: gate and up are
    /// read, the product is written or cast, and in FP8 gate and up are cast too, to be kept.
    fn feed_forward_bytes(d: f64, inter: f64, widths: Widths) -> Self {
        let (plain, cast) = (widths.plain, widths.cast);
        let norm = plain * 2.0 * d;
        let swiglu =
            if cast > 0.0 { (2.0 * plain + 2.0 * cast) * inter } else { 3.0 * plain * inter };
        let kept = cast * 2.0 * inter;
        let bytes = norm + plain * 3.0 * d + widths.cast_bytes(d) + swiglu + kept;
        Self { bytes, bytes_recomputed: norm + swiglu, ..Self::default() }
    }

    /// Operations of the forward pass.
    pub fn forward(&self) -> f64 {
        self.linear + self.experts + self.attention + self.router + self.head
    }

    /// Operations of forward and backward as they are usually counted: three times the products of
    /// forward, nothing computed again.
    pub fn training(&self) -> f64 {
        3.0 * self.forward()
    }
}

impl Widths {
    /// Values read, and written cast in both orientations.
    fn cast_bytes(&self, values: f64) -> f64 {
        if self.cast > 0.0 { (self.plain + 2.0 * self.cast) * values } else { 0.0 }
    }
}

impl Add for LayerWork {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            linear: self.linear + other.linear,
            experts: self.experts + other.experts,
            up_projections: self.up_projections + other.up_projections,
            attention: self.attention + other.attention,
            attention_backward: self.attention_backward + other.attention_backward,
            router: self.router + other.router,
            head: self.head + other.head,
            bytes: self.bytes + other.bytes,
            bytes_recomputed: self.bytes_recomputed + other.bytes_recomputed,
        }
    }
}

impl Sum for LayerWork {
    fn sum<I: Iterator<Item = Self>>(works: I) -> Self {
        works.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use burn_deepseek::precision::Fp8Recipe;

    use super::*;
    use crate::config::resolve_model;

    fn work(preset: &str) -> (DeepSeekConfig, Work) {
        let model = resolve_model(Some(preset), None, &[]).unwrap();
        let work = Work::new(&model, &Precision::Fp8(Fp8Recipe::default()), 4096);
        (model, work)
    }

    /// Two operations for each parameter that multiplies a token, to the last one: all active ones
    /// but the embedding, the norms and the routers' biases.
    #[test]
    fn products_are_twice_the_parameters_that_multiply() {
        for preset in [
            "deepseek-v3-671b",
            "deepseek-v2-236b",
            "deepseek-v2-lite-16b",
            "tiny",
            "quickstart",
            "medium",
        ] {
            let (model, work) = work(preset);
            let counts = model.parameter_counts();
            let biases = if model.has_balance_bias() {
                model.moe_layers() * model.n_routed_experts
            } else {
                0
            };
            let multiplying = counts.active - counts.embedding - counts.norms - biases as u64;
            let layers: LayerWork = work.layers.iter().copied().sum();
            let head = 2.0 * (model.hidden_size * model.vocab_size) as f64;
            assert_eq!(
                layers.linear + layers.experts + layers.router + head,
                2.0 * multiplying as f64,
                "{preset}"
            );
            // The MTP modules have the head once more each, and of their own the block, eh_proj and
            // four norms.
            let modules = model.num_nextn_predict_layers as f64;
            assert_eq!(work.end.head, (1.0 + modules) * head, "{preset}");
        }
    }

    /// By hand for one layer of DeepSeek-V3: 128 heads, keys of 192, values of 128, and on average
    /// 2048.5 keys that a token may see.
    #[test]
    fn attention_sees_the_causal_half() {
        let (_, work) = work("deepseek-v3-671b");
        let layer = &work.layers[30];
        assert_eq!(layer.attention, 2.0 * 128.0 * (192.0 + 128.0) * 2048.5);
        assert_eq!(layer.attention, 167_813_120.0);
        assert_eq!(layer.attention_backward, 2.0 * 128.0 * (3.0 * 192.0 + 2.0 * 128.0) * 2048.5);
        // q_b of 1536 x 24576 and kv_b of 512 x 32768.
        assert_eq!(layer.up_projections, 2.0 * (37_748_736.0 + 16_777_216.0));
        assert_eq!(layer.experts, 2.0 * 8.0 * 3.0 * 7168.0 * 2048.0);
        assert_eq!((work.layers[0].experts, work.layers[0].router), (0.0, 0.0));
    }

    /// The report's 6 x 36.7B: 36.6B of the 37.6B active parameters are not the embedding.
    #[test]
    fn a_token_takes_what_the_report_s_utilization_is_by() {
        let (model, work) = work("deepseek-v3-671b");
        let by_parameters = super::super::account::parameter_flops_per_token(&model);
        assert!((by_parameters / (6.0 * 36.7e9) - 1.0).abs() < 0.003, "{by_parameters}");
        let attention = 3.0 * 61.0 * 167_813_120.0;
        let main: LayerWork = work.layers.iter().copied().sum();
        let head = 2.0 * 7168.0 * 129_280.0;
        let training = main.training() + 3.0 * head;
        assert!((training / (by_parameters + attention) - 1.0).abs() < 1e-4, "{training}");
    }

    #[test]
    fn longer_sequences_cost_attention_alone() {
        let model = resolve_model(Some("medium"), None, &[]).unwrap();
        let of = |seq_len| Work::new(&model, &Precision::Bf16, seq_len).total();
        let (short, long) = (of(511), of(1023));
        assert_eq!(long.attention, 2.0 * short.attention);
        assert_eq!(
            (long.linear, long.experts, long.bytes),
            (short.linear, short.experts, short.bytes)
        );
    }
}
