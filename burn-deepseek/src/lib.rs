//! DeepSeek-V3 for Burn: the model, and a backend extension that decorates any Burn backend.

pub mod config;
