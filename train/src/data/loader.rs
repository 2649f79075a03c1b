//! Micro-batches of windows as Burn data loaders, in the datasets' order.
//!
//! The loaders run without worker threads. Burn's threaded loader (0.22.1) gives each worker a
//! contiguous part of the dataset and yields batches as they arrive, so with two or more workers
//! the order is neither the dataset's nor the same twice, and a sample index would no longer say
//! what was consumed. A micro-batch is a copy of a few thousand integers: there is nothing to gain
//! from threads.

use std::num::NonZeroUsize;
use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_dataset::{Dataset, DatasetError};
use burn_deepseek::Compute;
use burn_deepseek::routing::RoutingControl;

use super::windows::{TrainWindows, ValidWindows, Window, check_index};

/// A micro-batch: what the model reads and what it must predict.
#[derive(Debug, Clone)]
pub struct TokenBatch {
    /// Token ids, `[batch, seq_len]`.
    pub inputs: Tensor<2, Int>,
    /// The token after each input, `[batch, seq_len]`.
    pub targets: Tensor<2, Int>,
    /// The number of targets, batch * seq_len.
    pub tokens: usize,
    /// The windows that it was made of.
    pub windows: Arc<[Window]>,
    /// What is asked of the routers that see it; a loader asks nothing.
    pub routing: Option<RoutingControl>,
}

impl TokenBatch {
    /// A micro-batch by the numbers of its windows, without their tokens: for whoever has it read
    /// by others.
    pub fn unread(samples: Vec<u64>, tokens: usize, device: &Device) -> Self {
        let nothing = Tensor::zeros([samples.len(), 0], (device, DType::I64));
        let windows = samples.into_iter().map(|sample| Window { tokens: Vec::new(), sample });
        Self {
            inputs: nothing.clone(),
            targets: nothing,
            tokens,
            windows: windows.collect(),
            routing: None,
        }
    }

    /// Whether it has the numbers of its windows alone.
    pub fn is_unread(&self) -> bool {
        self.windows.first().is_some_and(|window| window.tokens.is_empty())
    }

    /// How the micro-batch is computed: as any other, with what is asked of its routers.
    pub fn asking(&self, compute: &Compute) -> Compute {
        match &self.routing {
            Some(routing) => compute.with_routing(routing.clone()),
            None => compute.clone(),
        }
    }
}

/// Turns windows of `seq_len + 1` tokens into a [`TokenBatch`].
#[derive(Debug, Clone, Copy)]
pub struct TokenBatcher {
    seq_len: usize,
}

impl TokenBatcher {
    /// A batcher of windows that predict `seq_len` tokens.
    pub fn new(seq_len: usize) -> Self {
        Self { seq_len }
    }
}

impl Batcher<Window, TokenBatch> for TokenBatcher {
    /// # Shapes
    /// n windows of `seq_len + 1` tokens -> inputs and targets `[n, seq_len]`.
    ///
    /// # Panics
    /// Where a window has another length: the datasets of this module make none.
    fn batch(&self, windows: Vec<Window>, device: &Device) -> TokenBatch {
        let shape = [windows.len(), self.seq_len];
        let tokens = windows.len() * self.seq_len;
        let mut inputs = Vec::with_capacity(tokens);
        let mut targets = Vec::with_capacity(tokens);
        for window in &windows {
            assert_eq!(
                window.tokens.len(),
                self.seq_len + 1,
                "invariant: a window has seq_len + 1 tokens"
            );
            let ids = window.tokens.iter().map(|&id| i64::from(id));
            inputs.extend(ids.clone().take(self.seq_len));
            targets.extend(ids.skip(1));
        }
        TokenBatch {
            inputs: Tensor::from_data(TensorData::new(inputs, shape), device),
            targets: Tensor::from_data(TensorData::new(targets, shape), device),
            tokens,
            windows: windows.into(),
            routing: None,
        }
    }
}

/// Loads the `count` samples from `start_sample` on in micro-batches; the last may be smaller.
pub fn train_loader(
    windows: &TrainWindows,
    start_sample: u64,
    count: usize,
    micro_batch: NonZeroUsize,
    device: &Device,
) -> Arc<dyn DataLoader<TokenBatch>> {
    loader(windows.segment(start_sample, count), windows.seq_len(), micro_batch, device)
}

/// The micro-batches of [`train_loader`] by the numbers of their samples: nothing of the text is
/// read.
pub fn numbered_loader(
    seq_len: usize,
    start_sample: u64,
    count: usize,
    micro_batch: NonZeroUsize,
    device: &Device,
) -> Arc<dyn DataLoader<TokenBatch>> {
    DataLoaderBuilder::new(Numbering { seq_len })
        .batch_size(micro_batch.get())
        .num_workers(0)
        .set_device(device.clone())
        .build(Numbers { start_sample, count })
}

/// Samples by their numbers.
struct Numbers {
    start_sample: u64,
    count: usize,
}

impl Dataset<Window> for Numbers {
    fn get(&self, index: usize) -> Result<Window, DatasetError> {
        check_index(index, self.count)?;
        Ok(Window { tokens: Vec::new(), sample: self.start_sample.wrapping_add(index as u64) })
    }

    fn len(&self) -> usize {
        self.count
    }
}

/// Makes micro-batches that are not read.
struct Numbering {
    seq_len: usize,
}

impl Batcher<Window, TokenBatch> for Numbering {
    fn batch(&self, windows: Vec<Window>, device: &Device) -> TokenBatch {
        let samples: Vec<u64> = windows.into_iter().map(|window| window.sample).collect();
        let tokens = samples.len() * self.seq_len;
        TokenBatch::unread(samples, tokens, device)
    }
}

/// Loads the validation windows in micro-batches; the last may be smaller, so weigh losses by
/// [`TokenBatch::tokens`].
pub fn valid_loader(
    windows: &ValidWindows,
    micro_batch: NonZeroUsize,
    device: &Device,
) -> Arc<dyn DataLoader<TokenBatch>> {
    loader(windows.clone(), windows.seq_len(), micro_batch, device)
}

fn loader<D: Dataset<Window> + 'static>(
    dataset: D,
    seq_len: usize,
    micro_batch: NonZeroUsize,
    device: &Device,
) -> Arc<dyn DataLoader<TokenBatch>> {
    DataLoaderBuilder::new(TokenBatcher::new(seq_len))
        .batch_size(micro_batch.get())
        .num_workers(0)
        .set_device(device.clone())
        .build(dataset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(tensor: &Tensor<2, Int>) -> Vec<i64> {
        tensor.to_data().iter::<i64>().collect()
    }

    fn micro_batch(size: usize) -> NonZeroUsize {
        NonZeroUsize::new(size).unwrap()
    }

    #[test]
    fn targets_are_the_next_tokens() {
        let windows = [vec![1u32, 2, 3], vec![7, 8, 129_279]];
        let windows = windows.into_iter().map(|tokens| Window { tokens, sample: 0 }).collect();
        let batch = TokenBatcher::new(2).batch(windows, &Device::flex());
        assert_eq!(batch.inputs.dims(), [2, 2]);
        assert_eq!(ids(&batch.inputs), [1, 2, 7, 8]);
        assert_eq!(ids(&batch.targets), [2, 3, 8, 129_279]);
        assert_eq!(batch.tokens, 4);
    }

    /// Loaders must hand out samples in order and again from the start, or a resumed run would see
    /// other data.
    #[test]
    fn loaders_keep_the_order_of_samples_and_repeat() {
        let windows = TrainWindows::new((0..1_000).collect(), 8, 3).unwrap();
        let loader = train_loader(&windows, 100, 50, micro_batch(4), &Device::flex());
        let expected: Vec<i64> = (100..150)
            .flat_map(|s| windows.window(s).tokens[..8].to_vec())
            .map(i64::from)
            .collect();
        for _ in 0..2 {
            let batches: Vec<TokenBatch> = loader.iter().map(Result::unwrap).collect();
            assert_eq!(batches.len(), 13);
            assert_eq!((batches[0].tokens, batches[12].tokens), (32, 16));
            assert_eq!(batches.iter().flat_map(|b| ids(&b.inputs)).collect::<Vec<_>>(), expected);
        }
        assert_eq!(loader.num_items(), 50);
    }

    /// The micro-batch size decides how samples are grouped, never which ones are consumed.
    #[test]
    fn resuming_with_another_micro_batch_gives_the_same_samples() {
        let windows = TrainWindows::new((0..500).collect(), 8, 3).unwrap();
        let read = |start, count, size| -> Vec<i64> {
            let loader = train_loader(&windows, start, count, micro_batch(size), &Device::flex());
            loader.iter().flat_map(|batch| ids(&batch.unwrap().targets)).collect()
        };
        let whole = read(0, 120, 4);
        assert_eq!([read(0, 60, 4), read(60, 60, 5)].concat(), whole);
    }

    /// Numbered micro-batches stand for those that are read.
    #[test]
    fn numbers_stand_for_the_same_samples() {
        let windows = TrainWindows::new((0..1_000).collect(), 8, 3).unwrap();
        let device = Device::flex();
        let read = train_loader(&windows, 100, 50, micro_batch(4), &device);
        let numbered = numbered_loader(8, 100, 50, micro_batch(4), &device);
        let samples = |batch: &TokenBatch| -> Vec<u64> {
            batch.windows.iter().map(|window| window.sample).collect()
        };
        let pairs: Vec<_> = read.iter().zip(numbered.iter()).collect();
        assert_eq!(pairs.len(), 13);
        for (read, numbered) in pairs {
            let (read, numbered) = (read.unwrap(), numbered.unwrap());
            assert!(numbered.is_unread() && !read.is_unread());
            assert_eq!((samples(&read), read.tokens), (samples(&numbered), numbered.tokens));
        }
    }

    #[test]
    fn validation_reads_the_stream_in_order() {
        let windows = ValidWindows::new((0..100).collect(), 9).unwrap();
        let loader = valid_loader(&windows, micro_batch(4), &Device::flex());
        let inputs: Vec<i64> = loader.iter().flat_map(|b| ids(&b.unwrap().inputs)).collect();
        assert_eq!(inputs, (0..99).collect::<Vec<i64>>());
    }
}
