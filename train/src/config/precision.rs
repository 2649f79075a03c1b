//! `[precision]`: the numbers that a run computes in, and what it computes again instead of
//! keeping.

use burn_deepseek::Precision;
use burn_deepseek::precision::{
    Accumulation, Fp8Format, Fp8Recipe, Granularity, KeptActivation, QuantizeOptions, ScaleFormat,
};
use serde::{Deserialize, Serialize};

/// What the linears compute in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// FP32.
    #[default]
    F32,
    /// BF16 operands, FP32 sums.
    Bf16,
    /// The report's FP8 recipe (3.3), as the other keys of the section modify it.
    Fp8,
}

/// How products of FP32 numbers are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Products {
    /// As they are.
    #[default]
    F32,
    /// By three BF16 parts of each number, on a tile unit.
    Bf16x3,
}

/// The FP8 format of codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codes {
    /// What the report uses everywhere.
    #[default]
    E4m3,
    /// More range, less precision.
    E5m2,
}

/// How scales are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scales {
    /// Any FP32.
    #[default]
    F32,
    /// Powers of two (UE8M0).
    PowerOfTwo,
}

/// What shares a scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tiles {
    /// 1x128 for activations and gradients, 128x128 for weights.
    #[default]
    Tile,
    /// 128x128 for all.
    Block,
    /// One scale a tensor.
    Tensor,
}

/// How an activation is kept for its weight's gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// 128x1 codes cast from the original values.
    #[default]
    Columns,
    /// The 1x128 codes of the forward product, quantized again in backward.
    Rows,
    /// E5M6.
    E5m6,
}

/// `[precision]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrecisionConfig {
    /// What the linears compute in.
    pub format: Format,
    /// How the products of linears and head are computed where `format` is FP32.
    pub products: Products,
    /// Format of activations, gradients and weights.
    pub codes: Codes,
    /// How scales are rounded; those of dispatched activations are powers of two whatever this
    /// says.
    pub scales: Scales,
    /// What shares a scale in activations.
    pub activation_tiles: Tiles,
    /// What shares a scale in activation gradients.
    pub gradient_tiles: Tiles,
    /// What shares a scale in weights.
    pub weight_tiles: Tiles,
    /// Bits of the emulated accumulator of FP8 products, 2 to 24; 0 sums in FP32.
    pub accumulator_bits: u32,
    /// Whether partial sums of 128 are promoted to FP32; false needs `accumulator_bits`.
    pub promotion: bool,
    /// How the linears' inputs are kept for backward.
    pub kept: Kept,
    /// How the input of the linear after attention is kept.
    pub kept_attention_output: Kept,
    /// Whether backward computes RMSNorms, MLA up-projections and SwiGLU again instead of keeping
    /// their results (report, 3.2.3).
    pub recompute: bool,
}

impl Default for PrecisionConfig {
    fn default() -> Self {
        Self {
            format: Format::F32,
            products: Products::F32,
            codes: Codes::E4m3,
            scales: Scales::F32,
            activation_tiles: Tiles::Tile,
            gradient_tiles: Tiles::Tile,
            weight_tiles: Tiles::Tile,
            accumulator_bits: 0,
            promotion: true,
            kept: Kept::Columns,
            kept_attention_output: Kept::E5m6,
            recompute: false,
        }
    }
}

impl PrecisionConfig {
    /// The model's precision.
    pub fn precision(&self) -> Precision {
        match self.format {
            Format::F32 => match self.products {
                Products::F32 => Precision::F32,
                Products::Bf16x3 => Precision::Bf16x3,
            },
            Format::Bf16 => Precision::Bf16,
            Format::Fp8 => Precision::Fp8(self.recipe()),
        }
    }

    fn recipe(&self) -> Fp8Recipe {
        let format = match self.codes {
            Codes::E4m3 => Fp8Format::E4M3,
            Codes::E5m2 => Fp8Format::E5M2,
        };
        let scale = match self.scales {
            Scales::F32 => ScaleFormat::F32,
            Scales::PowerOfTwo => ScaleFormat::PowerOfTwo,
        };
        let options = |tiles| QuantizeOptions { format, scale, granularity: granularity(tiles) };
        Fp8Recipe {
            activations: options(self.activation_tiles),
            gradients: options(self.gradient_tiles),
            weights: options(self.weight_tiles),
            dispatch_scale: ScaleFormat::PowerOfTwo,
            kept: kept(self.kept),
            kept_attention_output: kept(self.kept_attention_output),
            accumulation: match self.accumulator_bits {
                0 => Accumulation::Promoted,
                bits => Accumulation::Emulated { bits, promote: self.promotion },
            },
        }
    }

    /// What is wrong with the section, each problem with its key.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.accumulator_bits != 0 && !(2..=24).contains(&self.accumulator_bits) {
            problems.push(format!(
                "precision.accumulator_bits = {} must be 0 (FP32), or from 2 to 24",
                self.accumulator_bits
            ));
        }
        if self.products != Products::F32 && self.format != Format::F32 {
            problems.push(
                "precision.products = \"bf16x3\" needs precision.format = \"f32\", whose products \
                 it computes"
                    .into(),
            );
        }
        if !self.promotion && self.accumulator_bits == 0 {
            problems.push(
                "precision.promotion = false needs precision.accumulator_bits, the size of the one \
                 accumulator (24 is FP32's)".into(),
            );
        }
        problems
    }
}

const fn granularity(tiles: Tiles) -> Granularity {
    match tiles {
        Tiles::Tile => Granularity::Tile,
        Tiles::Block => Granularity::Block,
        Tiles::Tensor => Granularity::Tensor,
    }
}

const fn kept(kept: Kept) -> KeptActivation {
    match kept {
        Kept::Columns => KeptActivation::Columns,
        Kept::Rows => KeptActivation::Rows,
        Kept::E5m6 => KeptActivation::E5m6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp8_alone_is_the_report_s_recipe() {
        let config: PrecisionConfig = toml::from_str("format = \"fp8\"").unwrap();
        assert_eq!(config.precision(), Precision::Fp8(Fp8Recipe::default()));
        assert_eq!(PrecisionConfig::default().precision(), Precision::F32);
        assert!(config.problems().is_empty());
    }

    #[test]
    fn three_parts_are_asked_for_and_belong_to_f32() {
        let config = |text: &str| toml::from_str::<PrecisionConfig>(text).unwrap();
        assert_eq!(config("").precision(), Precision::F32);
        assert_eq!(config("products = \"bf16x3\"").precision(), Precision::Bf16x3);
        assert!(config("products = \"bf16x3\"").problems().is_empty());
        let problems = config("products = \"bf16x3\"\nformat = \"fp8\"").problems();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("precision.products = \"bf16x3\" needs"), "{problems:?}");
    }

    #[test]
    fn an_accumulator_that_does_not_exist_is_named() {
        let problems =
            |text: &str| toml::from_str::<PrecisionConfig>(text).unwrap().problems().join("; ");
        assert!(problems("accumulator_bits = 25").contains("precision.accumulator_bits = 25"));
        assert!(problems("promotion = false").contains("needs precision.accumulator_bits"));
        assert!(problems("promotion = false\naccumulator_bits = 14").is_empty());
    }
}
