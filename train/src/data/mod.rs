//! Data: from text files or the built-in corpus to micro-batches of token windows that resume
//! exactly.
//!
//! ```text
//! source -> split -> tokenizer, fill-in-the-middle -> pack -> windows -> loader
//! ```
//! [`DataConfig::open`] walks the whole path.
//!
//! **Invariant.** The position in the data is one integer, the number of samples consumed.
//! Everything else follows from the configuration: the same configuration and files give the same
//! window for a sample index on any machine, whatever the micro-batch size, the number of ranks, or
//! how often the run was stopped.

pub mod corpus;

mod config;
mod error;
mod evaluated;
mod fim;
mod loader;
mod pack;
mod permutation;
mod scored;
pub(crate) mod seeded;
mod source;
mod split;
mod summary;
mod tokenizer;
mod windows;

pub use config::{DataConfig, SourceConfig, TokenData, TokenizerConfig};
pub use error::DataError;
pub use evaluated::EvalData;
pub use fim::restore as restore_fim;
pub use loader::{TokenBatch, TokenBatcher, train_loader, valid_loader};
pub use pack::{FimRate, TokenStream, pack};
pub use scored::{ScoredBytes, bits_per_byte};
pub use source::{Document, Documents, TEXT_ENDINGS};
pub use split::{Split, SplitMethod, split};
pub use summary::{DataSummary, SplitSummary};
pub use tokenizer::{
    BYTES_EOD, BYTES_FIM, BYTES_VOCAB_SIZE, FimTokens, HuggingFaceTokenizer, TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE, TextStream, Tokenizer, TokenizerFiles,
};
pub use windows::{Segment, TrainWindows, ValidWindows, Window};
