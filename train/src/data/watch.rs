//! Who is told how the preparation of the data goes.

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Files are read to see whether their content is known; counted in bytes of the files.
    Comparing,
    /// Documents are counted and divided; counted in bytes of the files.
    Reading,
    /// Documents are tokenized; counted in bytes of their text.
    Tokenizing,
}

/// Somebody who is told. Both calls come from any thread, and must return at once.
pub trait Watch: Send + Sync {
    /// `done` of `total` bytes of a stage are done.
    fn progress(&self, stage: Stage, done: u64, total: u64);

    /// Something that is worth a line: a cache that was damaged, for instance.
    fn note(&self, text: &str);
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _: Stage, _: u64, _: u64) {}

    fn note(&self, _: &str) {}
}
