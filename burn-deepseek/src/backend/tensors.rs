//! Structures of tensors, and rows of a table, taken apart and put together again in one order.

#[cfg(feature = "remote")]
use burn::backend::Backend;
#[cfg(feature = "remote")]
use burn::backend::tensor::{FloatTensor, IntTensor};

/// The tensors of a structure, one after the other, for the decorators that take it apart. The type
/// has `ExtensionType` derived, which makes `Metadata`.
macro_rules! tensors {
    ($Name:ident, $Metadata:ident { $($field:ident: $Kind:ident<B>),+ $(,)? }) => {
        #[cfg(feature = "remote")]
        impl<B: Backend> crate::backend::tensors::Tensors<B> for $Name<B> {
            fn take(from: &mut impl crate::backend::tensors::Source<B>) -> Self {
                Self { $($field: crate::backend::tensors::take!(*from, $Kind<B>)),+ }
            }

            fn give(self, to: &mut impl crate::backend::tensors::Sink<B>) {
                $(crate::backend::tensors::give!(*to, self.$field, $Kind<B>);)+
            }
        }

        #[cfg(feature = "cube")]
        impl crate::backend::results::Described for $Metadata {
            fn take(results: &mut crate::backend::results::Known) -> Self {
                Self { $($field: crate::backend::results::Described::take(results)),+ }
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
        crate::backend::tensors::Tensors::take(&mut $from)
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
