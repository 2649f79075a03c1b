//! Data: from text files or the built-in corpus to micro-batches of token windows that resume
//! exactly.
//!
//! ```text
//! source -> walk -> split -> pack (fill-in-the-middle) -> tokenize -> cache -> windows -> loader
//! ```
//! [`DataConfig::open_with`] walks the whole path. Documents stream through it: neither the text
//! nor its tokens are held in memory.
//!
//! **Invariant.** The position in the data is one integer, the number of samples consumed.
//! Everything else follows from the configuration: the same configuration and files give the same
//! window for a sample index on any machine, whatever the micro-batch size, the number of ranks, or
//! how often the run was stopped.

pub mod corpus;

mod cache;
mod chat;
mod config;
mod contained;
mod error;
mod evaluated;
mod fim;
mod fingerprint;
mod loader;
mod open;
mod pack;
mod permutation;
mod prepare;
mod scored;
pub(crate) mod seeded;
mod source;
mod split;
mod summary;
mod tokenize;
mod tokenizer;
mod tokens;
mod walk;
mod watch;
mod windows;

pub use config::{DataConfig, SourceConfig, SourcePath, TokenizerConfig};
pub use error::DataError;
pub use evaluated::EvalData;
pub use fim::restore as restore_fim;
pub use fingerprint::{DataFingerprint, FilePrint};
pub use loader::{TokenBatch, TokenBatcher, numbered_loader, train_loader, valid_loader};
pub use open::TokenData;
pub use prepare::Opening;
pub use scored::{ScoredBytes, bits_per_byte};
pub use source::{BadLines, ENDINGS, PassedOver};
pub use split::SplitMethod;
pub use summary::{DataSummary, SplitSummary};
pub use tokenizer::{
    BYTES_EOD, BYTES_FIM, BYTES_VOCAB_SIZE, BYTES_VOCAB_SIZES, FimTokens, HuggingFaceTokenizer,
    TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, TextStream, Tokenizer, TokenizerFiles,
};
pub use tokens::Tokens;
pub use watch::{Stage, Unwatched, Watch};
pub use windows::{Segment, TrainWindows, ValidWindows, Window};
