//! The server's side: handlers that read an operation's tensors and arguments in the order in which
//! the client put them.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{DispatchDevice, Flex};
use burn::server::{CustomOpIr, CustomOpRegistry, HandleContainer, RemoteServer};
use burn::tensor::Device;
use burn_ir::{BackendIr, ScalarIr};

use super::arguments::{Argument, Words};
use super::connect::{ASK, Operations, VERSION};
use super::lease::Ledger;
use super::{fp8, fused, rows};
use crate::backend::flex_tensor::{Contiguous, word_tensor};
use crate::definition::ExpertGroups;

/// Serves the operations of this crate beside Burn's own, with the kernels of the backend that
/// `device`, one of the server's, belongs to.
pub fn with_operations(server: RemoteServer, device: &Device) -> RemoteServer {
    match device.as_dispatch() {
        DispatchDevice::Flex(_) => {
            let mut operations = CustomOpRegistry::<Flex>::new();
            let ledger = Ledger::default();
            serve(&mut operations, ASK, move |r| {
                let here = Operations {
                    version: VERSION,
                    fused: true,
                    fp8: true,
                    lent: !ledger.lend_to(r.argument()),
                };
                r.give_int(word_tensor(here.to_words(), [Operations::WORDS]));
            });
            fp8::register(&mut operations);
            rows::register(&mut operations);
            fused::register(&mut operations);
            server.with_custom_ops(operations)
        }
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => {
            use burn::backend::Cube;
            use burn::backend::ops::IntTensorOps;
            use burn::tensor::TensorData;

            let mut operations = CustomOpRegistry::<Cube>::new();
            let ledger = Ledger::default();
            serve(&mut operations, ASK, move |r| {
                let here = Operations {
                    version: VERSION,
                    fused: false,
                    fp8: true,
                    lent: !ledger.lend_to(r.argument()),
                };
                let answer = TensorData::new(here.to_words(), [Operations::WORDS]);
                r.give_int(<Cube as IntTensorOps<Cube>>::int_from_data(answer, r.device));
            });
            fp8::register(&mut operations);
            rows::register(&mut operations);
            server.with_custom_ops(operations)
        }
        _ => server,
    }
}

/// A call that has arrived.
pub(super) struct Request<'a, B: BackendIr> {
    handles: &'a mut HandleContainer<B::Handle>,
    operation: &'a CustomOpIr,
    /// The session's.
    device: &'a B::Device,
    words: Words<'a>,
    taken: usize,
    given: usize,
}

impl<B: BackendIr> Request<'_, B> {
    /// The next tensor.
    pub(super) fn float(&mut self) -> FloatTensor<B> {
        self.taken += 1;
        self.handles.get_float_tensor::<B>(&self.operation.inputs[self.taken - 1])
    }

    /// The next tensor, of ints.
    pub(super) fn int(&mut self) -> IntTensor<B> {
        self.taken += 1;
        self.handles.get_int_tensor::<B>(&self.operation.inputs[self.taken - 1])
    }

    /// The next argument.
    pub(super) fn argument<A: Argument>(&mut self) -> A {
        A::take(&mut self.words)
    }

    /// The next result.
    pub(super) fn give_float(&mut self, tensor: FloatTensor<B>) {
        self.given += 1;
        self.handles.register_float_tensor::<B>(&self.operation.outputs[self.given - 1].id, tensor);
    }

    /// The next result, of ints.
    pub(super) fn give_int(&mut self, tensor: IntTensor<B>) {
        self.given += 1;
        self.handles.register_int_tensor::<B>(&self.operation.outputs[self.given - 1].id, tensor);
    }
}

impl Request<'_, Flex> {
    /// The next routing decision.
    pub(super) fn groups(&mut self) -> ExpertGroups {
        let choices = self.int();
        ExpertGroups::new(Contiguous::new(&choices).words(), self.argument(), self.argument())
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
            taken: 0,
            given: 0,
        });
    });
}
