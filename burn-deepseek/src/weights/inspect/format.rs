//! Bytes that a model's weights take in each of the formats that they can be kept in.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::DeepSeekConfig;
use crate::weights::plan::{ParameterPlan, Survey};
use crate::weights::stored::{StoredForm, StoredPart};

/// A format of a model's weights in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightFormat {
    /// As the checkpoint has them: FP8 as codes and scales, F16 as F32.
    Stored,
    /// Everything in F32.
    F32,
    /// Matrices in BF16; vectors and routers in F32.
    Bf16,
    /// Linears as FP8 codes and scales; embedding, head and an MTP module's projection in BF16;
    /// vectors and routers in F32.
    Fp8,
}

impl WeightFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stored, Self::F32, Self::Bf16, Self::Fp8];

    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "as stored",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
        }
    }
}

/// Bytes of the main model's weights and of its MTP modules' in each format.
pub(super) fn weight_bytes(
    config: &DeepSeekConfig,
    survey: &Survey,
) -> (BTreeMap<WeightFormat, u64>, BTreeMap<WeightFormat, u64>) {
    let (mut main, mut mtp) = (BTreeMap::new(), BTreeMap::new());
    for parameter in &survey.parameters {
        let of_mtp = parameter.parameter.starts_with("mtp.");
        let bytes = if of_mtp { &mut mtp } else { &mut main };
        for format in WeightFormat::ALL {
            *bytes.entry(format).or_insert(0) += bytes_in(config, parameter, format);
        }
    }
    (main, mtp)
}

fn bytes_in(config: &DeepSeekConfig, parameter: &ParameterPlan, format: WeightFormat) -> u64 {
    let elements: usize = parameter.shape.iter().product();
    let wide = 4 * elements as u64;
    let is_matrix = parameter.shape.len() > 1;
    let is_router = parameter.shape == [config.n_routed_experts, config.hidden_size]
        && parameter.parameter.ends_with("gate.weight");
    if format == WeightFormat::F32 || !is_matrix || is_router {
        return wide;
    }
    let is_linear = !["embed_tokens.weight", "lm_head.weight", "eh_proj.weight"]
        .iter()
        .any(|name| parameter.parameter.ends_with(name));
    let parts = parameter.parts.iter();
    match format {
        WeightFormat::Fp8 if is_linear => parts.map(fp8_bytes).sum(),
        WeightFormat::Stored => parts
            .map(|part| match part.form {
                StoredForm::F32 | StoredForm::F16 => 4 * part.elements() as u64,
                StoredForm::Bf16 => 2 * part.elements() as u64,
                StoredForm::Fp8 { .. } => fp8_bytes(part),
            })
            .sum(),
        _ => wide / 2,
    }
}

/// A byte an element, and F32 scales.
fn fp8_bytes(part: &StoredPart) -> u64 {
    (part.elements() + 4 * part.scale_count()) as u64
}
