//! Packs documents into one stream of tokens, each followed by the end-of-document token; no mask
//! between them.

use std::sync::Arc;

use super::error::DataError;
use super::fim;
use super::seeded::{Stream, derive};
use super::source::Document;
use super::tokenizer::Tokenizer;

/// A packed split: its tokens and what they came from.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenStream {
    /// All documents' tokens in order, each document followed by the end-of-document token.
    pub tokens: Arc<[u32]>,
    /// The number of documents.
    pub documents: usize,
    /// The bytes of the documents' text.
    pub bytes: usize,
    /// The number of documents rearranged for fill-in-the-middle.
    pub fim_documents: usize,
    /// -ln p of all documents together, in nats, where it is known and no document was rearranged.
    pub nats: Option<f64>,
}

/// The share of documents to rearrange for fill-in-the-middle, and the seed that picks and cuts
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FimRate {
    /// Between 0 and 1; the report uses 0.1 (section 4.1), 0 turns it off.
    pub rate: f64,
    /// Decides, with a document's index, whether and where it is cut.
    pub seed: u64,
}

/// Encodes and concatenates documents.
///
/// # Errors
/// [`DataError::Config`] where the rate is not between 0 and 1; [`DataError::Tokenizer`] where the
/// tokenizer fails, or has no fill-in-the-middle tokens and the rate is not 0.
pub fn pack(
    documents: &[Document],
    tokenizer: &Tokenizer,
    fim_rate: FimRate,
) -> Result<TokenStream, DataError> {
    let FimRate { rate, seed } = fim_rate;
    if !(0.0..=1.0).contains(&rate) {
        let message = format!("is {rate}; it must be between 0 (off) and 1, as 0.1");
        return Err(DataError::Config { field: "data.fim_rate", message });
    }
    let marks = if rate > 0.0 { Some(tokenizer.fim()?) } else { None };
    let bytes: usize = documents.iter().map(|d| d.text.len()).sum();
    let mut tokens = Vec::with_capacity(match tokenizer {
        Tokenizer::Bytes => bytes + documents.len(),
        Tokenizer::HuggingFace(_) => bytes / 3 + documents.len(),
    });
    let mut fim_documents = 0;
    for (index, document) in documents.iter().enumerate() {
        let mut stream = Stream::new(derive(seed, index as u64));
        match marks.filter(|_| stream.unit() < rate) {
            Some(marks) => {
                let parts = fim::cut(&document.text, &mut stream);
                fim::push_rearranged(parts, tokenizer, marks, &mut tokens)?;
                fim_documents += 1;
            }
            None => tokens.extend(tokenizer.encode(&document.text)?),
        }
        tokens.push(tokenizer.eod());
    }
    let nats = documents.iter().map(|d| d.log_prob.map(|log_prob| -log_prob)).sum::<Option<f64>>();
    Ok(TokenStream {
        tokens: tokens.into(),
        documents: documents.len(),
        bytes,
        fim_documents,
        nats: nats.filter(|_| fim_documents == 0 && !documents.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::source::Documents;
    use crate::data::tokenizer::BYTES_FIM;

    fn documents(texts: &[&str]) -> Vec<Document> {
        texts.iter().map(|t| Document::from(t.to_string())).collect()
    }

    const OFF: FimRate = FimRate { rate: 0.0, seed: 0 };

    #[test]
    fn documents_are_separated_by_their_end() {
        let stream = pack(&documents(&["ab", "c"]), &Tokenizer::Bytes, OFF).unwrap();
        assert_eq!(stream.tokens[..], [97, 98, 256, 99, 256]);
        assert_eq!(
            (stream.documents, stream.bytes, stream.fim_documents, stream.nats),
            (2, 3, 0, None)
        );
    }

    #[test]
    fn nats_are_known_only_for_unchanged_generated_documents() {
        let corpus = Documents::builtin(1, 5_000).unwrap().documents;
        let expected: f64 = corpus.iter().map(|d| -d.log_prob.unwrap()).sum();
        let stream = pack(&corpus, &Tokenizer::Bytes, OFF).unwrap();
        assert!((stream.nats.unwrap() - expected).abs() < 1e-9);
        let stream = pack(&corpus, &Tokenizer::Bytes, FimRate { rate: 1.0, seed: 0 }).unwrap();
        assert_eq!(stream.nats, None);
        assert_eq!(pack(&[], &Tokenizer::Bytes, OFF).unwrap().nats, None);
    }

    #[test]
    fn fim_takes_its_share_deterministically_and_loses_nothing() {
        let corpus = Documents::builtin(1, 200_000).unwrap().documents;
        let at = |rate, seed| pack(&corpus, &Tokenizer::Bytes, FimRate { rate, seed }).unwrap();
        let stream = at(0.1, 3);
        assert_eq!(stream, at(0.1, 3));
        assert_ne!(stream.tokens, at(0.1, 4).tokens);
        let share = stream.fim_documents as f64 / stream.documents as f64;
        assert!((0.07..0.13).contains(&share), "{share}");
        assert_eq!(at(1.0, 3).fim_documents, corpus.len());

        let packed: Vec<&[u32]> = stream.tokens.split(|&t| t == 256).collect();
        for (tokens, document) in packed.iter().zip(&corpus) {
            let plain =
                crate::data::fim::restore(tokens, BYTES_FIM).unwrap_or_else(|| tokens.to_vec());
            assert_eq!(Tokenizer::Bytes.decode(&plain).unwrap(), document.text);
        }
    }

    #[test]
    fn a_rate_outside_zero_to_one_is_an_error() {
        for rate in [-0.1, 1.1, f64::NAN] {
            let error =
                pack(&[], &Tokenizer::Bytes, FimRate { rate, seed: 0 }).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("data.fim_rate: is {rate}; it must be between 0 (off) and 1, as 0.1")
            );
        }
    }
}
