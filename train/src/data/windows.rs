//! Windows of a token stream as Burn datasets: an endless shuffled one to train on, a fixed one to
//! validate on.

use burn_dataset::{Dataset, DatasetError};

use super::error::DataError;
use super::permutation::Permutation;
use super::seeded::{Stream, derive};
use super::tokens::Tokens;

/// A run of consecutive tokens: the model sees all but the last and predicts all but the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// `seq_len + 1` tokens.
    pub tokens: Vec<u32>,
    /// The global sample index in training; the window's index in validation.
    pub sample: u64,
}

/// The windows to train on: a sample index, counted from the start of the run, stands for one
/// window.
///
/// Sample i is in epoch e = i / n of n windows. An epoch's windows lie side by side from a random
/// offset below `seq_len` drawn from (seed, e), so that windows begin elsewhere each epoch, and are
/// visited in a random order drawn from (seed, e). Neighbours share one token, so each token is
/// predicted once. An epoch leaves out fewer than 2 `seq_len` tokens, at the stream's ends. Nothing
/// but the sample index needs to be stored to resume.
#[derive(Debug, Clone)]
pub struct TrainWindows {
    tokens: Tokens,
    seq_len: usize,
    seed: u64,
    windows: u64,
}

impl TrainWindows {
    /// Lays windows of `seq_len + 1` tokens over a stream.
    ///
    /// # Errors
    /// [`DataError::Config`] where `seq_len` is 0; [`DataError::TooShort`] where the stream is
    /// shorter than a window.
    pub fn new(tokens: Tokens, seq_len: usize, seed: u64) -> Result<Self, DataError> {
        check_length(&tokens, seq_len, "training")?;
        let windows = ((tokens.len() - seq_len) / seq_len).max(1) as u64;
        Ok(Self { tokens, seq_len, seed, windows })
    }

    /// The number of windows of an epoch, at least 1; the same in every epoch.
    pub fn windows_per_epoch(&self) -> u64 {
        self.windows
    }

    /// The tokens a window predicts.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// The epoch that a sample is in, from 0.
    pub fn epoch(&self, sample: u64) -> u64 {
        sample / self.windows
    }

    /// Where in the stream a sample's window begins, in tokens.
    pub fn start(&self, sample: u64) -> usize {
        let epoch_seed = derive(self.seed, self.epoch(sample));
        let spare = self.tokens.len() - 1 - self.windows as usize * self.seq_len;
        let offset = Stream::new(epoch_seed).below(spare.min(self.seq_len - 1) + 1);
        let order = Permutation::new(self.windows, epoch_seed);
        let index =
            order.get(sample % self.windows).expect("invariant: a remainder is below its divisor");
        offset + index as usize * self.seq_len
    }

    /// The window of a sample. There is one for every sample index: epochs follow each other
    /// without end.
    pub fn window(&self, sample: u64) -> Window {
        let start = self.start(sample);
        Window { tokens: self.tokens.get(start..start + self.seq_len + 1), sample }
    }

    /// The `count` samples from `start_sample` on as a dataset, in order, across epochs.
    ///
    /// Training that stopped after N samples goes on with `segment(N, ..)` as if it had not.
    pub fn segment(&self, start_sample: u64, count: usize) -> Segment {
        Segment { windows: self.clone(), start_sample, count }
    }
}

/// Consecutive samples of [`TrainWindows`] as a Burn dataset.
#[derive(Debug, Clone)]
pub struct Segment {
    windows: TrainWindows,
    start_sample: u64,
    count: usize,
}

impl Dataset<Window> for Segment {
    /// The window of sample `start_sample + index`.
    ///
    /// # Errors
    /// [`DataError::OutOfRange`] where the index is not below the length.
    fn get(&self, index: usize) -> Result<Window, DatasetError> {
        check_index(index, self.count)?;
        Ok(self.windows.window(self.start_sample.wrapping_add(index as u64)))
    }

    fn len(&self) -> usize {
        self.count
    }
}

/// The windows to validate on: consecutive, fixed; neighbours share one token, so each token is
/// predicted at most once.
///
/// The first token is not predicted, and a rest shorter than a window is left out.
#[derive(Debug, Clone)]
pub struct ValidWindows {
    tokens: Tokens,
    seq_len: usize,
}

impl ValidWindows {
    /// Lays windows of `seq_len + 1` tokens over a stream.
    ///
    /// # Errors
    /// [`DataError::Config`] where `seq_len` is 0; [`DataError::TooShort`] where the stream is
    /// shorter than a window.
    pub fn new(tokens: Tokens, seq_len: usize) -> Result<Self, DataError> {
        check_length(&tokens, seq_len, "validation")?;
        Ok(Self { tokens, seq_len })
    }

    /// The tokens a window predicts.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// The tokens of each window in turn.
    pub(super) fn windows(&self) -> impl Iterator<Item = Vec<u32>> {
        (0..self.len()).map(|index| self.window(index))
    }

    fn window(&self, index: usize) -> Vec<u32> {
        let start = index * self.seq_len;
        self.tokens.get(start..start + self.seq_len + 1)
    }

    /// The first windows only, at most `count`: a cheaper measurement on the same fixed tokens.
    pub fn first(&self, count: usize) -> Self {
        let windows = count.clamp(1, self.len());
        let end = windows * self.seq_len + 1;
        Self { tokens: self.tokens.first(end), seq_len: self.seq_len }
    }
}

impl Dataset<Window> for ValidWindows {
    /// The window that begins at token `index * seq_len`.
    ///
    /// # Errors
    /// [`DataError::OutOfRange`] where the index is not below the length.
    fn get(&self, index: usize) -> Result<Window, DatasetError> {
        check_index(index, self.len())?;
        Ok(Window { tokens: self.window(index), sample: index as u64 })
    }

    fn len(&self) -> usize {
        (self.tokens.len() - 1) / self.seq_len
    }
}

fn check_length(tokens: &Tokens, seq_len: usize, split: &'static str) -> Result<(), DataError> {
    if seq_len == 0 {
        return Err(DataError::Config {
            field: "train.seq_len",
            message: "is 0; it must be at least 1".to_string(),
        });
    }
    let needed = seq_len.saturating_add(1);
    if tokens.len() < needed {
        return Err(DataError::TooShort { split, tokens: tokens.len(), needed });
    }
    Ok(())
}

pub(super) fn check_index(index: usize, len: usize) -> Result<(), DatasetError> {
    if index >= len {
        return Err(DatasetError::new(DataError::OutOfRange { index, len }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tokens that say their own position.
    fn counting(len: u32) -> Tokens {
        (0..len).collect()
    }

    proptest! {
        /// In each epoch the windows lie side by side and cover all but the ends.
        #[test]
        fn an_epoch_covers_the_stream(
            len in 2u32..600, seq_len in 1usize..40, seed: u64, epoch in 0u64..5,
        ) {
            prop_assume!(len as usize > seq_len);
            let windows = TrainWindows::new(counting(len), seq_len, seed).unwrap();
            let n = windows.windows_per_epoch();
            let mut starts: Vec<usize> =
                (epoch * n..(epoch + 1) * n).map(|s| windows.start(s)).collect();
            starts.sort_unstable();
            prop_assert!(starts[0] < seq_len);
            prop_assert!(starts.windows(2).all(|pair| pair[1] == pair[0] + seq_len));
            let end = starts[starts.len() - 1] + seq_len;
            prop_assert!(end < len as usize);
            prop_assert!(len as usize - 1 - n as usize * seq_len < 2 * seq_len);
        }

        #[test]
        fn resuming_equals_going_on(
            len in 20u32..300, seq_len in 1usize..10, seed: u64, cut in 0usize..100,
        ) {
            let windows = TrainWindows::new(counting(len), seq_len, seed).unwrap();
            let whole: Vec<Window> = windows.segment(0, 100).iter().map(Result::unwrap).collect();
            let again = TrainWindows::new(counting(len), seq_len, seed).unwrap();
            let rest: Vec<Window> =
                again.segment(cut as u64, 100 - cut).iter().map(Result::unwrap).collect();
            prop_assert_eq!(&whole[cut..], &rest[..]);
            for (index, window) in whole.iter().enumerate() {
                prop_assert_eq!(window.sample, index as u64);
                prop_assert_eq!(window.tokens.len(), seq_len + 1);
                prop_assert!(window.tokens.windows(2).all(|pair| pair[1] == pair[0] + 1));
            }
        }

        #[test]
        fn validation_is_consecutive(len in 2u32..300, seq_len in 1usize..20) {
            prop_assume!(len as usize > seq_len);
            let windows = ValidWindows::new(counting(len), seq_len).unwrap();
            let predicted: Vec<u32> =
                windows.iter().flat_map(|w| w.unwrap().tokens[1..].to_vec()).collect();
            let copied: Vec<Vec<u32>> = windows.iter().map(|w| w.unwrap().tokens).collect();
            prop_assert_eq!(copied, windows.windows().collect::<Vec<_>>());
            prop_assert_eq!(&predicted, &(1..=predicted.len() as u32).collect::<Vec<_>>());
            prop_assert!(len as usize - 1 - predicted.len() < seq_len);
        }
    }

    #[test]
    fn epochs_differ_in_offset_and_order() {
        let windows = TrainWindows::new(counting(10_000), 32, 7).unwrap();
        let n = windows.windows_per_epoch();
        let epoch =
            |e: u64| -> Vec<usize> { (e * n..(e + 1) * n).map(|s| windows.start(s)).collect() };
        let offsets: std::collections::HashSet<usize> = (0..50).map(|e| epoch(e)[0] % 32).collect();
        assert!(offsets.len() > 20, "{offsets:?}");
        assert_ne!(epoch(0), epoch(1));
        assert_eq!((windows.epoch(n - 1), windows.epoch(n)), (0, 1));
        let other = TrainWindows::new(counting(10_000), 32, 8).unwrap();
        assert_ne!(epoch(0), (0..n).map(|s| other.start(s)).collect::<Vec<_>>());
    }

    #[test]
    fn the_shortest_stream_has_one_window_in_each_epoch() {
        let windows = TrainWindows::new(counting(9), 8, 0).unwrap();
        assert_eq!(windows.windows_per_epoch(), 1);
        assert_eq!(windows.window(u64::MAX).tokens, (0..9).collect::<Vec<_>>());
        assert_eq!(ValidWindows::new(counting(9), 8).unwrap().len(), 1);
    }

    #[test]
    fn first_is_a_prefix() {
        let windows = ValidWindows::new(counting(100), 8).unwrap();
        assert_eq!(windows.first(3).len(), 3);
        assert_eq!(windows.first(3).get(2).unwrap(), windows.get(2).unwrap());
        assert_eq!((windows.first(0).len(), windows.first(1000).len()), (1, windows.len()));
    }

    #[test]
    fn errors_say_the_numbers() {
        let message =
            |len, seq_len| TrainWindows::new(counting(len), seq_len, 0).unwrap_err().to_string();
        assert_eq!(message(9, 0), "train.seq_len: is 0; it must be at least 1");
        assert_eq!(
            message(8, 8),
            "the training split has 8 tokens, fewer than one window of seq_len + 1 = 9; \
             give more text, a shorter seq_len, or another valid_fraction"
        );
        assert!(message(8, usize::MAX).contains("has 8 tokens"));
        let found = ValidWindows::new(counting(0), 8).unwrap_err().to_string();
        assert!(found.starts_with("the validation split has 0 tokens"), "{found}");
        let segment = TrainWindows::new(counting(9), 8, 0).unwrap().segment(5, 2);
        assert_eq!(
            segment.get(2).unwrap_err().to_string(),
            "window 2 was asked for, but there are 2"
        );
        let valid = ValidWindows::new(counting(9), 8).unwrap();
        assert_eq!(
            valid.get(1).unwrap_err().to_string(),
            "window 1 was asked for, but there are 1"
        );
    }
}
