//! One call of an operation of a server, as the client makes it.

use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Remote, RemoteDevice, TensorMetadata};
use burn::remote::CustomOpClient;
use burn::tensor::{DType, Shape, TensorData};
use burn_ir::{CustomOpIr, ScalarIr, TensorIr};

use super::arguments::{Argument, choices};
use crate::definition::ExpertGroups;

/// A tensor of a server, of whatever kind.
pub(super) type RemoteTensor = FloatTensor<Remote>;

/// A call that is being put together: tensors, arguments and results in the order of the
/// operation's own.
pub(super) struct Call {
    id: &'static str,
    device: RemoteDevice,
    client: CustomOpClient,
    inputs: Vec<TensorIr>,
    words: Vec<u64>,
    outputs: Vec<TensorIr>,
}

impl Call {
    /// Of the operation `id`, where its first tensor is.
    pub(super) fn new(id: &'static str, first: RemoteTensor) -> Self {
        let device = first.device();
        let client = CustomOpClient::new(&device);
        Self {
            id,
            device,
            client,
            inputs: vec![first.into_ir()],
            words: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Takes another tensor.
    pub(super) fn with(mut self, tensor: RemoteTensor) -> Self {
        self.inputs.push(tensor.into_ir());
        self
    }

    /// Takes something else.
    pub(super) fn given(mut self, argument: &impl Argument) -> Self {
        argument.put(&mut self.words);
        self
    }

    /// Takes a routing decision: as a tensor, since it has a number for every choice of every
    /// token.
    pub(super) fn routed(self, groups: &ExpertGroups) -> Self {
        let choices = TensorData::new(choices(groups), [groups.rows()]);
        let choices = <Remote as IntTensorOps<Remote>>::int_from_data(choices, &self.device);
        self.with(choices).given(&groups.top_k()).given(&groups.experts())
    }

    /// Gives an FP32 tensor.
    pub(super) fn floats(self, shape: impl Into<Shape>) -> Self {
        self.gives(shape, DType::F32)
    }

    /// Gives a tensor.
    pub(super) fn gives(mut self, shape: impl Into<Shape>, dtype: DType) -> Self {
        self.outputs.push(TensorIr::uninit(self.client.create_empty_handle(), shape.into(), dtype));
        self
    }

    /// Sends the call; the results can be used at once.
    pub(super) fn run<const N: usize>(self) -> [RemoteTensor; N] {
        let scalars = self.words.into_iter().map(ScalarIr::UInt).collect();
        let operation = CustomOpIr::with_scalars(self.id, &self.inputs, &self.outputs, scalars);
        let results = self.client.register(operation);
        results.try_into().expect("invariant: a call gives what it was said to give")
    }

    /// [`Call::run`] with one result.
    pub(super) fn one(self) -> RemoteTensor {
        let [result] = self.run();
        result
    }
}

/// The dims of a tensor of known rank.
pub(super) fn dims<const D: usize>(tensor: &RemoteTensor) -> [usize; D] {
    tensor.shape().dims()
}
