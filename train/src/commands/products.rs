//! Which path products in BF16 and FP8 take on this CPU, as it is told.

use burn_deepseek::backend::GemmPath;

/// The path, and why it is taken; none where what the environment asks for is not there, which no
/// command gets past.
pub(super) fn products_on_cpu() -> Option<String> {
    GemmPath::choice().ok().map(|choice| format!("{}: {}", choice.path, choice.why))
}
