//! Which documents train and which validate.

use super::*;
use crate::data::seeded::BytesHash;
use proptest::prelude::*;
use std::collections::HashSet;

fn facts(texts: &[String], seed: u64) -> Vec<DocumentFacts> {
    let fact = |text: &String| {
        let mut hash = BytesHash::new(seed);
        hash.add(text.as_bytes());
        DocumentFacts { bytes: text.len() as u64, hash: hash.value() }
    };
    texts.iter().map(fact).collect()
}

/// The texts of each side, of documents that stay whole.
fn divided(
    texts: &[String],
    method: SplitMethod,
    fraction: f64,
    seed: u64,
) -> Result<[Vec<String>; 2], DataError> {
    let facts = facts(texts, seed);
    let plan = SplitPlan::new(&facts, method, fraction)?;
    let of = |side| {
        let all = texts.iter().zip(&facts).enumerate();
        all.filter(|(index, (_, fact))| plan.side(*index, fact) == side)
            .map(|(_, (text, _))| text.clone())
            .collect()
    };
    Ok([of(Side::Train), of(Side::Valid)])
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

proptest! {
    /// Every document is on exactly one side, in order, and equal documents are never on both.
    #[test]
    fn document_split_is_a_disjoint_partition(
        numbers in proptest::collection::vec(0u32..40, 2..80),
        fraction in 0.05f64..0.6,
        seed: u64,
    ) {
        let all: Vec<String> = numbers.iter().map(|n| format!("document {n}")).collect();
        let Ok([train, valid]) = divided(&all, SplitMethod::Document, fraction, seed) else {
            return Ok(()); // all alike: tested below
        };
        let again = divided(&all, SplitMethod::Auto, fraction, seed).unwrap();
        prop_assert_eq!([&train, &valid], [&again[0], &again[1]]);
        prop_assert_eq!(train.len() + valid.len(), all.len());
        let (learned, held): (HashSet<_>, HashSet<_>) =
            (train.iter().collect(), valid.iter().collect());
        prop_assert!(learned.is_disjoint(&held));
        let ordered: Vec<String> = all.iter().filter(|t| held.contains(t)).cloned().collect();
        prop_assert_eq!(ordered, valid);
    }
}

#[test]
fn fraction_of_documents_is_met() {
    let all: Vec<String> = (0..1000).map(|n| format!("{n}")).collect();
    let first = divided(&all, SplitMethod::Document, 0.1, 1).unwrap();
    assert_eq!(first[1].len(), 100);
    assert_ne!(first, divided(&all, SplitMethod::Document, 0.1, 2).unwrap());
}

#[test]
fn a_single_document_is_cut_at_the_last_bytes() {
    for method in [SplitMethod::Auto, SplitMethod::Position] {
        let plan = SplitPlan::new(&facts(&owned(&["0123456789"]), 5), method, 0.1).unwrap();
        assert_eq!(plan, SplitPlan::Inside(9));
    }
}

#[test]
fn position_keeps_documents_whole() {
    let all = owned(&["aaaa", "bbbb", "cccc", "d", "e"]);
    let found = divided(&all, SplitMethod::Position, 0.2, 5).unwrap();
    assert_eq!(found, [owned(&["aaaa", "bbbb", "cccc"]), owned(&["d", "e"])]);
}

#[test]
fn errors_say_what_would_be_right() {
    let message = |texts: &[&str], method, fraction| {
        divided(&owned(texts), method, fraction, 0).unwrap_err().to_string()
    };
    for fraction in [0.0, 1.0, -1.0, f64::NAN] {
        let found = message(&["a", "b"], SplitMethod::Auto, fraction);
        assert!(found.ends_with("it must be greater than 0 and less than 1, as 0.1"), "{found}");
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
