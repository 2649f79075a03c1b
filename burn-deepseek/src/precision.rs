//! Which operation runs in which format, in one table (3.3, 3.3.1).

pub use cubecl_kernels::definition::{
    Accumulation, AttentionOptions, CastCounts, CastLayout, Fp8Format, Granularity, ProductFormat,
    QuantizeOptions, ScaleFormat, TILE,
};

/// The form in which an FP8 linear keeps its input for Wgrad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeptActivation {
    /// Codes tiled along the tokens (128x1), cast from the original values: 1 byte a value.
    #[default]
    Columns,
    /// The codes of Fprop (1x128), dequantized, transposed and quantized again in backward, as on
    /// the report's hardware (3.5.2): 1 byte a value, one more rounding.
    Rows,
    /// E5M6 with power-of-two scales, cast to 128x1 tiles in backward: 1.5 bytes a value. For the
    /// input of the linear after attention (3.3.3).
    E5m6,
}

/// The FP8 recipe and its ablations. The default is the report's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fp8Recipe {
    /// How the linears' inputs are quantized.
    pub activations: QuantizeOptions,
    /// How the gradients of the linears' outputs are quantized.
    pub gradients: QuantizeOptions,
    /// How the weights are quantized.
    pub weights: QuantizeOptions,
    /// Scales of what is dispatched to experts, and of the gradient before their down-projection's
    /// backward (3.3.3).
    pub dispatch_scale: ScaleFormat,
    /// How inputs are kept for Wgrad.
    pub kept: KeptActivation,
    /// How the input of the linear after attention is kept.
    pub kept_attention_output: KeptActivation,
    /// How products sum along K.
    pub accumulation: Accumulation,
}

impl Default for Fp8Recipe {
    fn default() -> Self {
        let tile = QuantizeOptions {
            format: Fp8Format::E4M3,
            scale: ScaleFormat::F32,
            granularity: Granularity::Tile,
        };
        Self {
            activations: tile,
            gradients: tile,
            weights: tile,
            dispatch_scale: ScaleFormat::PowerOfTwo,
            kept: KeptActivation::Columns,
            kept_attention_output: KeptActivation::E5m6,
            accumulation: Accumulation::Promoted,
        }
    }
}

/// The numbers that a whole model computes in.
///
/// ```
/// use burn_deepseek::precision::{Fp8Recipe, Operation, Precision};
///
/// let fp8 = Precision::Fp8(Fp8Recipe::default());
/// assert_eq!(fp8.rule(Operation::QueryUp).describe(), "E4M3 1x128 | E4M3 128x128");
/// assert_eq!(fp8.rule(Operation::Attention).describe(), "BF16");
/// assert_eq!(fp8.rule(Operation::Router).describe(), "FP32");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// FP32 throughout.
    #[default]
    F32,
    /// FP32 throughout, the products of linears and head by three BF16 parts of each number
    /// ([`ProductFormat::Bf16x3`]): for processors with a tile unit.
    Bf16x3,
    /// Linears, attention and the head in BF16, the rest in FP32.
    Bf16,
    /// Linears of the blocks in FP8, attention and the head in BF16, the rest in FP32.
    Fp8(Fp8Recipe),
}

/// What a model does with numbers, as far as formats differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Rows of the embedding table.
    Embedding,
    /// Every RMSNorm.
    Norm,
    /// `q_a`, or `q` where there is no query latent.
    QueryDown,
    /// `q_b`.
    QueryUp,
    /// `kv_a_proj_with_mqa`.
    KeyValueDown,
    /// `kv_b`.
    KeyValueUp,
    /// Scores, softmax, weighted values.
    Attention,
    /// `o`, the linear after attention.
    AttentionOutput,
    /// Router scores and the choice of experts.
    Router,
    /// Gate and up projections of dense layers and shared experts.
    GateUp,
    /// Down projections of dense layers and shared experts.
    Down,
    /// Gate and up projections of routed experts.
    ExpertGateUp,
    /// Down projections of routed experts.
    ExpertDown,
    /// `eh_proj` of an MTP module.
    MtpProjection,
    /// The output head and its cross entropy.
    Head,
}

impl Operation {
    /// All operations, in the order in which a token meets them.
    pub const ALL: [Self; 15] = [
        Self::Embedding,
        Self::Norm,
        Self::QueryDown,
        Self::QueryUp,
        Self::KeyValueDown,
        Self::KeyValueUp,
        Self::Attention,
        Self::AttentionOutput,
        Self::Router,
        Self::GateUp,
        Self::Down,
        Self::ExpertGateUp,
        Self::ExpertDown,
        Self::MtpProjection,
        Self::Head,
    ];

    /// The name of its weights or, without weights, of what it is.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embed_tokens",
            Self::Norm => "norms",
            Self::QueryDown => "q_a_proj (q_proj)",
            Self::QueryUp => "q_b_proj",
            Self::KeyValueDown => "kv_a_proj_with_mqa",
            Self::KeyValueUp => "kv_b_proj",
            Self::Attention => "attention",
            Self::AttentionOutput => "o_proj",
            Self::Router => "gate (router)",
            Self::GateUp => "gate_proj, up_proj",
            Self::Down => "down_proj",
            Self::ExpertGateUp => "experts: gate_proj, up_proj",
            Self::ExpertDown => "experts: down_proj",
            Self::MtpProjection => "eh_proj",
            Self::Head => "lm_head",
        }
    }

    /// Whether its result is computed again in backward where recomputation is on: RMSNorms, the
    /// MLA up-projections (3.2.3). (SwiGLU belongs to the down-projections, whose input it makes:
    /// [`Operation::takes_swiglu`].)
    pub const fn recomputed(self) -> bool {
        matches!(self, Self::Norm | Self::QueryUp | Self::KeyValueUp)
    }

    /// Whether its input is a SwiGLU, which is recomputed instead of kept.
    pub const fn takes_swiglu(self) -> bool {
        matches!(self, Self::Down | Self::ExpertDown)
    }
}

/// How a linear computes in FP8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fp8Rule {
    /// How its input is quantized, in Fprop and Wgrad.
    pub activations: QuantizeOptions,
    /// How its output's gradient is quantized, in Dgrad and Wgrad.
    pub gradients: QuantizeOptions,
    /// How its weight is quantized.
    pub weights: QuantizeOptions,
    /// The form in which its input is kept.
    pub kept: KeptActivation,
    /// How its products sum.
    pub accumulation: Accumulation,
}

/// What one operation computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A plain format. A backend without kernels for BF16 computes in FP32 instead.
    Plain(ProductFormat),
    /// FP8.
    Fp8(Fp8Rule),
}

impl Precision {
    /// The rule of an operation: **the table**.
    pub fn rule(&self, operation: Operation) -> Rule {
        use Operation::*;
        let recipe = match (self, operation) {
            (_, Embedding | Norm | Router) | (Self::F32, _) | (Self::Bf16x3, Attention) => {
                return Rule::Plain(ProductFormat::F32);
            }
            (Self::Bf16x3, _) => return Rule::Plain(ProductFormat::Bf16x3),
            (_, Head | Attention) | (Self::Bf16, _) => return Rule::Plain(ProductFormat::Bf16),
            (Self::Fp8(recipe), _) => recipe,
        };
        let dispatched = |options| QuantizeOptions { scale: recipe.dispatch_scale, ..options };
        Rule::Fp8(Fp8Rule {
            activations: if operation == ExpertGateUp {
                dispatched(recipe.activations)
            } else {
                recipe.activations
            },
            gradients: if operation == ExpertDown {
                dispatched(recipe.gradients)
            } else {
                recipe.gradients
            },
            weights: recipe.weights,
            kept: if operation == AttentionOutput {
                recipe.kept_attention_output
            } else {
                recipe.kept
            },
            accumulation: recipe.accumulation,
        })
    }

    /// Whether all that is kept and carried is FP32.
    pub const fn is_f32(&self) -> bool {
        matches!(self, Self::F32 | Self::Bf16x3)
    }

    /// `f32`, `bf16x3`, `bf16` or `fp8`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16x3 => "bf16x3",
            Self::Bf16 => "bf16",
            Self::Fp8(_) => "fp8",
        }
    }
}

impl Rule {
    /// What the product takes, in words: `FP32`, `FP32 as 3 BF16`, `BF16`, `E4M3 1x128 | 128x128`.
    pub fn describe(&self) -> String {
        match self {
            Self::Plain(ProductFormat::F32) => "FP32".into(),
            Self::Plain(ProductFormat::Bf16) => "BF16".into(),
            Self::Plain(ProductFormat::Bf16x3) => "FP32 as 3 BF16".into(),
            Self::Fp8(rule) => {
                format!(
                    "{} | {}",
                    describe_options(&rule.activations, "1x128"),
                    describe_options(&rule.weights, "128x128")
                )
            }
        }
    }
}

/// A quantization in words: `E4M3 1x128`, `E4M3 1x128 2^n`.
pub fn describe_options(options: &QuantizeOptions, tile: &str) -> String {
    let format = match options.format {
        Fp8Format::E4M3 => "E4M3",
        Fp8Format::E5M2 => "E5M2",
    };
    let granularity = match options.granularity {
        Granularity::Tile => tile,
        Granularity::Block => "128x128",
        Granularity::Tensor => "per tensor",
    };
    let scale = if options.scale == ScaleFormat::PowerOfTwo { " 2^n" } else { "" };
    format!("{format} {granularity}{scale}")
}

#[cfg(test)]
mod tests;
