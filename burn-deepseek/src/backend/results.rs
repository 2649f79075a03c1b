//! What is known of the results of a kernel before they are computed.

use burn::tensor::{DType, Shape};

use super::fp8::{MatrixShape, WeightShape};

/// Shapes and types of the tensors that a kernel gives, in their order.
#[derive(Debug)]
pub(super) struct Results(Vec<(Shape, DType)>);

/// The results of a kernel, as they are asked for one by one.
pub(super) type Known = std::vec::IntoIter<(Shape, DType)>;

/// An FP32 tensor as the result of a kernel.
pub(super) fn floats(shape: impl Into<Shape>) -> Results {
    Results(Vec::new()).floats(shape)
}

/// A tensor of words (U32) as the result of a kernel.
pub(super) fn words(shape: impl Into<Shape>) -> Results {
    Results(Vec::new()).entries(shape, DType::U32)
}

/// A tensor of numbers (I32) as the result of a kernel.
pub(super) fn ints(shape: impl Into<Shape>) -> Results {
    Results(Vec::new()).entries(shape, DType::I32)
}

impl Results {
    /// An FP32 tensor more.
    pub(super) fn floats(self, shape: impl Into<Shape>) -> Self {
        self.entries(shape, DType::F32)
    }

    /// A tensor more.
    pub(super) fn entries(mut self, shape: impl Into<Shape>, dtype: DType) -> Self {
        self.0.push((shape.into(), dtype));
        self
    }

    /// All of `others` more.
    pub(super) fn and(mut self, others: impl Into<Results>) -> Self {
        self.0.extend(others.into().0);
        self
    }

    /// One after the other.
    pub(super) fn into_known(self) -> Known {
        self.0.into_iter()
    }
}

impl From<MatrixShape> for Results {
    fn from(shape: MatrixShape) -> Self {
        words(shape.codes).floats(shape.scales)
    }
}

impl From<WeightShape> for Results {
    fn from(shape: WeightShape) -> Self {
        words(shape.codes()).and(words(shape.transposed())).floats(shape.scales())
    }
}

#[cfg(feature = "cube")]
mod fusion {
    use burn::tensor::{DType, Shape};
    use burn_fusion::custom::TensorSpec;

    use super::{Known, Results};

    /// What the fusion decorator knows of a result that it will have later.
    pub(in crate::backend) trait Described: Sized {
        /// Takes the next tensors of a kernel's results.
        fn take(results: &mut Known) -> Self;
    }

    impl Described for TensorSpec {
        fn take(results: &mut Known) -> Self {
            let (shape, dtype) =
                results.next().expect("invariant: a row names every tensor that it gives");
            Self::new(shape, dtype)
        }
    }

    /// What a row asks of a tensor: as `TensorMetadata` has it for the tensors of a backend.
    pub(in crate::backend) trait Shaped {
        /// Its shape.
        fn shape(&self) -> Shape;
        /// The type of its entries.
        fn dtype(&self) -> DType;
    }

    impl Shaped for TensorSpec {
        fn shape(&self) -> Shape {
            self.shape.clone()
        }

        fn dtype(&self) -> DType {
            self.dtype
        }
    }

    /// The results of a row as the fusion decorator wants them.
    pub(in crate::backend) fn describe<T: Described>(results: impl Into<Results>) -> T {
        T::take(&mut results.into().into_known())
    }
}
#[cfg(feature = "cube")]
pub(super) use fusion::{Described, Shaped, describe};
