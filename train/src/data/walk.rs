//! Walks through the documents of a source, as often as is needed, and counts them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::corpus::GeneratedDocument;
use super::error::DataError;
use super::seeded::BytesHash;
use super::source::{Files, Part, PassedOver, Reading, Sink, read_file};
use super::split::DocumentFacts;
use super::watch::{Stage, Watch};

/// What can be walked through.
#[derive(Debug)]
pub(super) enum Walk {
    /// Documents that were generated.
    Builtin(Vec<GeneratedDocument>),
    /// Files.
    Files {
        /// Which.
        files: Files,
        /// The weight of each path.
        weights: Vec<f64>,
        /// How they are read.
        reading: Reading,
    },
}

/// What is known of all documents.
#[derive(Debug)]
pub(super) struct Facts {
    /// In order.
    pub(super) documents: Vec<DocumentFacts>,
    /// How many there are of each path.
    pub(super) of_path: Vec<usize>,
    /// What was passed over.
    pub(super) passed: PassedOver,
}

impl Facts {
    /// Bytes of all texts.
    pub(super) fn bytes(&self) -> u64 {
        self.documents.iter().map(|document| document.bytes).sum()
    }
}

impl Walk {
    /// How often the documents of each path come in an epoch.
    pub(super) fn weights(&self) -> &[f64] {
        match self {
            Self::Builtin(_) => &[1.0],
            Self::Files { weights, .. } => weights,
        }
    }

    /// Hands over the documents of a path.
    ///
    /// # Errors
    /// As [`read_file`], and whatever `sink` fails with.
    pub(super) fn path(
        &self,
        path: usize,
        read: &AtomicU64,
        passed: &mut PassedOver,
        sink: &mut Sink<'_>,
    ) -> Result<(), DataError> {
        match self {
            Self::Builtin(documents) => documents
                .iter()
                .try_for_each(|d| sink(Part { text: &d.text, ends: true, special: false })),
            Self::Files { files, reading, .. } => {
                let first = files.of_path[..path].iter().sum::<usize>();
                let of_path: Range<usize> = first..first + files.of_path[path];
                files.files[of_path]
                    .iter()
                    .try_for_each(|file| read_file(&file.path, reading, read, passed, sink))
            }
        }
    }

    /// Counts and hashes all documents.
    ///
    /// # Errors
    /// As [`Walk::path`].
    pub(super) fn facts(&self, seed: u64, watch: &dyn Watch) -> Result<Facts, DataError> {
        let total = match self {
            Self::Builtin(_) => 0,
            Self::Files { files, .. } => files.bytes(),
        };
        let (mut documents, mut of_path) = (Vec::new(), Vec::new());
        let (read, mut passed) = (AtomicU64::new(0), PassedOver::default());
        if let Self::Files { files, .. } = self {
            passed.files = files.passed_over;
        }
        for path in 0..self.weights().len() {
            let before = documents.len();
            let (mut bytes, mut hash) = (0, BytesHash::new(seed));
            self.path(path, &read, &mut passed, &mut |part| {
                hash.add(part.text.as_bytes());
                bytes += part.text.len() as u64;
                if part.ends {
                    documents.push(DocumentFacts { bytes, hash: hash.value() });
                    (bytes, hash) = (0, BytesHash::new(seed));
                }
                watch.progress(Stage::Reading, read.load(Ordering::Relaxed), total);
                Ok(())
            })?;
            of_path.push(documents.len() - before);
        }
        Ok(Facts { documents, of_path, passed })
    }
}
