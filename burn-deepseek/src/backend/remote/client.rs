//! The client: each kernel of the tables as a call of a server's operation.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Remote, RemoteDevice, TensorMetadata};
use burn::remote::CustomOpClient;
use burn_ir::{CustomOpIr, ScalarIr, TensorIr};

use super::arguments::Argument;
use crate::backend::results::Results;
use crate::backend::tensors::{Sink, Source};

/// A tensor of a server, of whatever kind.
type RemoteTensor = FloatTensor<Remote>;

/// A call that is being put together: input tensors and arguments, each in the order of the row.
pub(super) struct Call {
    id: &'static str,
    device: Option<RemoteDevice>,
    inputs: Vec<TensorIr>,
    words: Vec<u64>,
}

impl Call {
    /// Calls the operation `id`.
    pub(super) fn new(id: &'static str) -> Self {
        Self { id, device: None, inputs: Vec::new(), words: Vec::new() }
    }

    /// Adds an argument.
    pub(super) fn give_argument(&mut self, argument: &impl Argument) {
        argument.put(&mut self.words);
    }

    /// Sends the call; its outputs can be used at once.
    pub(super) fn send(self, results: impl Into<Results>) -> Outputs {
        let client = CustomOpClient::new(self.device());
        let output = |(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype);
        let outputs: Vec<TensorIr> = results.into().into_known().map(output).collect();
        let scalars = self.words.into_iter().map(ScalarIr::UInt).collect();
        let operation = CustomOpIr::with_scalars(self.id, &self.inputs, &outputs, scalars);
        Outputs(client.register(operation).into_iter())
    }

    fn device(&self) -> &RemoteDevice {
        self.device.as_ref().expect("invariant: a kernel's first argument is a tensor")
    }
}

impl Sink<Remote> for Call {
    fn give_float(&mut self, tensor: FloatTensor<Remote>) {
        self.device.get_or_insert_with(|| tensor.device());
        self.inputs.push(tensor.into_ir());
    }

    fn give_int(&mut self, tensor: IntTensor<Remote>) {
        self.give_float(tensor); // a server's tensors are of one type here
    }
}

/// The output tensors of a call.
pub(super) struct Outputs(std::vec::IntoIter<RemoteTensor>);

impl Source<Remote> for Outputs {
    fn take_float(&mut self) -> FloatTensor<Remote> {
        self.0.next().expect("invariant: a call gives what its row says")
    }

    fn take_int(&mut self) -> IntTensor<Remote> {
        self.take_float()
    }
}

/// The kernels of a table on [`Remote`]. A row becomes
///
/// ```text
/// fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
///     let results = (shape of the row, from `&gate_up`);
///     let mut call = Call::new("deepseek/swiglu");
///     call.give_float(gate_up);
///     call.send(results).take_float()
/// }
/// ```
macro_rules! call_kernels {
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
        impl $Trait for Remote {$($(
            fn $kernel($($arg: $Arg$(<$Of>)?),*) -> $Out<$OutOf> {
                let results = {
                    let ($($arg,)*) = ($(&$arg,)*);
                    let _ = ($($arg,)*); // most shapes need some of them
                    Results::from($results)
                };
                let mut call = Call::new(concat!("deepseek/", stringify!($kernel)));
                $(give!(call, $arg, $Arg$(<$Of>)?);)*
                take!(call.send(results), $Out<$OutOf>)
            }
        )*)*}
    };
}

/// The rows of the tables, where nothing but their types and shapes is in scope.
mod kernels {
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::backend::{Remote, TensorMetadata};
    use cubecl_kernels::definition::{QuantizeOptions, RouteShape, WireFormat};

    use super::Call;
    use crate::backend::fp8::{
        Fp8Hidden, Fp8Kernels, Fp8Matrix, Fp8Pair, Fp8Weight, GroupedLinearShape, MatrixShape,
        RowGroups, Side, SwigluColumns, WeightShape, fp8_kernels,
    };
    use crate::backend::kernels::{
        AdamWOutput, AttentionGradients, AttentionOutput, CombineGradients, FusedKernels, HeadLoss,
        NormGradients, NormOutput, RoutedTokens, RowTables, fused_kernels,
    };
    use crate::backend::results::{Results, floats, ints, words};
    use crate::backend::tensors::{Sink, Source, Tensors, give, take};
    use crate::backend::wire::{RowIndex, Sums, WireKernels, wire_kernels};
    use crate::definition::AdamWScalars;
    use crate::precision::{AttentionOptions, Fp8Rule, KeptActivation, ProductFormat};

    fused_kernels!(call_kernels);
    fp8_kernels!(call_kernels);
    wire_kernels!(call_kernels);
}
