//! YaRN's part of a configuration: how rope is stretched to a longer context (4.3 of the report;
//! arXiv 2309.00071).

use serde::{Deserialize, Serialize};

/// YaRN, the stretching of rope to a longer context (report, 4.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YarnConfig {
    /// New context length over the original one.
    pub factor: f64,
    /// Context length in tokens before the stretching.
    pub original_max_position_embeddings: usize,
    /// Rotations over the original context above which a frequency keeps its value.
    #[serde(default = "default_beta_fast")]
    pub beta_fast: f64,
    /// Rotations over the original context below which a frequency is divided by `factor`.
    #[serde(default = "default_beta_slow")]
    pub beta_slow: f64,
    /// Numerator of the scale of cos and sin:
    /// `mscale(factor, mscale) / mscale(factor, mscale_all_dim)`.
    #[serde(default = "default_mscale")]
    pub mscale: f64,
    /// What multiplies the softmax scale, squared: `mscale(factor, mscale_all_dim)^2`. Zero leaves
    /// the scale alone.
    #[serde(default)]
    pub mscale_all_dim: f64,
    /// What cos and sin are multiplied by, where it is not to follow from `mscale` and
    /// `mscale_all_dim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
}

impl YarnConfig {
    /// `0.1 m ln(factor) + 1`, or 1 where `factor <= 1`.
    fn mscale_of(&self, m: f64) -> f64 {
        if self.factor <= 1.0 { 1.0 } else { 0.1 * m * self.factor.ln() + 1.0 }
    }

    /// What cos and sin are multiplied by: `mscale(mscale) / mscale(mscale_all_dim)` unless the
    /// configuration says another factor; 1 for DeepSeek-V3.
    pub fn attention_factor(&self) -> f64 {
        let of_mscales = || self.mscale_of(self.mscale) / self.mscale_of(self.mscale_all_dim);
        self.attention_factor.unwrap_or_else(of_mscales)
    }

    /// What the softmax scale is multiplied by: `mscale(mscale_all_dim)^2`.
    pub fn softmax_factor(&self) -> f64 {
        self.mscale_of(self.mscale_all_dim).powi(2)
    }
}

fn default_mscale() -> f64 {
    1.0
}

fn default_beta_fast() -> f64 {
    32.0
}

fn default_beta_slow() -> f64 {
    1.0
}
