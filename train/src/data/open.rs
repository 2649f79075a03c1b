//! Opening what a configuration describes: from a source to windows.

use std::path::{Path, PathBuf};

use super::chat::ChatTemplate;
use super::config::{DataConfig, SourceConfig, SourcePath};
use super::corpus::Grammar;
use super::error::DataError;
use super::fingerprint::{DataFingerprint, FilePrint, Prints};
use super::pack::FimRate;
use super::prepare::{Division, Opening, Order, Streams, TokenStream};
use super::seeded::derive;
use super::source::{Files, Reading, builtin, ending};
use super::split::Side;
use super::summary::DataSummary;
use super::tokenizer::Tokenizer;
use super::walk::Walk;
use super::windows::{TrainWindows, ValidWindows};

/// The largest weight of a source.
const MAX_WEIGHT: f64 = 1000.0;

/// A run's data, ready to load.
#[derive(Debug, Clone)]
pub struct TokenData {
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// The windows to train on.
    pub train: TrainWindows,
    /// The windows to validate on.
    pub valid: ValidWindows,
    /// What the data is.
    pub summary: DataSummary,
    /// What it was made of.
    pub fingerprint: DataFingerprint,
}

impl TokenData {
    /// The mean loss in nats a token of a perfect model on the first `windows` validation windows,
    /// where it is known: for the built-in corpus as bytes.
    ///
    /// Compare a validation loss with this rather than with the entropy floor of the documents,
    /// which a window of 64, 128, 256 or 512 tokens exceeds by 13, 7, 4 or 2% because it begins
    /// inside a document (see [`Grammar::window_floor`]). It takes about a millisecond a window of
    /// 256.
    pub fn window_floor(&self, windows: usize) -> Option<f64> {
        match self.tokenizer {
            Tokenizer::Bytes => self.summary.valid.nats?,
            Tokenizer::HuggingFace(_) => return None,
        };
        let windows: Vec<Vec<u32>> = self.valid.windows().take(windows).collect();
        let windows = windows.iter().map(Vec::as_slice);
        Grammar::english().window_floor(windows, self.tokenizer.eod())
    }
}

/// A source that is about to be read.
struct Source {
    walk: Walk,
    /// What it is, for people.
    description: String,
    /// What its files hold.
    prints: Vec<FilePrint>,
    /// What decides its documents.
    content: Option<String>,
}

impl DataConfig {
    /// As [`DataConfig::open_with`], with nothing kept and nobody told.
    ///
    /// # Errors
    /// As [`DataConfig::open_with`].
    pub fn open(&self, seq_len: usize, vocab_size: usize) -> Result<TokenData, DataError> {
        self.open_with(seq_len, vocab_size, &Opening::default())
    }

    /// Reads, splits, tokenizes and packs the data into windows that predict `seq_len` tokens; what
    /// an earlier start kept is taken as it is.
    ///
    /// # Errors
    /// [`DataError`] naming the field or file: anything unreadable or not text, a tokenizer with
    /// more ids than `vocab_size`, a value out of range, a split shorter than one window.
    pub fn open_with(
        &self,
        seq_len: usize,
        vocab_size: usize,
        opening: &Opening<'_>,
    ) -> Result<TokenData, DataError> {
        let tokenizer =
            opening.tokenizer.map_or_else(|| self.open_tokenizer(), |t| Ok(t.clone()))?;
        tokenizer.check_vocab_size(vocab_size)?;
        let source = match &self.source {
            SourceConfig::Builtin => self.builtin_source()?,
            SourceConfig::Paths(paths) => self.files_source(paths, &tokenizer, opening)?,
        };
        let valid_source = match self.valid_source.as_slice() {
            [] => None,
            paths => {
                let paths: Vec<SourcePath> = paths.iter().cloned().map(SourcePath::from).collect();
                Some(self.files_source(&paths, &tokenizer, opening)?)
            }
        };
        let (method, valid_fraction) = (self.split, self.valid_fraction);
        let division = match valid_source {
            None => Division::Split { method, valid_fraction },
            Some(_) => Division::Whole(Side::Train),
        };
        let fim = FimRate { rate: self.fim_rate, seed: derive(self.seed, 2) };
        let mut streams = self.streams(&source, &tokenizer, division, fim, opening)?;
        let mut passed = streams.passed();
        let held_out = match &valid_source {
            None => streams.valid,
            Some(source) => {
                let division = Division::Whole(Side::Valid);
                let valid =
                    self.streams(source, &tokenizer, division, FimRate::default(), opening)?;
                let more = valid.passed();
                passed.files += more.files;
                passed.documents += more.documents;
                passed.lines += more.lines;
                valid.valid
            }
        };
        let both = streams.train.take().zip(held_out);
        let (train, valid) = both.expect("invariant: a source has the sides that were asked for");
        let fingerprint = DataFingerprint {
            source: source.prints,
            valid_source: valid_source.map(|source| source.prints).unwrap_or_default(),
            tokenizer: tokenizer.identity(),
        };
        let summary = DataSummary {
            source: source.description,
            tokenizer: match tokenizer.remark() {
                None => tokenizer.description(),
                Some(remark) => format!("{}; {remark}", tokenizer.description()),
            },
            train: (&train).into(),
            valid: (&valid).into(),
            fim_documents: train.facts.fim_documents,
            passed,
        };
        Ok(TokenData {
            tokenizer,
            train: TrainWindows::new(train.tokens, seq_len, derive(self.seed, 3))?,
            valid: ValidWindows::new(valid.tokens, seq_len)?,
            summary,
            fingerprint,
        })
    }

    /// All of some files as one stream, and what they are for people.
    ///
    /// # Errors
    /// As [`DataConfig::open_with`].
    pub(super) fn open_whole(
        &self,
        paths: &[PathBuf],
        tokenizer: &Tokenizer,
        opening: &Opening<'_>,
    ) -> Result<(TokenStream, String), DataError> {
        let paths: Vec<SourcePath> = paths.iter().cloned().map(SourcePath::from).collect();
        let source = self.files_source(&paths, tokenizer, opening)?;
        let division = Division::Whole(Side::Valid);
        let streams = self.streams(&source, tokenizer, division, FimRate::default(), opening)?;
        let stream = streams.valid.expect("invariant: a source has the sides that were asked for");
        Ok((stream, source.description))
    }

    fn streams(
        &self,
        source: &Source,
        tokenizer: &Tokenizer,
        division: Division,
        fim: FimRate,
        opening: &Opening<'_>,
    ) -> Result<Streams, DataError> {
        let order = Order {
            walk: &source.walk,
            tokenizer,
            division,
            fim,
            split_seed: derive(self.seed, 1),
            weight_seed: derive(self.seed, 4),
            content: source.content.clone(),
        };
        order.fill(opening)
    }

    fn builtin_source(&self) -> Result<Source, DataError> {
        let documents = builtin(derive(self.seed, 0), self.builtin_bytes)?;
        Ok(Source {
            walk: Walk::Builtin(documents),
            description: "builtin".to_string(),
            prints: Vec::new(),
            content: None,
        })
    }

    fn files_source(
        &self,
        paths: &[SourcePath],
        tokenizer: &Tokenizer,
        opening: &Opening<'_>,
    ) -> Result<Source, DataError> {
        for SourcePath { path, weight } in paths {
            if !(*weight > 0.0 && *weight <= MAX_WEIGHT) {
                let message = format!(
                    "the weight of {} is {weight}; it must be greater than 0 and at most \
                     {MAX_WEIGHT}, as 2.0 for twice an epoch",
                    path.display()
                );
                return Err(DataError::Config { field: "data.source", message });
            }
        }
        let files = Files::list(paths.iter().map(|source| source.path.as_path()))?;
        let prints = Prints::new(opening.cache, opening.watch).of(&files.files)?;
        let chat = match tokenizer {
            Tokenizer::Bytes => ChatTemplate::Plain,
            Tokenizer::HuggingFace(file) => ChatTemplate::beside(file.path()),
        };
        let reading = Reading { field: self.jsonl_field.clone(), bad_lines: self.bad_lines, chat };
        let weights: Vec<f64> = paths.iter().map(|source| source.weight).collect();
        let names: Vec<String> = paths.iter().map(described).collect();
        let content: String = prints
            .iter()
            .map(|print| format!("{} {}\n", print.blake3, ending(&print.path)))
            .chain([format!("{:?} {weights:?} {reading:?}", files.of_path)])
            .collect();
        Ok(Source {
            walk: Walk::Files { files, weights, reading },
            description: names.join(", "),
            prints,
            content: Some(content),
        })
    }
}

fn described(source: &SourcePath) -> String {
    let path: &Path = &source.path;
    match source.weight {
        1.0 => path.display().to_string(),
        weight => format!("{} ({weight} times)", path.display()),
    }
}

#[cfg(test)]
mod tests;
