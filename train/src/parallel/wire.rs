//! Rows between ranks: what they travel in, and how a rank makes them and reads them.

use std::sync::Arc;

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};
use burn_deepseek::backend::supports_fp8;
use burn_deepseek::ops;
use burn_deepseek::ops::wire::{self, RowSums, WireFormat};

use super::contents::{Contents, Reading};
use super::packed::Packed;

/// What rows travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireFormats {
    /// To experts: activations, and the gradients of results.
    pub dispatch: WireFormat,
    /// Back to tokens: results, and the gradients of activations. FP8 is not for sums (3.2.2).
    pub combine: WireFormat,
}

/// Rows under way.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    /// Rows as words of the wire's format.
    Words(Tensor<2, Int>),
    /// Rows as floating-point values, for devices without operations on words.
    Values(Tensor<2>),
}

impl Rows {
    /// Bytes that cross a link.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Words(words) => words.dims().iter().product::<usize>() * size_of::<u32>(),
            Self::Values(values) => values.dims().iter().product::<usize>() * values.dtype().size(),
        }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        match self {
            Self::Words(words) => words.dims()[0],
            Self::Values(values) => values.dims()[0],
        }
    }

    fn narrow(&self, first: usize, count: usize) -> Self {
        match self {
            Self::Words(words) => Self::Words(words.clone().narrow(0, first, count)),
            Self::Values(values) => Self::Values(values.clone().narrow(0, first, count)),
        }
    }

    /// Consecutive runs of so many rows; none of an empty run.
    pub fn cut(&self, counts: impl IntoIterator<Item = usize>) -> Vec<Option<Self>> {
        let mut first = 0;
        let run = |count: usize| {
            let run = (count > 0).then(|| self.narrow(first, count));
            first += count;
            run
        };
        counts.into_iter().map(run).collect()
    }

    /// Rows by index; none of none.
    pub fn select(&self, index: &[u32]) -> Option<Self> {
        if index.is_empty() {
            return None;
        }
        Some(match self {
            Self::Words(words) => {
                Self::Words(words.clone().select(0, int_tensor(index, &words.device())))
            }
            Self::Values(values) => {
                Self::Values(values.clone().select(0, int_tensor(index, &values.device())))
            }
        })
    }

    /// Appends the rows to what another process is sent.
    pub fn write(self, into: &mut Contents) {
        matches!(self, Self::Words(_)).pack(&mut into.head);
        into.add(match self {
            Self::Words(words) => words.into_data(),
            Self::Values(values) => values.into_data(),
        });
    }

    /// Takes rows off what another process has sent.
    pub fn read(from: &mut Reading) -> Option<Self> {
        let words = bool::unpack(&mut from.head)?;
        let (data, dtype) = from.take::<2>()?;
        let place = (from.head.device(), dtype);
        Some(match words {
            true => Self::Words(Tensor::from_data(data, place)),
            false => Self::Values(Tensor::from_data(data, place)),
        })
    }

    /// The rows on another device.
    pub fn to_device(&self, device: &Device) -> Self {
        match self {
            Self::Words(words) => Self::Words(ops::moved(words.clone(), device)),
            Self::Values(values) => Self::Values(ops::moved(values.clone(), device)),
        }
    }

    /// What has arrived in several parcels, in their order; none where all were empty.
    pub fn joined(parcels: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        let (mut words, mut values) = (Vec::new(), Vec::new());
        for rows in parcels.into_iter().flatten() {
            match rows {
                Self::Words(rows) => words.push(rows),
                Self::Values(rows) => values.push(rows),
            }
        }
        assert!(
            words.is_empty() || values.is_empty(),
            "invariant: the ranks that share experts agree on what rows are"
        );
        match (words.len(), values.len()) {
            (0, 0) => None,
            (1, _) => words.pop().map(Self::Words),
            (_, 1) => values.pop().map(Self::Values),
            (_, 0) => Some(Self::Words(Tensor::cat(words, 0))),
            _ => Some(Self::Values(Tensor::cat(values, 0))),
        }
    }
}

/// Whether rows can travel as words between these devices: each must have the operations.
pub(super) fn words_between<'a>(mut devices: impl Iterator<Item = &'a Device>) -> bool {
    devices.all(supports_fp8)
}

/// How a rank makes rows of a width and reads them.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub as_words: bool,
    pub width: usize,
    pub device: Device,
}

impl Wire {
    /// Rows of x by index, permuted and cast in one go.
    pub fn pack(&self, x: Tensor<2>, index: &[u32], format: WireFormat) -> Option<Rows> {
        if index.is_empty() {
            return None;
        }
        if self.as_words {
            return Some(Rows::Words(wire::pack(x, index, format)));
        }
        let dtype = match format {
            WireFormat::F32 => DType::F32,
            WireFormat::Bf16 => DType::BF16,
            WireFormat::Fp8 => {
                unreachable!("invariant: FP8 is refused where a device has no operations for it")
            }
        };
        Some(Rows::Values(selected(x, index).cast(dtype)))
    }

    /// All rows of x.
    pub fn pack_all(&self, x: Tensor<2>, format: WireFormat) -> Option<Rows> {
        let index = identity(x.dims()[0]);
        self.pack(x, &index, format)
    }

    /// Rows that have arrived, by index, in FP32.
    pub fn unpack(&self, rows: Option<Rows>, index: &[u32], format: WireFormat) -> Tensor<2> {
        match rows {
            None => Tensor::zeros([index.len(), self.width], &self.device),
            Some(Rows::Words(words)) => wire::unpack(words, index, self.width, format),
            Some(Rows::Values(values)) => selected(values.cast(DType::F32), index),
        }
    }

    /// Sums of rows that have arrived, in FP32.
    pub fn sum(&self, rows: Option<Rows>, sums: &Arc<RowSums>, format: WireFormat) -> Tensor<2> {
        match rows {
            None => Tensor::zeros([sums.results(), self.width], &self.device),
            Some(Rows::Words(words)) => wire::sum(words, sums, self.width, format),
            Some(Rows::Values(values)) => self.added(values.cast(DType::F32), sums),
        }
    }

    /// Sums of rows that are here.
    pub fn sum_values(&self, x: Tensor<2>, sums: &Arc<RowSums>) -> Tensor<2> {
        if self.as_words { wire::sum_values(x, sums) } else { self.added(x, sums) }
    }

    fn added(&self, x: Tensor<2>, sums: &RowSums) -> Tensor<2> {
        let zeros = Tensor::zeros([sums.results(), self.width], &self.device);
        if sums.terms() == 0 {
            return zeros;
        }
        let results: Vec<u32> =
            (0..sums.results()).flat_map(|t| sums.terms_of(t).map(move |_| t as u32)).collect();
        zeros.select_assign(
            0,
            int_tensor(&results, &self.device),
            selected(x, sums.rows()),
            IndexingUpdateOp::Add,
        )
    }
}

/// `0..count`.
pub(super) fn identity(count: usize) -> Vec<u32> {
    (0..count as u32).collect()
}

fn selected(x: Tensor<2>, index: &[u32]) -> Tensor<2> {
    if index.len() == x.dims()[0] && index.iter().enumerate().all(|(i, &from)| i == from as usize) {
        return x;
    }
    let device = x.device();
    x.select(0, int_tensor(index, &device))
}

fn int_tensor(index: &[u32], device: &Device) -> Tensor<1, Int> {
    let index: Vec<i64> = index.iter().map(|&i| i64::from(i)).collect();
    let count = index.len();
    Tensor::from_data(TensorData::new(index, [count]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_values_are_the_same_rows() {
        let device = Device::flex();
        let x = Tensor::<2>::from_data([[1.5, -2.0, 3.0], [4.0, 5.5, -6.0]], &device);
        let sums = Arc::new(RowSums::of_gather(&[1, 0, 1], 3).unwrap());
        for format in [WireFormat::F32, WireFormat::Bf16] {
            let [words, values] = [true, false].map(|as_words| {
                let wire = Wire { as_words, width: 3, device: device.clone() };
                let rows = wire.pack(x.clone(), &[1, 0, 1], format).unwrap();
                let parts = rows.cut([1, 0, 2]);
                assert!(parts[1].is_none());
                let joined = Rows::joined(parts.into_iter().rev()).unwrap().select(&[2, 0, 1]);
                let values = |x: Tensor<2>| x.into_data().try_to_vec::<f32>().unwrap();
                assert_eq!(values(wire.unpack(None, &[], format)), [0f32; 0]);
                let back = values(wire.unpack(joined.clone(), &[0, 1], format));
                (
                    back,
                    values(wire.sum(joined, &sums, format)),
                    values(wire.sum_values(Tensor::ones([3, 3], &device), &sums)),
                )
            });
            assert_eq!(words, values);
            assert_eq!(words.0, [4.0, 5.5, -6.0, 1.5, -2.0, 3.0]);
            assert_eq!(words.1, [1.5, -2.0, 3.0, 8.0, 11.0, -12.0, 0.0, 0.0, 0.0]);
            assert_eq!(words.2, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0]);
        }
    }
}
