//! Rotary position angles, and YaRN's stretch of them to longer contexts (4.3 of the report; YaRN,
//! arXiv 2309.00071).

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{DeepSeekConfig, YarnConfig};
use crate::definition::RopeTable;

/// Inverse frequencies of every rotated pair, and the factor on cos and sin.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryEmbedding {
    inv_freq: Vec<f32>,
    attention_factor: f32,
    interleaved: bool,
}

impl RotaryEmbedding {
    /// The rotation that `config` describes: plain, or YaRN whenever the config has it.
    pub fn new(config: &DeepSeekConfig) -> Self {
        let dim = config.qk_rope_head_dim;
        let base = config.rope_theta;
        let (inv_freq, attention_factor) = match &config.rope_scaling {
            Some(yarn) => (yarn_inv_freq(dim, base, yarn), yarn.attention_factor()),
            None => (plain_inv_freq(dim, base), 1.0),
        };
        Self {
            inv_freq: inv_freq.into_iter().map(|f| f as f32).collect(),
            attention_factor: attention_factor as f32,
            interleaved: config.rope_interleave,
        }
    }

    /// Angles a position turns in one step, `[rope_dim / 2]`, in radians.
    pub fn inv_freq(&self) -> &[f32] {
        &self.inv_freq
    }

    /// cos and sin for positions `start .. start + len`.
    pub fn table(&self, start: usize, len: usize, device: &Device) -> RopeTable {
        let half = self.inv_freq.len();
        let mut cos = Vec::with_capacity(len * half);
        let mut sin = Vec::with_capacity(len * half);
        for position in start..start + len {
            for &frequency in &self.inv_freq {
                let angle = f64::from(position as f32 * frequency);
                cos.push(angle.cos() as f32 * self.attention_factor);
                sin.push(angle.sin() as f32 * self.attention_factor);
            }
        }
        let tensor = |values| Tensor::from_data(TensorData::new(values, [len, half]), device);
        RopeTable::new(tensor(cos), tensor(sin), self.interleaved)
    }
}

fn plain_inv_freq(dim: usize, base: f64) -> Vec<f64> {
    (0..dim / 2).map(|i| base.powf(-(2.0 * i as f64) / dim as f64)).collect()
}

/// Dims between `low` (turns often: extrapolated) and `high` (turns seldom: interpolated), as
/// rounded whole dims.
///
/// `dim(rotations) = dim * ln(original / (rotations * 2 pi)) / (2 ln base)`.
pub fn yarn_correction_range(dim: usize, base: f64, yarn: &YarnConfig) -> (f64, f64) {
    let original = yarn.original_max_position_embeddings as f64;
    let at = |rotations: f64| {
        dim as f64 * (original / (rotations * 2.0 * std::f64::consts::PI)).ln() / (2.0 * base.ln())
    };
    let low = at(yarn.beta_fast).floor().max(0.0);
    let high = at(yarn.beta_slow).ceil().min(dim as f64 - 1.0);
    (low, high)
}

fn yarn_inv_freq(dim: usize, base: f64, yarn: &YarnConfig) -> Vec<f64> {
    let (low, mut high) = yarn_correction_range(dim, base, yarn);
    if low == high {
        high += 0.001; // a ramp of no width would divide by zero
    }
    plain_inv_freq(dim, base)
        .into_iter()
        .enumerate()
        .map(|(i, frequency)| {
            let interpolated = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            frequency / yarn.factor * interpolated + frequency * (1.0 - interpolated)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v3() -> YarnConfig {
        YarnConfig {
            factor: 40.0,
            original_max_position_embeddings: 4096,
            beta_fast: 32.0,
            beta_slow: 1.0,
            mscale: 1.0,
            mscale_all_dim: 1.0,
            attention_factor: None,
        }
    }

    #[test]
    fn yarn_of_deepseek_v3() {
        assert_eq!(yarn_correction_range(64, 1e4, &v3()), (10.0, 23.0));
        let inv_freq = yarn_inv_freq(64, 1e4, &v3());
        assert!((inv_freq[16] - 5.5e-3).abs() < 1e-9, "{}", inv_freq[16]);
        assert_eq!(v3().attention_factor(), 1.0);
    }

    #[test]
    fn softmax_scale_grows_by_mscale_squared() {
        let scale = (192.0f64).powf(-0.5);
        assert!((scale - 0.0721687836).abs() < 1e-9);
        let stretched = |m| scale * YarnConfig { mscale_all_dim: m, ..v3() }.softmax_factor();
        assert!((stretched(1.0) - 0.1352337789).abs() < 1e-9);
        assert!((stretched(0.707) - 0.1147213868).abs() < 1e-9);
    }
}
