//! Runs as they lie in their folders: finding them, what is known of each without loading a model,
//! and what people write on them.

mod differing;
mod find;
mod labels;
mod summary;

pub use differing::differing;
pub use find::{RunsError, find_runs, is_run};
pub use labels::{LABELS_FILE, Labels};
pub use summary::{RunSummary, config_of};
