//! One request as a server's handler sees it: tensors and arguments in the order in which the
//! client gave them.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::server::{CustomOpIr, CustomOpRegistry, HandleContainer};
use burn_ir::{BackendIr, ScalarIr};

use super::arguments::{Argument, Words};
use crate::backend::tensors::{Sink, Source};

/// A request that has arrived, and its response.
pub(super) struct Request<'a, B: BackendIr> {
    handles: &'a mut HandleContainer<B::Handle>,
    operation: &'a CustomOpIr,
    /// The session's.
    pub device: &'a B::Device,
    words: Words<'a>,
    inputs: usize,
    outputs: usize,
}

impl<B: BackendIr> Request<'_, B> {
    /// The next argument.
    pub(super) fn take_argument<A: Argument>(&mut self) -> A {
        A::take(&mut self.words)
    }
}

impl<B: BackendIr> Source<B> for Request<'_, B> {
    fn take_float(&mut self) -> FloatTensor<B> {
        self.inputs += 1;
        self.handles.get_float_tensor::<B>(&self.operation.inputs[self.inputs - 1])
    }

    fn take_int(&mut self) -> IntTensor<B> {
        self.inputs += 1;
        self.handles.get_int_tensor::<B>(&self.operation.inputs[self.inputs - 1])
    }
}

impl<B: BackendIr> Sink<B> for Request<'_, B> {
    fn give_float(&mut self, tensor: FloatTensor<B>) {
        self.outputs += 1;
        let output = &self.operation.outputs[self.outputs - 1];
        self.handles.register_float_tensor::<B>(&output.id, tensor);
    }

    fn give_int(&mut self, tensor: IntTensor<B>) {
        self.outputs += 1;
        let output = &self.operation.outputs[self.outputs - 1];
        self.handles.register_int_tensor::<B>(&output.id, tensor);
    }
}

/// Registers what is done for an operation. A handler that panics (a kernel that refuses its
/// arguments) ends the client's session, and the server goes on.
pub(super) fn serve<B: BackendIr>(
    operations: &mut CustomOpRegistry<B>,
    id: &str,
    handler: impl Fn(&mut Request<B>) + Send + Sync + 'static,
) {
    operations.register(id, move |handles, operation, device| {
        let word = |scalar: &ScalarIr| match *scalar {
            ScalarIr::UInt(word) => word,
            other => panic!("{}: an argument is {other:?} and not a word", operation.id),
        };
        let words: Vec<u64> = operation.scalars.iter().map(word).collect();
        handler(&mut Request {
            handles,
            operation,
            device,
            words: Words::new(&words),
            inputs: 0,
            outputs: 0,
        });
    });
}
