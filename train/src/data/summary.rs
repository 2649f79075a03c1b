//! What the data of a run is, for people: counts of each split and the entropy floor.

use std::fmt;

use super::prepare::TokenStream;
use super::source::PassedOver;

/// The counts of one split.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SplitSummary {
    /// Documents.
    pub documents: usize,
    /// Bytes of their text.
    pub bytes: usize,
    /// Tokens, the end-of-document tokens and fill-in-the-middle marks included.
    pub tokens: usize,
    /// -ln p of all documents together, in nats, where it is known.
    pub nats: Option<f64>,
}

impl SplitSummary {
    /// Bytes of text a token: below 1 for bytes, as the end of a document is a token without text.
    /// 0 for no tokens.
    pub fn bytes_per_token(&self) -> f64 {
        self.bytes as f64 / (self.tokens.max(1)) as f64
    }

    /// The lowest mean loss that a model can be expected to have, in nats a token, where it is
    /// known.
    pub fn entropy_floor(&self) -> Option<f64> {
        self.nats.map(|nats| nats / self.tokens.max(1) as f64)
    }
}

impl From<&TokenStream> for SplitSummary {
    fn from(stream: &TokenStream) -> Self {
        Self {
            documents: stream.facts.documents,
            bytes: stream.facts.bytes,
            tokens: stream.tokens.len(),
            nats: stream.nats,
        }
    }
}

impl fmt::Display for SplitSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} documents, {} bytes, {} tokens", self.documents, self.bytes, self.tokens)?;
        match self.entropy_floor() {
            Some(floor) => write!(f, ", entropy floor {floor:.4} nats a token"),
            None => Ok(()),
        }
    }
}

/// What the data of a run is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DataSummary {
    /// "builtin", or the paths.
    pub source: String,
    /// "bytes", or the tokenizer's file.
    pub tokenizer: String,
    /// The training split.
    pub train: SplitSummary,
    /// The validation split.
    pub valid: SplitSummary,
    /// Training documents rearranged for fill-in-the-middle.
    pub fim_documents: usize,
    /// What was passed over.
    pub passed: PassedOver,
}

impl fmt::Display for DataSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "source      {} (tokenizer: {})", self.source, self.tokenizer)?;
        writeln!(f, "training    {}", self.train)?;
        write!(f, "validation  {}, {:.3} bytes a token", self.valid, self.valid.bytes_per_token())?;
        if self.fim_documents > 0 {
            write!(f, "\nfill-in-the-middle on {} training documents", self.fim_documents)?;
        }
        let PassedOver { files, documents, lines } = self.passed;
        if files + documents > 0 {
            write!(
                f,
                "\npassed over {files} files (empty or not text) and {documents} empty documents"
            )?;
        }
        if lines > 0 {
            write!(f, "\nskipped {lines} bad lines (data.bad_lines = \"skip\")")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_their_formulas() {
        let split = SplitSummary { documents: 2, bytes: 30, tokens: 10, nats: Some(5.0) };
        assert_eq!(split.bytes_per_token(), 3.0);
        assert_eq!(split.entropy_floor(), Some(0.5));
        let none = SplitSummary::default();
        assert_eq!((none.bytes_per_token(), none.entropy_floor()), (0.0, None));
    }

    #[test]
    fn display_is_complete() {
        let train = SplitSummary { documents: 9, bytes: 90, tokens: 99, nats: None };
        let valid = SplitSummary { documents: 1, bytes: 9, tokens: 10, nats: Some(6.5) };
        let (source, tokenizer) = ("a.txt".to_string(), "bytes".to_string());
        let mut summary = DataSummary { source, tokenizer, train, valid, ..DataSummary::default() };
        let expected = "source      a.txt (tokenizer: bytes)\n\
            training    9 documents, 90 bytes, 99 tokens\n\
            validation  1 documents, 9 bytes, 10 tokens, entropy floor 0.6500 nats a token, 0.900 \
            bytes a token";
        assert_eq!(summary.to_string(), expected);
        summary.fim_documents = 1;
        summary.passed = PassedOver { files: 2, documents: 3, lines: 4 };
        let more = "\nfill-in-the-middle on 1 training documents\
            \npassed over 2 files (empty or not text) and 3 empty documents\
            \nskipped 4 bad lines (data.bad_lines = \"skip\")";
        assert_eq!(summary.to_string(), format!("{expected}{more}"));
    }
}
