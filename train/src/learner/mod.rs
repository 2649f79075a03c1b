//! What learns: the model as burn-train sees it, the optimizer, the average of the weights, the
//! engine that computes a step on one device, and what a step measures.

mod adamw;
mod average;
mod ema;
mod engine;
mod language_model;
mod measured;
mod parts;
#[cfg(all(test, feature = "wgpu"))]
pub(crate) mod reads_tests;
mod report;
mod saved;
mod values;

pub use adamw::{
    AdamW, AdamWSettings, MomentFormat, Moments, gradient_squares, norm_of, parameter_squares,
};
pub use average::{Average, save_average};
pub use ema::{Ema, EmaSettings};
pub use engine::{EngineSettings, NextBatch, SingleDevice, StepEngine, measured_whole};
pub use language_model::LanguageModel;
pub use measured::Measured;
pub use parts::{Part, PartNorms, Parts};
pub use report::{Evaluation, LayerLoad, Norms, PassDetail, RankUse, StepReport, Updated};
pub use saved::{FIRST_MOMENT, OPTIMIZER_FILE, SECOND_MOMENT, save_whole};
pub use values::{Loads, Values};
