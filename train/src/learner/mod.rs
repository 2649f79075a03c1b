//! What a training run does between its configuration and its checkpoints.

pub mod schedule;
