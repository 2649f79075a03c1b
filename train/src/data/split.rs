//! Divides documents into a training and a validation split, by document or by position.

use serde::{Deserialize, Serialize};

use super::error::DataError;
use super::seeded::hash_bytes;
use super::source::Document;

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

/// The two sides of a split, each in the source's order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Split {
    /// What the model learns from.
    pub train: Vec<Document>,
    /// What it is measured on.
    pub valid: Vec<Document>,
}

/// Divides documents so that about `valid_fraction` (of documents, or of bytes by position) is for
/// validation.
///
/// # Errors
/// [`DataError::Config`] where the fraction is not between 0 and 1; [`DataError::Unsplittable`]
/// where one side would be empty.
pub fn split(
    documents: Vec<Document>,
    method: SplitMethod,
    valid_fraction: f64,
    seed: u64,
) -> Result<Split, DataError> {
    if !(valid_fraction > 0.0 && valid_fraction < 1.0) {
        let message =
            format!("is {valid_fraction}; it must be greater than 0 and less than 1, as 0.1");
        return Err(DataError::Config { field: "data.valid_fraction", message });
    }
    let count = documents.len();
    let (split, by, advice) = match method {
        SplitMethod::Auto | SplitMethod::Position if count == 1 => {
            let advice = "give more text or another valid_fraction";
            (cut_one(documents, valid_fraction), "position", advice)
        }
        SplitMethod::Position => {
            let advice = "give more documents or another valid_fraction";
            (cut_between(documents, valid_fraction), "position", advice)
        }
        SplitMethod::Auto | SplitMethod::Document => {
            let advice = "give more distinct documents, or set data.split = \"position\"";
            (by_hash(documents, valid_fraction, seed), "document", advice)
        }
    };
    let empty = |side| DataError::Unsplittable { documents: count, by, split: side, advice };
    if split.train.is_empty() {
        return Err(empty("training"));
    }
    if split.valid.is_empty() {
        return Err(empty("validation"));
    }
    Ok(split)
}

/// Takes the documents with the smallest hashes, and those equal to them, for validation.
fn by_hash(documents: Vec<Document>, valid_fraction: f64, seed: u64) -> Split {
    let hashes: Vec<u64> = documents.iter().map(|d| hash_bytes(seed, d.text.as_bytes())).collect();
    let mut sorted = hashes.clone();
    sorted.sort_unstable();
    let wanted = ((documents.len() as f64 * valid_fraction).round() as usize).max(1);
    let Some(&limit) = sorted.get(wanted - 1) else {
        return Split { train: documents, valid: Vec::new() };
    };
    let mut split = Split::default();
    for (document, hash) in documents.into_iter().zip(hashes) {
        let side = if hash <= limit { &mut split.valid } else { &mut split.train };
        side.push(document);
    }
    split
}

/// Cuts one document in two, at the character boundary at or before the position.
fn cut_one(documents: Vec<Document>, valid_fraction: f64) -> Split {
    let mut split = Split::default();
    for mut document in documents {
        let bytes = document.text.len();
        let position = ((bytes as f64 * (1.0 - valid_fraction)).round() as usize).min(bytes);
        let valid = document.text.split_off(document.text.floor_char_boundary(position));
        // Parts of a document have no known probability.
        let parts = [(&mut split.train, document.text), (&mut split.valid, valid)];
        parts
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .for_each(|(side, text)| side.push(text.into()));
    }
    split
}

/// Cuts at the boundary between documents that is nearest to the position, leaving at least one on
/// each side.
fn cut_between(mut documents: Vec<Document>, valid_fraction: f64) -> Split {
    let total: usize = documents.iter().map(|d| d.text.len()).sum();
    let position = total as f64 * (1.0 - valid_fraction);
    let mut best = (f64::INFINITY, 0);
    let mut end = 0;
    for (index, document) in documents.iter().enumerate().take(documents.len().saturating_sub(1)) {
        end += document.text.len();
        let distance = (end as f64 - position).abs();
        if distance < best.0 {
            best = (distance, index + 1);
        }
    }
    let valid = documents.split_off(best.1);
    Split { train: documents, valid }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn documents(texts: &[&str]) -> Vec<Document> {
        texts.iter().map(|t| Document::from(t.to_string())).collect()
    }

    fn texts(documents: &[Document]) -> Vec<&str> {
        documents.iter().map(|d| d.text.as_str()).collect()
    }

    proptest! {
        /// Every document is on exactly one side, in order, and equal documents are never on both.
        #[test]
        fn document_split_is_a_disjoint_partition(
            numbers in proptest::collection::vec(0u32..40, 2..80),
            fraction in 0.05f64..0.6,
            seed: u64,
        ) {
            let all: Vec<Document> =
                numbers.iter().map(|n| Document::from(format!("document {n}"))).collect();
            let Ok(found) = split(all.clone(), SplitMethod::Document, fraction, seed) else {
                return Ok(()); // all alike: tested below
            };
            let again = split(all.clone(), SplitMethod::Auto, fraction, seed).unwrap();
            prop_assert_eq!(&found, &again);
            prop_assert_eq!(found.train.len() + found.valid.len(), all.len());
            let train: HashSet<&str> = texts(&found.train).into_iter().collect();
            let valid: HashSet<&str> = texts(&found.valid).into_iter().collect();
            prop_assert!(train.is_disjoint(&valid));
            let ordered: Vec<&str> =
                texts(&all).into_iter().filter(|t| valid.contains(t)).collect();
            prop_assert_eq!(ordered, texts(&found.valid));
        }

        #[test]
        fn one_text_is_cut_without_loss(text in "\\PC{2,60}", fraction in 0.05f64..0.95) {
            if let Ok(found) = split(documents(&[&text]), SplitMethod::Auto, fraction, 0) {
                prop_assert_eq!(format!("{}{}", found.train[0].text, found.valid[0].text), text);
            }
        }
    }

    #[test]
    fn fraction_of_documents_is_met() {
        let all: Vec<Document> = (0..1000).map(|n| Document::from(format!("{n}"))).collect();
        let first = split(all.clone(), SplitMethod::Document, 0.1, 1).unwrap();
        assert_eq!(first.valid.len(), 100);
        assert_ne!(first, split(all, SplitMethod::Document, 0.1, 2).unwrap());
    }

    #[test]
    fn position_takes_the_last_bytes() {
        let found = split(documents(&["0123456789"]), SplitMethod::Auto, 0.1, 5).unwrap();
        assert_eq!((texts(&found.train), texts(&found.valid)), (vec!["012345678"], vec!["9"]));
        // A cut inside a character moves before it.
        let found = split(documents(&["ab\u{1F980}c"]), SplitMethod::Position, 0.5, 5).unwrap();
        assert_eq!((texts(&found.train), texts(&found.valid)), (vec!["ab"], vec!["\u{1F980}c"]));
    }

    #[test]
    fn position_keeps_documents_and_their_probabilities_whole() {
        let mut all = documents(&["aaaa", "bbbb", "cccc", "d", "e"]);
        all[3].log_prob = Some(-2.0);
        let found = split(all, SplitMethod::Position, 0.2, 5).unwrap();
        assert_eq!(
            (texts(&found.train), texts(&found.valid)),
            (vec!["aaaa", "bbbb", "cccc"], vec!["d", "e"])
        );
        assert_eq!(found.valid[0].log_prob, Some(-2.0));
    }

    #[test]
    fn errors_say_what_would_be_right() {
        let message = |texts: &[&str], method, fraction| {
            split(documents(texts), method, fraction, 0).unwrap_err().to_string()
        };
        for fraction in [0.0, 1.0, -1.0, f64::NAN] {
            let found = message(&["a", "b"], SplitMethod::Auto, fraction);
            assert!(
                found.ends_with("it must be greater than 0 and less than 1, as 0.1"),
                "{found}"
            );
            assert!(found.starts_with("data.valid_fraction: is "), "{found}");
        }
        assert_eq!(
            message(&["a"], SplitMethod::Document, 0.1),
            "1 document(s) cannot be split by document: the training split would be empty; \
             give more distinct documents, or set data.split = \"position\""
        );
        let found = message(&["same", "same"], SplitMethod::Document, 0.5);
        assert!(found.contains("the training split would be empty"), "{found}");
        let found = message(&["a"], SplitMethod::Auto, 0.1);
        assert!(
            found.contains("by position: the validation split would be empty; give more text"),
            "{found}"
        );
        let found = message(&[], SplitMethod::Document, 0.1);
        assert!(found.starts_with("0 document(s) cannot be split"), "{found}");
    }
}
