//! Train, watch, evaluate and sample DeepSeek-V3 models on Burn.

pub mod cli;
pub mod commands;
pub mod config;
pub mod device;
pub mod exit;
pub mod learner;
