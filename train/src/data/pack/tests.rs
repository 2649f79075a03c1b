//! What becomes of documents: sides, ends, fill-in-the-middle, weights; the same on any number of
//! threads.

use super::*;
use crate::data::corpus::{GeneratedDocument, Grammar};
use crate::data::fim::restore;
use crate::data::split::SplitMethod;
use crate::data::tokenize::tokenize;
use crate::data::tokenizer::BYTES_FIM;
use crate::data::tokenizer::tests_support::tokenizer_json;
use crate::data::watch::Unwatched;
use proptest::prelude::*;

const OFF: FimRate = FimRate { rate: 0.0, seed: 0 };

fn walk(texts: &[&str]) -> Walk {
    let document = |text: &&str| GeneratedDocument { text: text.to_string(), log_prob: -1.0 };
    Walk::Builtin(texts.iter().map(document).collect())
}

fn packed(
    walk: &Walk,
    tokenizer: &Tokenizer,
    division: Option<(SplitMethod, f64)>,
    fim: FimRate,
    threads: usize,
) -> (Sides<Vec<u32>>, Sides<Counts>) {
    let facts = walk.facts(1, &Unwatched).unwrap();
    let plan = match division {
        None => SplitPlan::Whole(Side::Train),
        Some((method, fraction)) => SplitPlan::new(&facts.documents, method, fraction).unwrap(),
    };
    let marks = fim.marks(tokenizer).unwrap();
    let packing = Packing { plan, fim, marks, weight_seed: 7 };
    let boundaries = tokenizer.boundaries();
    let mut sides = Sides::<Vec<u32>>::default();
    let counts = tokenize(
        tokenizer,
        marks,
        threads,
        |jobs| pack(walk, &facts, packing, boundaries, jobs),
        |encoded| {
            sides.train.extend(encoded.tokens.train);
            sides.valid.extend(encoded.tokens.valid);
            Ok::<(), DataError>(())
        },
    );
    (sides, counts.unwrap())
}

fn hugging_face() -> (tempfile::TempDir, Tokenizer) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, tokenizer_json(&["</s>"])).unwrap();
    let tokenizer = Tokenizer::from_file(&path, None).unwrap();
    (folder, tokenizer)
}

#[test]
fn documents_are_separated_by_their_end() {
    let (sides, counts) = packed(&walk(&["ab", "c"]), &Tokenizer::Bytes, None, OFF, 1);
    assert_eq!(sides.train, [97, 98, 256, 99, 256]);
    assert_eq!(counts.train, Counts { documents: 2, bytes: 3, fim_documents: 0 });
    assert_eq!(counts.valid, Counts::default());
}

#[test]
fn position_takes_the_last_bytes() {
    let half = |text: &str, fraction| {
        let by = Some((SplitMethod::Auto, fraction));
        let (sides, _) = packed(&walk(&[text]), &Tokenizer::Bytes, by, OFF, 1);
        [sides.train, sides.valid].map(|tokens| Tokenizer::Bytes.decode(&tokens).unwrap())
    };
    assert_eq!(half("0123456789", 0.1), ["012345678", "9"]);
    // A cut inside a character moves before it.
    assert_eq!(half("ab\u{1F980}c", 0.5), ["ab", "\u{1F980}c"]);
}

/// Long documents are cut into jobs, short ones share one; neither shows in the ids.
#[test]
fn any_number_of_threads_gives_the_ids_of_whole_documents() {
    let (_folder, tokenizer) = hugging_face();
    let generated = Grammar::english().generate(5, 1_500_000);
    let long: String = generated.iter().map(|d| format!("{}\n", d.text)).collect();
    let hard = "the\u{1F980}he\u{4e2d}".repeat(40_000); // no place to cut it
    let texts = [long.as_str(), "he the", &hard, "the he\n\nhe"];
    for tokenizer in [&tokenizer, &Tokenizer::Bytes] {
        let mut expected = Vec::new();
        for text in texts {
            expected.extend(tokenizer.encode(text).unwrap());
            expected.push(tokenizer.eod());
        }
        for threads in [1, 2, 5] {
            let (sides, counts) = packed(&walk(&texts), tokenizer, None, OFF, threads);
            assert!(sides.train == expected, "{threads} threads");
            assert_eq!(counts.train.documents, 4);
        }
    }
}

proptest! {
    #[test]
    fn one_text_is_cut_without_loss(text in "\\PC{2,60}", fraction in 0.05f64..0.95) {
        let walk = walk(&[&text]);
        let facts = walk.facts(0, &Unwatched).unwrap();
        if SplitPlan::new(&facts.documents, SplitMethod::Auto, fraction).is_ok() {
            let by = Some((SplitMethod::Auto, fraction));
            let (sides, _) = packed(&walk, &Tokenizer::Bytes, by, OFF, 1);
            let text_of = |tokens: &[u32]| Tokenizer::Bytes.decode(tokens).unwrap();
            prop_assert_eq!(text_of(&sides.train) + &text_of(&sides.valid), text);
        }
    }
}

#[test]
fn fim_takes_its_share_deterministically_and_loses_nothing() {
    let corpus = Grammar::english().generate(1, 200_000);
    let source = Walk::Builtin(corpus.clone());
    let at = |rate, seed| {
        let fim = FimRate { rate, seed };
        let (sides, counts) = packed(&source, &Tokenizer::Bytes, None, fim, 2);
        (sides.train, counts.train)
    };
    let (tokens, counts) = at(0.1, 3);
    assert_eq!((tokens.clone(), counts), at(0.1, 3));
    assert_ne!(tokens, at(0.1, 4).0);
    let share = counts.fim_documents as f64 / counts.documents as f64;
    assert!((0.07..0.13).contains(&share), "{share}");
    assert_eq!(at(1.0, 3).1.fim_documents, corpus.len());
    let packed: Vec<&[u32]> = tokens.split(|&t| t == 256).collect();
    for (tokens, document) in packed.iter().zip(&corpus) {
        let plain = restore(tokens, BYTES_FIM).unwrap_or_else(|| tokens.to_vec());
        assert_eq!(Tokenizer::Bytes.decode(&plain).unwrap(), document.text);
    }
}

#[test]
fn a_rate_outside_zero_to_one_is_an_error() {
    for rate in [-0.1, 1.1, f64::NAN] {
        let error = FimRate { rate, seed: 0 }.marks(&Tokenizer::Bytes).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("data.fim_rate: is {rate}; it must be between 0 (off) and 1, as 0.1")
        );
    }
}
