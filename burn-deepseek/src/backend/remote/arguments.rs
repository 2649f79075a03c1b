//! Arguments of operations as words of 64 bits, in the order of the operation's parameters.

use std::sync::Arc;

use cubecl_kernels::definition::{
    Accumulation, AttentionOptions, Fp8Format, Granularity, GroupScore, ProductFormat,
    QuantizeOptions, RouteShape, RowSums, ScaleFormat, WireFormat,
};

use crate::backend::fp8::{GroupedLinearShape, RowGroups, Side, SwigluColumns};
use crate::definition::AdamWScalars;
use crate::precision::{Fp8Rule, KeptActivation};

/// Words on their way to an operation's handler.
pub(super) struct Words<'a>(std::slice::Iter<'a, u64>);

impl<'a> Words<'a> {
    pub(super) fn new(words: &'a [u64]) -> Self {
        Self(words.iter())
    }

    fn next(&mut self) -> u64 {
        *self.0.next().expect(
            "an operation has come with fewer arguments than it takes: are \
                               client and worker of one version?",
        )
    }
}

/// Something that can be an argument.
pub(super) trait Argument: Sized {
    /// Appends itself.
    fn put(&self, words: &mut Vec<u64>);
    /// Reads what [`Argument::put`] has written.
    fn take(words: &mut Words) -> Self;
}

impl Argument for usize {
    fn put(&self, words: &mut Vec<u64>) {
        words.push(*self as u64);
    }

    fn take(words: &mut Words) -> Self {
        words.next() as usize
    }
}

impl Argument for u64 {
    fn put(&self, words: &mut Vec<u64>) {
        words.push(*self);
    }

    fn take(words: &mut Words) -> Self {
        words.next()
    }
}

impl Argument for bool {
    fn put(&self, words: &mut Vec<u64>) {
        words.push(u64::from(*self));
    }

    fn take(words: &mut Words) -> Self {
        words.next() != 0
    }
}

impl Argument for f64 {
    fn put(&self, words: &mut Vec<u64>) {
        words.push(self.to_bits());
    }

    fn take(words: &mut Words) -> Self {
        Self::from_bits(words.next())
    }
}

impl Argument for f32 {
    fn put(&self, words: &mut Vec<u64>) {
        words.push(self.to_bits().into());
    }

    fn take(words: &mut Words) -> Self {
        Self::from_bits(words.next() as u32)
    }
}

/// An enumeration as the place of its value in a list.
macro_rules! listed {
    ($type:ty: $($value:expr),+) => {
        impl Argument for $type {
            fn put(&self, words: &mut Vec<u64>) {
                let place = [$($value),+].iter().position(|value| value == self);
                words.push(place.expect("invariant: the list has every value") as u64);
            }

            fn take(words: &mut Words) -> Self {
                let place = words.next() as usize;
                let value = [$($value),+].get(place).copied();
                value.unwrap_or_else(|| panic!("{}: no value {place}", stringify!($type)))
            }
        }
    };
}

listed!(Fp8Format: Fp8Format::E4M3, Fp8Format::E5M2);
listed!(ScaleFormat: ScaleFormat::F32, ScaleFormat::PowerOfTwo);
listed!(Granularity: Granularity::Tile, Granularity::Block, Granularity::Tensor);
listed!(ProductFormat: ProductFormat::F32, ProductFormat::Bf16, ProductFormat::Bf16x3);
listed!(KeptActivation: KeptActivation::Columns, KeptActivation::Rows, KeptActivation::E5m6);
listed!(WireFormat: WireFormat::F32, WireFormat::Bf16, WireFormat::Fp8);
listed!(Side: Side::Fprop, Side::Dgrad);
listed!(GroupScore: GroupScore::BestTwo, GroupScore::Best);

impl Argument for Accumulation {
    fn put(&self, words: &mut Vec<u64>) {
        match *self {
            Self::Promoted => words.push(0),
            Self::Emulated { bits, promote } => words.extend([u64::from(bits), u64::from(promote)]),
        }
    }

    fn take(words: &mut Words) -> Self {
        match words.next() {
            0 => Self::Promoted,
            bits => Self::Emulated { bits: bits as u32, promote: bool::take(words) },
        }
    }
}

/// A structure as its fields, one after the other.
macro_rules! fields {
    ($type:ty: $($field:ident),+) => {
        impl Argument for $type {
            fn put(&self, words: &mut Vec<u64>) {
                $(self.$field.put(words);)+
            }

            fn take(words: &mut Words) -> Self {
                Self { $($field: Argument::take(words)),+ }
            }
        }
    };
}

fields!(AttentionOptions: scale, format);
fields!(QuantizeOptions: format, scale, granularity);
fields!(Fp8Rule: activations, gradients, weights, kept, accumulation);
fields!(GroupedLinearShape: rows, inputs, outputs, experts);
fields!(RowGroups: count, rows, words, tiles);
fields!(SwigluColumns: columns, groups, kept, options);
fields!(RouteShape: tokens, experts, top_k, groups, kept_groups, group_score);
fields!(AdamWScalars: lr, beta1, beta2, eps, weight_decay, step, grad_scale);

/// The number of entries, then two a word.
impl Argument for Arc<[u32]> {
    fn put(&self, words: &mut Vec<u64>) {
        self.len().put(words);
        words.extend(
            self.chunks(2).map(|pair| {
                u64::from(pair[0]) | u64::from(pair.get(1).copied().unwrap_or(0)) << 32
            }),
        );
    }

    fn take(words: &mut Words) -> Self {
        let count = usize::take(words);
        let mut values = Vec::new(); // not of the length that is claimed: that may be anything
        while values.len() < count {
            let pair = u64::take(words);
            values.extend([pair as u32, (pair >> 32) as u32]);
        }
        values.truncate(count);
        values.into()
    }
}

impl Argument for Arc<RowSums> {
    fn put(&self, words: &mut Vec<u64>) {
        Arc::<[u32]>::from(self.starts()).put(words);
        Arc::<[u32]>::from(self.rows()).put(words);
        self.bound().put(words);
    }

    fn take(words: &mut Words) -> Self {
        let (starts, rows): (Arc<[u32]>, Arc<[u32]>) =
            (Argument::take(words), Argument::take(words));
        let sums = RowSums::from_parts(starts.to_vec(), rows.to_vec(), Argument::take(words));
        Arc::new(sums.unwrap_or_else(|error| panic!("{error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through<A: Argument>(argument: &A) -> A {
        let mut words = Vec::new();
        argument.put(&mut words);
        let mut taken = Words::new(&words);
        let result = A::take(&mut taken);
        assert_eq!(taken.0.len(), 0, "every word is read");
        result
    }

    #[test]
    fn what_is_sent_is_what_arrives() {
        for groups in [RowGroups::one(7), RowGroups::most(300, 4), RowGroups::most(0, 2)] {
            assert_eq!(through(&groups), groups);
        }
        for group_score in [GroupScore::BestTwo, GroupScore::Best] {
            let shape = RouteShape {
                tokens: 9,
                experts: 8,
                top_k: 3,
                groups: 4,
                kept_groups: 2,
                group_score,
            };
            assert_eq!(through(&shape), shape);
        }
        let options = QuantizeOptions {
            format: Fp8Format::E5M2,
            scale: ScaleFormat::PowerOfTwo,
            granularity: Granularity::Block,
        };
        for accumulation in
            [Accumulation::Promoted, Accumulation::Emulated { bits: 14, promote: true }]
        {
            let rule = Fp8Rule {
                activations: options,
                gradients: QuantizeOptions::default(),
                weights: QuantizeOptions { granularity: Granularity::Tensor, ..options },
                kept: KeptActivation::E5m6,
                accumulation,
            };
            assert_eq!(through(&rule), rule);
        }
        let scalars = AdamWScalars {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 7,
            grad_scale: 0.25,
        };
        assert_eq!(through(&scalars), scalars);
        assert_eq!(
            (through(&Side::Dgrad), through(&true), through(&-0.0f64).to_bits()),
            (Side::Dgrad, true, (-0.0f64).to_bits())
        );
    }

    #[test]
    fn indices_and_sums_arrive_as_they_were_sent() {
        for index in [&[][..], &[7], &[u32::MAX, 0, 3]] {
            let (index, mut words) = (Arc::<[u32]>::from(index), Vec::new());
            index.put(&mut words);
            assert_eq!(Arc::<[u32]>::take(&mut Words::new(&words)), index);
            let sums = Arc::new(RowSums::of_gather(&[1, 0, 1], 3).expect("sums"));
            let mut words = Vec::new();
            sums.put(&mut words);
            assert_eq!(Arc::<RowSums>::take(&mut Words::new(&words)), sums);
        }
    }

    #[test]
    #[should_panic(expected = "fewer arguments")]
    fn a_list_that_is_cut_off_is_refused() {
        Arc::<[u32]>::take(&mut Words::new(&[1 << 60, 0, 4]));
    }
}
