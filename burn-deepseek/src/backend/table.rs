//! What a table of kernels is made into, and what is known of a result before it is computed.
//!
//! A table is a macro that hands its rows to another macro: `fused_kernels!` (`kernels.rs`),
//! `fp8_kernels!` (`fp8/kernels.rs`) and `wire_kernels!` (`wire.rs`). A row is a kernel's signature
//! and the shape of what it gives:
//!
//! ```text
//! fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self>
//!     => { let [rows, width] = gate_up.shape().dims(); floats([rows, width / 2]) };
//! ```
//!
//! [`define_kernels`] makes a trait of a table, with its part of Burn's dispatch and of the fusion
//! decorator; `remote` makes its client and its server of the same rows.

use burn::backend::Backend;
#[cfg(feature = "remote")]
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};

/// A backend that records no graph: its operations are its kernels.
pub trait WithoutAutodiff: Backend {}

impl WithoutAutodiff for burn::backend::Flex {}
#[cfg(feature = "cube")]
impl WithoutAutodiff for burn_cubecl::CubeBackend {}
#[cfg(feature = "cube")]
impl<B: burn_fusion::FusionBackend> WithoutAutodiff for burn_fusion::Fusion<B> {}
#[cfg(feature = "remote")]
impl WithoutAutodiff for burn::backend::Remote {}

/// Makes the trait of a table. The row above becomes
///
/// ```text
/// #[fusion(meta = |gate_up| describe({ let [rows, width] = ...; ... }))]
/// fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
///     missing("Swiglu", "swiglu")
/// }
/// ```
///
/// which the attribute takes apart for `Dispatch` and `Fusion<B>`. Backends implement the kernels
/// that they have; [`supports`](super::supports) keeps callers from the others.
macro_rules! define_kernels {
    (
        $(#[$($about:tt)*])*
        trait $Trait:ident;
        $(
            $(#[$($what:tt)*])*
            $Operation:ident {$(
                $(#[$($doc:tt)*])*
                fn $kernel:ident(
                    $($(#[$extension:ident])? $arg:ident: $Arg:ident$(<$Of:ident>)?),* $(,)?
                ) -> $Out:ident<$OutOf:ident> => $results:expr;
            )*}
        )*
    ) => {
        $(#[$($about)*])*
        #[backend_extension(
            Cube: cfg(feature = "cube"),
            Flex,
            Fusion: cfg(feature = "cube"),
            Remote: cfg(feature = "remote")
        )]
        pub trait $Trait: Backend {$($(
            $(#[$($doc)*])*
            #[fusion(meta = |$($arg),*| {
                let _ = ($($arg,)*); // most shapes need some of them
                crate::backend::table::describe($results)
            })]
            fn $kernel($($(#[$extension])? $arg: $Arg$(<$Of>)?),*) -> $Out<$OutOf> {
                let _ = ($($arg,)*);
                crate::backend::table::missing(stringify!($Operation), stringify!($kernel))
            }
        )*)*}
    };
}
pub(super) use define_kernels;

/// What a kernel does on a backend that has none.
pub(super) fn missing(operation: &str, kernel: &str) -> ! {
    panic!("the backend has no kernel `{kernel}`: `supports` does not name {operation} for it")
}

/// Makes a trait of differentiable operations: rows of a signature and the forward pass. Backends
/// without autodiff have what the row says, in terms of their kernels; the autodiff decorator
/// implements the trait by hand, with the backward pass.
macro_rules! differentiable {
    (
        $(#[$($about:tt)*])*
        trait $Trait:ident of $Kernels:ident;
        $(
            $(#[$($doc:tt)*])*
            fn $name:ident(
                $($(#[$extension:ident])? $arg:ident: $Arg:ident$(<$Of:ident>)?),* $(,)?
            ) -> FloatTensor<Self> $forward:block
        )*
    ) => {
        $(#[$($about)*])*
        #[backend_extension(
            Autodiff,
            Cube: cfg(feature = "cube"),
            Flex,
            Remote: cfg(feature = "remote")
        )]
        pub trait $Trait: Backend {$(
            $(#[$($doc)*])*
            fn $name($($(#[$extension])? $arg: $Arg$(<$Of>)?),*) -> FloatTensor<Self>;
        )*}

        impl<B: $Kernels + crate::backend::WithoutAutodiff> $Trait for B {$(
            fn $name($($arg: $Arg$(<$Of>)?),*) -> FloatTensor<Self> $forward
        )*}
    };
}
pub(super) use differentiable;

/// The tensors of a structure, one after the other, for the decorators that take it apart. The type
/// has `ExtensionType` derived, which makes `Metadata`.
macro_rules! tensors {
    ($Name:ident, $Metadata:ident { $($field:ident: $Kind:ident<B>),+ $(,)? }) => {
        #[cfg(feature = "remote")]
        impl<B: Backend> crate::backend::table::Tensors<B> for $Name<B> {
            fn take(from: &mut impl crate::backend::table::Source<B>) -> Self {
                Self { $($field: crate::backend::table::take!(*from, $Kind<B>)),+ }
            }

            fn give(self, to: &mut impl crate::backend::table::Sink<B>) {
                $(crate::backend::table::give!(*to, self.$field, $Kind<B>);)+
            }
        }

        #[cfg(feature = "cube")]
        impl crate::backend::table::Described for $Metadata {
            fn take(results: &mut crate::backend::table::Known) -> Self {
                Self { $($field: crate::backend::table::Described::take(results)),+ }
            }
        }
    };
}
pub(super) use tensors;

/// Takes a value of a row's type out of a [`Source`], or out of a request that has arrived.
#[cfg(feature = "remote")]
macro_rules! take {
    ($from:expr, FloatTensor<$B:ident>) => {
        $from.take_float()
    };
    ($from:expr, IntTensor<$B:ident>) => {
        $from.take_int()
    };
    ($from:expr, $Tensors:ident<$B:ident>) => {
        crate::backend::table::Tensors::take(&mut $from)
    };
    ($from:expr, ExpertGroups) => {
        $from.take_groups()
    };
    ($from:expr, $Argument:ident) => {
        $from.take_argument()
    };
}
#[cfg(feature = "remote")]
pub(super) use take;

/// Gives a value of a row's type to a [`Sink`], or to a call that is made.
#[cfg(feature = "remote")]
macro_rules! give {
    ($to:expr, $value:expr, FloatTensor<$B:ident>) => {
        $to.give_float($value)
    };
    ($to:expr, $value:expr, IntTensor<$B:ident>) => {
        $to.give_int($value)
    };
    ($to:expr, $value:expr, $Tensors:ident<$B:ident>) => {
        $value.give(&mut $to)
    };
    ($to:expr, $value:expr, ExpertGroups) => {
        $to.give_groups(&$value)
    };
    ($to:expr, $value:expr, $Argument:ident) => {
        $to.give_argument(&$value)
    };
}
#[cfg(feature = "remote")]
pub(super) use give;

/// Where tensors come from, in the order of a row or of a structure's fields.
#[cfg(feature = "remote")]
pub(super) trait Source<B: Backend> {
    /// The next tensor.
    fn take_float(&mut self) -> FloatTensor<B>;
    /// The next tensor, of ints.
    fn take_int(&mut self) -> IntTensor<B>;
}

/// Where tensors go, in the order of a row or of a structure's fields.
#[cfg(feature = "remote")]
pub(super) trait Sink<B: Backend> {
    /// Takes the next tensor.
    fn give_float(&mut self, tensor: FloatTensor<B>);
    /// Takes the next tensor, of ints.
    fn give_int(&mut self, tensor: IntTensor<B>);
}

/// A structure of tensors.
#[cfg(feature = "remote")]
pub(super) trait Tensors<B: Backend>: Sized {
    /// Puts it together again.
    fn take(from: &mut impl Source<B>) -> Self;
    /// Takes it apart.
    fn give(self, to: &mut impl Sink<B>);
}

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
