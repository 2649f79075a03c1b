//! DeepSeek-V3 for Burn: the model (MLA, DeepSeekMoE, MTP), its losses, its weights and its
//! decoding.
//!
//! Single-device mathematics: nothing here reads the environment, spawns a thread of its own or
//! knows of ranks. Only [`weights`] touches files. Numbers in parentheses in the docs are sections
//! of the DeepSeek-V3 technical report, arXiv 2412.19437.
#![doc = include_str!("../README.md")]

pub mod attention;
pub mod backend;
mod block;
mod compute;
pub mod config;
pub mod definition;
mod embedding;
pub mod fp8;
pub mod generate;
mod init;
mod inspect;
mod linear;
mod loss;
mod mlp;
mod model;
pub mod moe;
mod mtp;
mod norm;
pub mod ops;
mod part;
mod pass;
pub mod precision;
mod recompute;
pub mod routing;
mod to_host;
mod weight;
pub mod weights;

pub use block::{Block, FeedForward};
pub use compute::{Compute, UnsupportedPrecision};
pub use config::{DeepSeekConfig, EndTokens};
pub use embedding::Embedding;
pub use init::{WeightInit, with_value};
pub use inspect::Inspection;
pub use linear::Linear;
pub use loss::{LossWeights, Losses, PartialLoss};
pub use mlp::Mlp;
pub use model::DeepSeek;
pub use mtp::MtpModule;
pub use norm::RmsNorm;
pub use part::{ModelEnd, ModelPart, Stage, StageOutput};
pub use pass::{LayerRouting, Pass, SequenceCounts};
pub use precision::Precision;
pub use recompute::{in_training, recomputing, training_device};
pub use weight::Weight;
