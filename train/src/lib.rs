//! The training system around `burn-deepseek`: it owns files, processes, time and seeds.

pub mod learner;
