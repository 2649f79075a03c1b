//! Values as bytes, for ranks in other processes: what one of them packs, another one of the same
//! release unpacks, to the bit.

use std::time::Duration;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// What can travel between processes.
pub trait Packed: Sized {
    /// Appends the value to `into`; what is on a device is read from it.
    fn pack(&self, into: &mut Vec<u8>);

    /// Takes a value off the front of `from`; none where the bytes are not such a value.
    fn unpack(from: &mut Unpacking) -> Option<Self>;

    /// The value alone, as bytes.
    fn packed(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.pack(&mut bytes);
        bytes
    }

    /// A value that is all of `bytes`, its tensors on `device`.
    fn unpacked(bytes: &[u8], device: &Device) -> Option<Self> {
        let mut from = Unpacking { bytes, device };
        Self::unpack(&mut from).filter(|_| from.bytes.is_empty())
    }
}

/// Bytes that values are taken off, and where their tensors go.
#[derive(Debug)]
pub struct Unpacking<'a> {
    bytes: &'a [u8],
    device: &'a Device,
}

impl<'a> Unpacking<'a> {
    /// Of bytes that hold no tensor, or whose tensors go to `device`.
    pub fn new(bytes: &'a [u8], device: &'a Device) -> Self {
        Self { bytes, device }
    }

    /// What has not been taken.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where tensors go.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }
}

/// `packed!(Name { field, .. })` packs a struct field by field.
macro_rules! packed {
    ($name:ident { $($field:ident),+ $(,)? }) => {
        impl $crate::parallel::Packed for $name {
            fn pack(&self, into: &mut Vec<u8>) {
                let Self { $($field),+ } = self;
                $($crate::parallel::Packed::pack($field, into);)+
            }

            fn unpack(from: &mut $crate::parallel::Unpacking) -> Option<Self> {
                $(let $field = $crate::parallel::Packed::unpack(from)?;)+
                Some(Self { $($field),+ })
            }
        }
    };
}
pub(crate) use packed;

macro_rules! packed_numbers {
    ($($number:ty),+) => {
        $(impl Packed for $number {
            fn pack(&self, into: &mut Vec<u8>) {
                into.extend_from_slice(&self.to_le_bytes());
            }

            fn unpack(from: &mut Unpacking) -> Option<Self> {
                let bytes = from.take(size_of::<Self>())?;
                Some(Self::from_le_bytes(bytes.try_into().ok()?))
            }
        })+
    };
}
packed_numbers!(u8, u32, u64, f32, f64);

impl Packed for usize {
    fn pack(&self, into: &mut Vec<u8>) {
        (*self as u64).pack(into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        u64::unpack(from)?.try_into().ok()
    }
}

impl Packed for bool {
    fn pack(&self, into: &mut Vec<u8>) {
        u8::from(*self).pack(into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        match u8::unpack(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Packed for () {
    fn pack(&self, _: &mut Vec<u8>) {}

    fn unpack(_: &mut Unpacking) -> Option<Self> {
        Some(())
    }
}

impl Packed for Duration {
    fn pack(&self, into: &mut Vec<u8>) {
        (self.as_secs(), self.subsec_nanos()).pack(into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        let (seconds, nanos) = <(u64, u32)>::unpack(from)?;
        (nanos < 1_000_000_000).then(|| Self::new(seconds, nanos))
    }
}

impl Packed for String {
    fn pack(&self, into: &mut Vec<u8>) {
        self.len().pack(into);
        into.extend_from_slice(self.as_bytes());
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        let length = usize::unpack(from)?;
        Self::from_utf8(from.take(length)?.to_vec()).ok()
    }
}

impl<A: Packed, B: Packed> Packed for (A, B) {
    fn pack(&self, into: &mut Vec<u8>) {
        self.0.pack(into);
        self.1.pack(into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        Some((A::unpack(from)?, B::unpack(from)?))
    }
}

impl<T: Packed> Packed for Option<T> {
    fn pack(&self, into: &mut Vec<u8>) {
        self.is_some().pack(into);
        if let Some(value) = self {
            value.pack(into);
        }
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        match bool::unpack(from)? {
            true => T::unpack(from).map(Some),
            false => Some(None),
        }
    }
}

impl<T: Packed> Packed for Vec<T> {
    fn pack(&self, into: &mut Vec<u8>) {
        self.len().pack(into);
        for value in self {
            value.pack(into);
        }
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        // No room is made for a count that is only claimed.
        let count = usize::unpack(from)?;
        let mut values = Self::with_capacity(count.min(1 << 16));
        for _ in 0..count {
            values.push(T::unpack(from)?);
        }
        Some(values)
    }
}

/// The types of tensors that travel, each by its place.
const DTYPES: [DType; 9] = [
    DType::F32,
    DType::BF16,
    DType::F16,
    DType::F64,
    DType::I64,
    DType::I32,
    DType::U64,
    DType::U32,
    DType::U8,
];

/// The place of a type.
pub(super) fn place_of(dtype: DType) -> usize {
    DTYPES
        .iter()
        .position(|known| *known == dtype)
        .unwrap_or_else(|| unreachable!("invariant: ranks send numbers, not {dtype:?}"))
}

/// The type at a place.
pub(super) fn dtype_at(place: u8) -> Option<DType> {
    DTYPES.get(usize::from(place)).copied()
}

fn pack_data(data: &TensorData, into: &mut Vec<u8>) {
    (place_of(data.dtype()) as u8).pack(into);
    for dim in data.shape().iter() {
        dim.pack(into);
    }
    into.extend_from_slice(data.as_bytes());
}

fn unpack_data<const D: usize>(from: &mut Unpacking) -> Option<(TensorData, DType)> {
    let dtype = dtype_at(u8::unpack(from)?)?;
    let mut dims = [0; D];
    for dim in &mut dims {
        *dim = usize::unpack(from)?;
    }
    let bytes = dims.iter().try_fold(dtype.size(), |bytes, dim| bytes.checked_mul(*dim))?;
    Some((TensorData::from_bytes_vec(from.take(bytes)?.to_vec(), dims, dtype), dtype))
}

impl<const D: usize> Packed for Tensor<D> {
    fn pack(&self, into: &mut Vec<u8>) {
        pack_data(&self.clone().into_data(), into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        let (data, dtype) = unpack_data::<D>(from)?;
        Some(Self::from_data(data, (from.device, dtype)))
    }
}

impl<const D: usize> Packed for Tensor<D, Int> {
    fn pack(&self, into: &mut Vec<u8>) {
        pack_data(&self.clone().into_data(), into);
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        let (data, dtype) = unpack_data::<D>(from)?;
        Some(Self::from_data(data, (from.device, dtype)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again<T: Packed>(value: &T) -> T {
        T::unpacked(&value.packed(), &Device::flex()).expect("what was packed")
    }

    #[derive(Debug, PartialEq)]
    struct Both {
        text: String,
        numbers: Vec<(u32, Option<f64>)>,
    }
    packed!(Both { text, numbers });

    #[test]
    fn values_come_out_as_they_went_in() {
        let both =
            Both { text: "größer".into(), numbers: vec![(7, None), (u32::MAX, Some(-0.0))] };
        assert_eq!(again(&both), both);
        let odd = [f32::NAN, f32::INFINITY, -0.0, f32::MIN_POSITIVE / 2.0];
        for value in odd {
            assert_eq!(again(&value).to_bits(), value.to_bits());
        }
        let time = Duration::new(3, 999_999_999);
        assert_eq!((again(&time), again(&true), again(&usize::MAX)), (time, true, usize::MAX));
    }

    /// Every bit of a tensor comes through, in every type that travels.
    #[test]
    fn tensors_keep_their_type_and_their_bits() {
        let device = Device::flex();
        let x = Tensor::<2>::from_data(
            [[f32::NAN, -0.0, 1.5e-42], [f32::INFINITY, 3.0, -7.25]],
            &device,
        );
        for dtype in [DType::F32, DType::BF16] {
            let x = x.clone().cast(dtype);
            let (got, want) = (again(&x).into_data(), x.into_data());
            assert_eq!((got.dtype(), got.as_bytes()), (want.dtype(), want.as_bytes()));
        }
        // A view whose rows are not where they would be in memory.
        let turned = x.transpose().narrow(0, 1, 2);
        assert_eq!(again(&turned).into_data().as_bytes(), turned.into_data().as_bytes());
        let empty = Tensor::<2>::zeros([0, 3], &device);
        assert_eq!(again(&empty).dims(), [0, 3]);
        let words = Tensor::<2, Int>::from_data([[i64::MIN, 5]], (&device, DType::I64));
        let (got, want) = (again(&words).into_data(), words.into_data());
        assert_eq!((got.dtype(), got.as_bytes()), (want.dtype(), want.as_bytes()));
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_nothing() {
        let device = Device::flex();
        let bytes = (vec![1.0f64, 2.0], Some(String::from("ab"))).packed();
        type Value = (Vec<f64>, Option<String>);
        for end in 0..bytes.len() {
            assert!(Value::unpacked(&bytes[..end], &device).is_none(), "{end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Value::unpacked(&longer, &device).is_none());
        assert!(Value::unpacked(&bytes, &device).is_some());
        // A count that memory could not hold.
        assert!(Vec::<f64>::unpacked(&u64::MAX.packed(), &device).is_none());
        assert!(String::unpacked(&u64::MAX.packed(), &device).is_none());
        let tensor = Tensor::<2>::zeros([2, 2], &device).packed();
        assert!(Tensor::<2>::unpacked(&tensor[..tensor.len() - 1], &device).is_none());
        let mut unknown = tensor;
        unknown[0] = 200;
        assert!(Tensor::<2>::unpacked(&unknown, &device).is_none());
    }
}
