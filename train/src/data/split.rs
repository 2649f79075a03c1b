//! Divides documents into a training and a validation split, by document or by position.
//!
//! What is decided rests on a few numbers a document, so the texts need not be held.

use serde::{Deserialize, Serialize};

use super::error::DataError;

/// How documents are divided between training and validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitMethod {
    /// By position for a single document (one text file), by document otherwise.
    #[default]
    Auto,
    /// A seeded hash of a document's text decides where it goes, so equal documents are on the same
    /// side.
    Document,
    /// The first part of the bytes trains, the last validates; several documents are cut between
    /// two of them.
    Position,
}

/// What is known of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DocumentFacts {
    /// Bytes of its text.
    pub(super) bytes: u64,
    /// Seeded hash of its text.
    pub(super) hash: u64,
}

/// A side of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// What the model learns from.
    Train,
    /// What it is measured on.
    Valid,
}

/// Where each document goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SplitPlan {
    /// All on one side.
    Whole(Side),
    /// The only document is cut in two, at the character boundary at or before a byte.
    Inside(u64),
    /// So many documents train, the others validate.
    Between(usize),
    /// Documents with hashes up to this validate.
    Hashes(u64),
}

impl SplitPlan {
    /// Divides documents so that about `valid_fraction` (of documents, or of bytes by position) is
    /// for validation.
    ///
    /// # Errors
    /// [`DataError::Config`] where the fraction is not between 0 and 1;
    /// [`DataError::Unsplittable`] where one side would be empty.
    pub(super) fn new(
        documents: &[DocumentFacts],
        method: SplitMethod,
        valid_fraction: f64,
    ) -> Result<Self, DataError> {
        check_fraction(valid_fraction)?;
        let count = documents.len();
        let plan = match method {
            SplitMethod::Auto | SplitMethod::Position if count == 1 => {
                inside(documents, valid_fraction)
            }
            SplitMethod::Position => between(documents, valid_fraction),
            SplitMethod::Auto | SplitMethod::Document => by_hash(documents, valid_fraction),
        };
        let on = |side| documents.iter().enumerate().any(|(index, d)| plan.side(index, d) == side);
        let (train, valid) = match plan {
            Self::Inside(position) => {
                (position > 0, documents.iter().any(|document| position < document.bytes))
            }
            _ => (on(Side::Train), on(Side::Valid)),
        };
        match (train, valid) {
            (true, true) => Ok(plan),
            (false, _) => Err(plan.leaves_empty(Side::Train, count)),
            (true, false) => Err(plan.leaves_empty(Side::Valid, count)),
        }
    }

    /// The side that a document goes to; the side of its beginning, for one that is cut.
    pub(super) fn side(&self, index: usize, document: &DocumentFacts) -> Side {
        match *self {
            Self::Whole(side) => side,
            Self::Inside(_) => Side::Train,
            Self::Between(train) if index < train => Side::Train,
            Self::Hashes(limit) if document.hash > limit => Side::Train,
            Self::Between(_) | Self::Hashes(_) => Side::Valid,
        }
    }

    /// The error of a side without documents.
    pub(super) fn leaves_empty(&self, side: Side, documents: usize) -> DataError {
        let (by, advice) = match self {
            Self::Inside(_) => ("position", "give more text or another valid_fraction"),
            Self::Between(_) => ("position", "give more documents or another valid_fraction"),
            Self::Whole(_) | Self::Hashes(_) => {
                ("document", "give more distinct documents, or set data.split = \"position\"")
            }
        };
        let split = match side {
            Side::Train => "training",
            Side::Valid => "validation",
        };
        DataError::Unsplittable { documents, by, split, advice }
    }
}

/// The share that validates.
pub(super) fn check_fraction(valid_fraction: f64) -> Result<(), DataError> {
    if valid_fraction > 0.0 && valid_fraction < 1.0 {
        return Ok(());
    }
    let message = format!("is {valid_fraction}; it must be greater than 0 and less than 1, as 0.1");
    Err(DataError::Config { field: "data.valid_fraction", message })
}

/// The documents with the smallest hashes, and those equal to them, validate.
fn by_hash(documents: &[DocumentFacts], valid_fraction: f64) -> SplitPlan {
    let mut sorted: Vec<u64> = documents.iter().map(|document| document.hash).collect();
    sorted.sort_unstable();
    let wanted = ((documents.len() as f64 * valid_fraction).round() as usize).max(1);
    sorted.get(wanted - 1).map_or(SplitPlan::Whole(Side::Train), |&limit| SplitPlan::Hashes(limit))
}

fn inside(documents: &[DocumentFacts], valid_fraction: f64) -> SplitPlan {
    let bytes: u64 = documents.iter().map(|document| document.bytes).sum();
    SplitPlan::Inside(((bytes as f64 * (1.0 - valid_fraction)).round() as u64).min(bytes))
}

/// At the boundary between documents that is nearest to the position, leaving at least one on each
/// side.
fn between(documents: &[DocumentFacts], valid_fraction: f64) -> SplitPlan {
    let total: u64 = documents.iter().map(|document| document.bytes).sum();
    let position = total as f64 * (1.0 - valid_fraction);
    let mut best = (f64::INFINITY, 0);
    let mut end = 0;
    for (index, document) in documents.iter().enumerate().take(documents.len().saturating_sub(1)) {
        end += document.bytes;
        let distance = (end as f64 - position).abs();
        if distance < best.0 {
            best = (distance, index + 1);
        }
    }
    SplitPlan::Between(best.1)
}

#[cfg(test)]
mod tests;
