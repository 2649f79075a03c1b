//! What inputs are multiplied by: a parameter, or a weight that stays as a checkpoint stores it.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::definition::StoredWeight;
use crate::ops;

/// A matrix `[d_out, d_in]`, or one for each expert, `[experts, d_out, d_in]`.
#[derive(Module, Debug)]
pub enum Weight<const D: usize> {
    /// In FP32, and trained.
    Parameter(Param<Tensor<D>>),
    /// As a checkpoint stores it, for decoding and evaluation: no parameter, and no gradient.
    Stored(StoredWeight),
}

impl<const D: usize> From<Param<Tensor<D>>> for Weight<D> {
    fn from(parameter: Param<Tensor<D>>) -> Self {
        Self::Parameter(parameter)
    }
}

impl<const D: usize> Weight<D> {
    /// Its dims.
    pub fn dims(&self) -> [usize; D] {
        match self {
            Self::Parameter(parameter) => parameter.lazy_shape().dims(),
            Self::Stored(stored) => stored.dims(),
        }
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        match self {
            Self::Parameter(parameter) => parameter.lazy_device(),
            Self::Stored(stored) => stored.device(),
        }
    }

    /// Its values in FP32; of a stored weight a new tensor with each call.
    pub fn val(&self) -> Tensor<D> {
        match self {
            Self::Parameter(parameter) => parameter.val(),
            Self::Stored(stored) => ops::stored::widen(stored),
        }
    }

    /// The parameter, unless the weight is a stored one.
    pub fn parameter(&self) -> Option<&Param<Tensor<D>>> {
        match self {
            Self::Parameter(parameter) => Some(parameter),
            Self::Stored(_) => None,
        }
    }
}

impl Weight<3> {
    /// The weight with some of its experts alone.
    pub fn with_experts(self, experts: Range<usize>) -> Self {
        match self {
            _ if self.dims()[0] == experts.len() => self,
            Self::Parameter(parameter) => Self::Parameter(
                parameter.map(|tensor| tensor.narrow(0, experts.start, experts.len())),
            ),
            Self::Stored(stored) => Self::Stored(stored.with_experts(experts)),
        }
    }
}
