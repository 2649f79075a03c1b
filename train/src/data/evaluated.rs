//! Data to measure a model on: a run's held-out split, or other files as a whole.

use std::path::PathBuf;

use burn_dataset::{Dataset, DatasetError};

use super::config::DataConfig;
use super::error::DataError;
use super::fingerprint::DataFingerprint;
use super::open::TokenData;
use super::prepare::Opening;
use super::summary::SplitSummary;
use super::tokenizer::Tokenizer;
use super::windows::{ValidWindows, Window};

/// Windows that are measured once each, in order.
#[derive(Debug, Clone)]
pub struct EvalData {
    /// What it is, for people: the paths, or the run's source.
    pub description: String,
    /// What its tokens are of.
    pub tokenizer: Tokenizer,
    /// Counts of the data.
    pub summary: SplitSummary,
    windows: Option<ValidWindows>,
    /// What is left after the last whole window, at least two tokens.
    rest: Option<Window>,
    held_out: Option<TokenData>,
}

impl EvalData {
    /// The windows that a run's evaluations take their first ones from.
    ///
    /// # Errors
    /// As [`DataConfig::open`].
    pub fn held_out(
        config: &DataConfig,
        seq_len: usize,
        vocab_size: usize,
        opening: &Opening<'_>,
    ) -> Result<Self, DataError> {
        let data = config.open_with(seq_len, vocab_size, opening)?;
        Ok(Self {
            description: format!("held out from {}", data.summary.source),
            tokenizer: data.tokenizer.clone(),
            summary: data.summary.valid.clone(),
            windows: Some(data.valid.clone()),
            rest: None,
            held_out: Some(data),
        })
    }

    /// All of other files, with the run's tokenizer: nothing is held back, and the last window may
    /// be shorter.
    ///
    /// # Errors
    /// [`DataError`] naming the file: anything unreadable or not text, a tokenizer with more ids
    /// than `vocab_size`, less than two tokens.
    pub fn whole(
        config: &DataConfig,
        paths: &[PathBuf],
        seq_len: usize,
        vocab_size: usize,
        opening: &Opening<'_>,
    ) -> Result<Self, DataError> {
        let tokenizer = config.open_tokenizer()?;
        tokenizer.check_vocab_size(vocab_size)?;
        let (stream, description) = config.open_whole(paths, &tokenizer, opening)?;
        let whole = (stream.tokens.len() - 1) / seq_len.max(1);
        let rest = stream.tokens.get(whole * seq_len..stream.tokens.len());
        let windows =
            if whole > 0 { Some(ValidWindows::new(stream.tokens.clone(), seq_len)?) } else { None };
        if windows.is_none() && rest.len() < 2 {
            return Err(DataError::TooShort { split: "evaluation", tokens: rest.len(), needed: 2 });
        }
        Ok(Self {
            description,
            tokenizer,
            summary: (&stream).into(),
            windows,
            rest: (rest.len() >= 2).then_some(Window { tokens: rest, sample: whole as u64 }),
            held_out: None,
        })
    }

    /// What the data of the run is made of, where it is the run's.
    pub fn fingerprint(&self) -> Option<&DataFingerprint> {
        self.held_out.as_ref().map(|data| &data.fingerprint)
    }

    /// Windows in micro-batches of equally long ones.
    pub fn batches(
        &self,
        micro_batch: usize,
    ) -> impl ExactSizeIterator<Item = Result<Vec<Window>, DatasetError>> {
        let micro_batch = micro_batch.max(1);
        let whole = self.windows.as_ref().map_or(0, Dataset::len);
        let whole_batches = whole.div_ceil(micro_batch);
        (0..whole_batches + usize::from(self.rest.is_some())).map(move |batch| {
            match (&self.windows, &self.rest) {
                (Some(windows), _) if batch < whole_batches => {
                    let first = batch * micro_batch;
                    (first..(first + micro_batch).min(whole))
                        .map(|index| windows.get(index))
                        .collect()
                }
                (_, rest) => Ok(rest.iter().cloned().collect()),
            }
        })
    }

    /// The mean loss of a perfect model on the first `windows` windows, where it is known; see
    /// [`TokenData::window_floor`].
    pub fn window_floor(&self, windows: usize) -> Option<f64> {
        self.held_out.as_ref()?.window_floor(windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str, seq_len: usize) -> Result<EvalData, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, text).unwrap();
        EvalData::whole(&DataConfig::default(), &[path], seq_len, 260, &Opening::default())
    }

    fn predicted(data: &EvalData, micro_batch: usize) -> Vec<Vec<usize>> {
        data.batches(micro_batch)
            .map(|batch| batch.unwrap().iter().map(|window| window.tokens.len() - 1).collect())
            .collect()
    }

    /// Every token but the first is predicted, the short rest too.
    #[test]
    fn all_of_a_file_is_measured() {
        assert_eq!(predicted(&whole("0123456789", 3).unwrap(), 2), [vec![3, 3], vec![3], vec![1]]);
        assert_eq!(predicted(&whole("012345678", 3).unwrap(), 2), [vec![3, 3], vec![3]]);
        assert_eq!(predicted(&whole("0", 3).unwrap(), 2), [vec![1]]);
        let data = whole("0123456789", 3).unwrap();
        let tokens: Vec<u32> = data
            .batches(2)
            .flat_map(|batch| batch.unwrap())
            .flat_map(|window| window.tokens[1..].to_vec())
            .collect();
        assert_eq!(tokens, "123456789".bytes().map(u32::from).chain([256]).collect::<Vec<_>>());
        assert_eq!(data.window_floor(9), None);
    }

    #[test]
    fn the_held_out_split_is_that_of_the_run() {
        let config = DataConfig { builtin_bytes: 4_000, ..DataConfig::default() };
        let data = EvalData::held_out(&config, 16, 260, &Opening::default()).unwrap();
        let run = config.open(16, 260).unwrap();
        let windows: Vec<Window> = data.batches(5).flat_map(|batch| batch.unwrap()).collect();
        assert_eq!(windows, run.valid.iter().map(Result::unwrap).collect::<Vec<_>>());
        assert_eq!(data.window_floor(4), run.window_floor(4));
        assert!(data.window_floor(4).is_some());
    }
}
