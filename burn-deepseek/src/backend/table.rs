//! Traits made of tables: kernels, and differentiable operations.
//!
//! A table of kernels is a macro that hands its rows to another macro: `fused_kernels!`
//! (`kernels.rs`), `fp8_kernels!` (`fp8/kernels.rs`) and `wire_kernels!` (`wire.rs`). A row is a
//! kernel's signature and the shape of what it gives:
//!
//! ```text
//! fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> => {
//!     let [rows, width] = gate_up.shape().dims();
//!     floats([rows, width / 2])
//! };
//! ```
//!
//! What stands behind the arrow sees the arguments by reference, as tensors that have a shape only:
//! of the fusion decorator and of the remote client, neither of which has values yet. So it asks
//! shapes and sizes, and names only what is in scope at all three places.
//!
//! [`define_kernels`] makes a trait of a table, with its part of Burn's dispatch and of the fusion
//! decorator; `remote` makes its client and its server of the same rows.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn_flex::FlexTensor;

use super::flex_tensor;

/// A backend that records no graph: its operations are its kernels.
pub trait WithoutAutodiff: Backend {
    /// `x + y`, of one shape: Burn's own sum, unless the backend has a faster one.
    fn sum(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(x, y)
    }
}

impl WithoutAutodiff for burn::backend::Flex {
    /// Burn's sum is one thread's, while all others wait.
    fn sum(x: FlexTensor, y: FlexTensor) -> FlexTensor {
        flex_tensor::sum(x, y)
    }
}
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
                crate::backend::results::describe($results)
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

        impl<B: $Kernels + crate::backend::table::WithoutAutodiff> $Trait for B {$(
            fn $name($($arg: $Arg$(<$Of>)?),*) -> FloatTensor<Self> $forward
        )*}
    };
}
pub(super) use differentiable;
