//! Train, watch, evaluate and sample DeepSeek-V3 models on Burn: what owns files, processes, time
//! and seeds.

pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod config;
pub mod data;
pub mod device;
pub mod dualpipe;
pub mod exit;
pub mod failure;
pub mod learner;
pub mod metrics;
pub mod parallel;
pub mod plan;
pub mod schedule;
pub mod stdout;
pub mod training;
