//! What a message between processes says: numbers in one buffer, and long tensors beside it, which
//! travel as they are and become tensors again where they arrive, without a copy on either side.

use burn::tensor::{Bytes, DType, Device, TensorData};

use super::packed::{Packed, Unpacking, dtype_at, place_of};

/// Tensors of so many bytes travel beside the numbers: a message more costs less than a copy then.
const LONG_BYTES: usize = 1 << 14;

/// What a message says.
#[derive(Debug, Default)]
pub struct Contents {
    /// Numbers, and tensors that are short.
    pub head: Vec<u8>,
    /// The bytes of tensors that are long, in the order in which the numbers speak of them.
    pub enclosed: Vec<Bytes>,
}

impl Contents {
    /// Appends a tensor's values.
    pub(super) fn add(&mut self, data: TensorData) {
        (place_of(data.dtype()) as u8).pack(&mut self.head);
        for dim in data.shape().iter() {
            dim.pack(&mut self.head);
        }
        let bytes = data.into_bytes();
        match bytes.len() < LONG_BYTES {
            true => self.head.extend_from_slice(&bytes),
            false => self.enclosed.push(bytes),
        }
    }
}

/// What is taken off a message.
#[derive(Debug)]
pub struct Reading<'a> {
    /// Of the numbers.
    pub head: Unpacking<'a>,
    enclosed: std::vec::IntoIter<Bytes>,
}

impl<'a> Reading<'a> {
    /// From the beginning; tensors go to `device`.
    pub(super) fn new(head: &'a [u8], enclosed: Vec<Bytes>, device: &'a Device) -> Self {
        Self { head: Unpacking::new(head, device), enclosed: enclosed.into_iter() }
    }

    /// A tensor's values, and their type; none where there are no such.
    pub(super) fn take<const D: usize>(&mut self) -> Option<(TensorData, DType)> {
        let dtype = dtype_at(u8::unpack(&mut self.head)?)?;
        let mut dims = [0; D];
        for dim in &mut dims {
            *dim = usize::unpack(&mut self.head)?;
        }
        let count = dims.iter().try_fold(dtype.size(), |bytes, dim| bytes.checked_mul(*dim))?;
        let bytes = match count < LONG_BYTES {
            true => Bytes::from_bytes_vec(self.head.take(count)?.to_vec()),
            false => self.enclosed.next().filter(|bytes| bytes.len() == count)?,
        };
        Some((TensorData::from_bytes(bytes, dims, dtype), dtype))
    }

    /// Whether all of it has been taken.
    pub(super) fn is_over(&self) -> bool {
        self.head.rest().is_empty() && self.enclosed.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;
    use burn::tensor::Tensor;

    fn contents<T: Message>(message: T) -> Contents {
        let mut contents = Contents::default();
        message.write(&mut contents);
        contents
    }

    fn read<T: Message>(contents: Contents) -> Option<T> {
        let device = Device::flex();
        let Contents { head, enclosed } = contents;
        let mut reading = Reading::new(&head, enclosed, &device);
        T::read(&mut reading).filter(|_| reading.is_over())
    }

    /// Short tensors and long ones, to the bit; the long ones' bytes are not copied on the way.
    #[test]
    fn tensors_arrive_as_they_were_sent() {
        let device = Device::flex();
        for rows in [0, 3, LONG_BYTES / 8, LONG_BYTES] {
            let values: Vec<f32> = (0..2 * rows).map(|i| f32::from_bits(i as u32 * 77)).collect();
            let x = Tensor::<2>::from_data(TensorData::new(values, [rows, 2]), &device);
            let want = x.clone().into_data();
            let sent = contents(Some(x));
            assert_eq!(sent.enclosed.len(), usize::from(8 * rows >= LONG_BYTES));
            let address = sent.enclosed.first().map(|bytes| bytes.as_ptr());
            let got = read::<Option<Tensor<2>>>(sent).unwrap().unwrap().into_data();
            assert_eq!(got.as_bytes(), want.as_bytes());
            if let Some(address) = address {
                assert_eq!(got.as_bytes().as_ptr(), address, "copied on arrival");
            }
        }
        assert!(read::<Option<Tensor<2>>>(contents(None::<Tensor<2>>)).unwrap().is_none());
    }

    /// What belongs to no tensor, or is too little for one, is no message.
    #[test]
    fn what_does_not_fit_is_nothing() {
        let device = Device::flex();
        let long = || contents(Tensor::<1>::zeros([LONG_BYTES], &device));
        assert!(read::<Tensor<1>>(long()).is_some());
        let spoilt: [fn(&mut Contents); 5] = [
            |sent| sent.enclosed.clear(),
            |sent| sent.enclosed.push(Bytes::from_bytes_vec(vec![1])),
            |sent| sent.enclosed[0] = Bytes::from_bytes_vec(vec![1]),
            |sent| sent.head.push(0),
            |sent| sent.head.truncate(3),
        ];
        for spoil in spoilt {
            let mut sent = long();
            spoil(&mut sent);
            assert!(read::<Tensor<1>>(sent).is_none());
        }
    }
}
