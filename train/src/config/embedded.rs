//! The configurations of `configs/`, compiled in, so that the binary works from any folder.

macro_rules! embed {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../configs/", $folder, "/", $name, ".toml")))),+]
    };
}

/// Models by name, as TOML.
pub const MODELS: &[(&str, &str)] = embed!("model":
    "quickstart", "tiny", "bench-5m", "small", "medium", "large",
    "deepseek-v2-lite-16b", "deepseek-v2-236b", "deepseek-v3-671b",
);

/// Runs by name, as TOML.
pub const RUNS: &[(&str, &str)] = embed!("run": "quickstart", "tiny-text", "bench");

/// The run of `train` without `--config`.
pub const DEFAULT_RUN: &str = "quickstart";

/// The text of `name` in `list`.
pub(crate) fn find(
    list: &'static [(&'static str, &'static str)],
    name: &str,
) -> Option<&'static str> {
    list.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

/// The names of `list`, for a message.
pub(crate) fn names(list: &[(&str, &str)]) -> String {
    list.iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whether an argument is meant as a path, not as the name of something embedded.
pub(crate) fn is_path(argument: &str) -> bool {
    argument.contains(['/', '\\']) || argument.ends_with(".toml")
}
