//! The built-in corpus: generated documents whose exact probability, and so the loss of a perfect
//! model, is known.

mod english;
mod grammar;
mod parse;
mod window;

pub use grammar::{Grammar, GrammarEntropy};

use super::seeded::{Stream, derive};

/// A generated document with the natural logarithm of its exact probability under the grammar.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedDocument {
    /// The text, ASCII, without its end-of-document token.
    pub text: String,
    /// ln p(text, end of document), in nats.
    pub log_prob: f64,
}

impl Grammar {
    /// Generates documents until their texts hold at least `target_bytes` bytes.
    ///
    /// A seed always gives the same documents, and a larger target only adds to them.
    pub fn generate(&self, seed: u64, target_bytes: usize) -> Vec<GeneratedDocument> {
        let mut documents = Vec::new();
        let mut bytes = 0;
        while bytes < target_bytes {
            let mut stream = Stream::new(derive(seed, documents.len() as u64));
            let (text, log_prob) = self.sample(&mut stream);
            bytes += text.len();
            documents.push(GeneratedDocument { text, log_prob });
        }
        documents
    }
}

/// The exact entropy floor of documents, in nats a token where each byte and each end of document
/// is one token.
///
/// floor = sum of -log_prob / sum of (bytes + 1). No model's expected loss is lower; on windows of
/// a packed stream see [`Grammar::window_floor`]. `None` for no documents.
pub fn entropy_floor(documents: &[GeneratedDocument]) -> Option<f64> {
    let nats: f64 = documents.iter().map(|d| -d.log_prob).sum();
    let tokens: usize = documents.iter().map(|d| d.text.len() + 1).sum();
    (tokens > 0).then(|| nats / tokens as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_is_deterministic_and_grows() {
        let grammar = Grammar::english();
        let short = grammar.generate(7, 2_000);
        let long = grammar.generate(7, 4_000);
        assert_eq!(short, grammar.generate(7, 2_000));
        assert_eq!(short[..], long[..short.len()]);
        assert_ne!(short, grammar.generate(8, 2_000));
        assert!(short.iter().map(|d| d.text.len()).sum::<usize>() >= 2_000);
        assert!(grammar.generate(7, 0).is_empty());
        assert_eq!(entropy_floor(&[]), None);
    }

    /// Catches a generator and a scorer that disagree, and an ambiguous grammar.
    #[test]
    fn scorer_agrees_with_generator() {
        let grammar = Grammar::english();
        for document in grammar.generate(1, 60_000) {
            let scored = grammar.log_prob(&document.text).unwrap();
            assert!((scored - document.log_prob).abs() < 1e-9, "{scored} {document:?}");
            assert_eq!(grammar.parses(&document.text), 1, "{document:?}");
        }
    }

    #[test]
    fn surprisals_sum_to_the_log_probability() {
        let grammar = Grammar::english();
        for document in grammar.generate(2, 3_000) {
            let nats = grammar.surprisals(&document.text).unwrap();
            assert_eq!(nats.len(), document.text.len() + 1);
            assert!((nats.iter().sum::<f64>() + document.log_prob).abs() < 1e-9);
            assert_eq!(*nats.last().unwrap(), 0.0, "the end is certain after the last sentence");
            assert_eq!(grammar.valid_prefix_bytes(&document.text), document.text.len());
            let half = &document.text[..document.text.len() / 2];
            assert_eq!(grammar.log_prob(half), None);
            assert_eq!(grammar.valid_prefix_bytes(half), half.len());
        }
    }

    /// The analytic entropy and length equal the sampled means within four standard errors.
    #[test]
    fn sampled_entropy_matches_the_analytic() {
        let grammar = Grammar::english();
        let entropy = grammar.entropy();
        let documents = grammar.generate(3, 2_000_000);
        let within = |name: &str, values: Vec<f64>, expected: f64| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let error = (variance / n).sqrt();
            assert!(
                (mean - expected).abs() < 4.0 * error,
                "{name}: {mean} +- {error}, not {expected}"
            );
        };
        within("nats", documents.iter().map(|d| -d.log_prob).collect(), entropy.nats_per_document);
        within(
            "bytes",
            documents.iter().map(|d| d.text.len() as f64).collect(),
            entropy.bytes_per_document,
        );
        let floor = entropy_floor(&documents).unwrap();
        assert!((floor - entropy.nats_per_token()).abs() < 0.002, "{floor} {entropy:?}");
    }

    #[test]
    fn floor_and_lengths_are_as_documented() {
        let grammar = Grammar::english();
        let entropy = grammar.entropy();
        println!("{entropy:?}: {} nats a token", entropy.nats_per_token());
        assert!((0.6..0.9).contains(&entropy.nats_per_token()), "{entropy:?}");
        assert!((60.0..200.0).contains(&entropy.bytes_per_document), "{entropy:?}");
        assert!(entropy.max_nats < 700.0, "a probability could underflow: {entropy:?}");
        let mut lengths: Vec<usize> =
            grammar.generate(4, 200_000).iter().map(|d| d.text.len()).collect();
        lengths.sort_unstable();
        let at = |quantile: f64| lengths[(lengths.len() as f64 * quantile) as usize];
        println!("bytes: {} 5% {} median {} 95% {}", lengths[0], at(0.05), at(0.5), at(0.95));
        assert!(at(0.05) >= 50 && at(0.95) <= 200);
    }
}
