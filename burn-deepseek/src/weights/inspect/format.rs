//! Bytes that a model's weights take in each of the formats that they can be kept in.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::weights::plan::{ParameterPlan, Survey};
use crate::weights::stored::{StoredForm, StoredPart};

/// A format of a model's weights in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightFormat {
    /// Matrices as the checkpoint has them, FP8 as codes and scales, F16 as F32; vectors, routers
    /// and `kv_b` in F32.
    Stored,
    /// Everything in F32.
    F32,
    /// As `Stored` of a checkpoint in BF16.
    Bf16,
    /// As `Stored` of a checkpoint in FP8, whose embedding, head and MTP projections are BF16.
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

/// Paths of the matrices that are F32 whatever the format: the router's, and the one that absorbed
/// attention takes apart.
const ROUTER: &str = ".gate.weight";
const KV_B: &str = ".kv_b_proj.weight";
/// Those that are never FP8.
const NEVER_FP8: [&str; 3] = ["embed_tokens.weight", "lm_head.weight", "eh_proj.weight"];

/// Bytes of the main model's weights and of its MTP modules' in each format.
pub(super) fn weight_bytes(
    survey: &Survey,
) -> (BTreeMap<WeightFormat, u64>, BTreeMap<WeightFormat, u64>) {
    let (mut main, mut mtp) = (BTreeMap::new(), BTreeMap::new());
    for parameter in &survey.parameters {
        let of_mtp = parameter.parameter.starts_with("mtp.");
        let bytes = if of_mtp { &mut mtp } else { &mut main };
        for format in WeightFormat::ALL {
            *bytes.entry(format).or_insert(0) += bytes_in(parameter, format);
        }
    }
    (main, mtp)
}

fn bytes_in(parameter: &ParameterPlan, format: WeightFormat) -> u64 {
    let elements: usize = parameter.shape.iter().product();
    let wide = 4 * elements as u64;
    let path = parameter.parameter.as_str();
    let kept = parameter.shape.len() > 1 && !path.ends_with(ROUTER) && !path.ends_with(KV_B);
    if format == WeightFormat::F32 || !kept {
        return wide;
    }
    let is_linear = !NEVER_FP8.iter().any(|name| path.ends_with(name));
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
