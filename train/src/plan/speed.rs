//! How fast a GPU and its links are: what they could do by their data sheets, times the rates that
//! are attained.

use burn_deepseek::Precision;

use super::traffic::Links;
use crate::config::{ClusterConfig, RatesConfig};

/// Operations of a teraflop.
const TERA: f64 = 1e12;
/// A billion: bytes of a gigabyte.
pub(super) const GIGA: f64 = 1e9;

/// Operations and bytes a second, attained.
pub(super) struct Speed {
    pub linear: f64,
    pub experts: f64,
    pub head: f64,
    pub router: f64,
    pub attention_forward: f64,
    pub attention_backward: f64,
    pub memory: f64,
    pub layer_s: f64,
    pub fast: f64,
    pub slow: f64,
    /// Seconds that a message takes beside its bytes, over either link.
    pub fast_latency_s: f64,
    pub slow_latency_s: f64,
}

impl Speed {
    pub fn new(cluster: &ClusterConfig, precision: &Precision) -> Self {
        let ClusterConfig { gpu, rates, link, .. } = cluster;
        let f32 = gpu.f32_tflops * TERA;
        let bf16 = gpu.bf16_tflops.unwrap_or(gpu.f32_tflops) * TERA;
        let fp8 = gpu.fp8_tflops.unwrap_or(gpu.f32_tflops) * TERA;
        let RatesConfig {
            linear_fp8,
            linear_bf16,
            linear_f32,
            attention_forward,
            attention_backward,
            ..
        } = *rates;
        let (linear, head, attention) = match precision {
            Precision::F32 | Precision::Bf16x3 => (f32 * linear_f32, f32 * linear_f32, f32),
            Precision::Bf16 => (bf16 * linear_bf16, bf16 * linear_bf16, bf16),
            Precision::Fp8(_) => (fp8 * linear_fp8, bf16 * linear_bf16, bf16),
        };
        Self {
            linear,
            experts: linear / rates.expert_load,
            head,
            router: f32 * linear_f32,
            attention_forward: attention * attention_forward,
            attention_backward: attention * attention_backward,
            memory: gpu.memory_gb_per_s * GIGA * rates.memory,
            layer_s: gpu.layer_us * 1e-6,
            fast: link.fast.gb_per_s * GIGA * rates.link_fast,
            slow: link
                .slow
                .as_ref()
                .map_or(f64::INFINITY, |slow| slow.gb_per_s * GIGA * rates.link_slow),
            fast_latency_s: link.fast.latency_us * 1e-6,
            slow_latency_s: link.slow.as_ref().map_or(0.0, |slow| slow.latency_us * 1e-6),
        }
    }

    /// Seconds for rows over both links; they are passed on from the slow link to the fast one as
    /// they come (3.2.2), so the slower decides; the first of them waits for both.
    pub fn rows(&self, links: &Links) -> f64 {
        let latency = |bytes: f64, seconds: f64| if bytes > 0.0 { seconds } else { 0.0 };
        (links.fast / self.fast).max(links.slow / self.slow)
            + latency(links.fast, self.fast_latency_s)
            + latency(links.slow, self.slow_latency_s)
    }

    /// The bytes a second of a link.
    pub fn link(&self, slow: bool) -> f64 {
        if slow { self.slow } else { self.fast }
    }

    /// Seconds for one message over a link.
    pub fn message(&self, bytes: f64, slow: bool) -> f64 {
        bytes / self.link(slow) + if slow { self.slow_latency_s } else { self.fast_latency_s }
    }
}
