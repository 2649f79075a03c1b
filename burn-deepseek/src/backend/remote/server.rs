//! The server: each kernel of the tables as an operation that the backend of its devices runs.

use burn::backend::ops::IntTensorOps;
use burn::backend::{DispatchDevice, Flex};
use burn::server::{CustomOpRegistry, RemoteServer, ServeError};
use burn::tensor::{Device, TensorData};
use burn_ir::BackendIr;

use super::connect::{ASK, Answer, VERSION};
use super::lease::Ledger;
use super::received::{Received, note};
use super::request::serve;
use crate::backend::fp8::{Fp8Kernels, fp8_kernels};
use crate::backend::kernels::{FusedKernels, fused_kernels};
use crate::backend::operations::{FusedOp, Supported};
use crate::backend::supports::supported;
use crate::backend::tensors::{Sink, Source, Tensors, give, take};
use crate::backend::wire::{WireKernels, wire_kernels};

/// Serves the operations of this crate beside Burn's own, with the kernels of the backend that
/// `device`, one of the server's, belongs to.
pub fn with_operations(server: RemoteServer, device: &Device) -> RemoteServer {
    let supported = supported(device.as_dispatch());
    match device.as_dispatch() {
        DispatchDevice::Flex(_) => server.with_custom_ops(operations::<Flex>(supported, false)),
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => {
            server.with_custom_ops(operations::<burn::backend::Cube>(supported, true))
        }
        _ => server,
    }
}

/// A server of a program's own, which serves devices of whatever backend they belong to.
pub trait DeviceServer {
    /// What serving comes to.
    type Served;

    /// Serves devices, and beside Burn's operations those of `operations`.
    fn serve<B: BackendIr>(
        self,
        devices: Vec<B::Device>,
        operations: CustomOpRegistry<B>,
    ) -> Self::Served;
}

/// Gives `server` the devices and the operations of this crate that all of them have.
///
/// # Errors
///
/// [`ServeError::NoDevices`]; [`ServeError::MixedBackends`] where the devices are not all Flex or
/// all CubeCL's; [`ServeError::UnsupportedDevice`].
pub fn serve_devices<S: DeviceServer>(
    devices: &[Device],
    server: S,
) -> Result<S::Served, ServeError> {
    /// The devices of one backend, by what takes its kind out of Burn's dispatch.
    macro_rules! all {
        ($kind:ident) => {
            devices
                .iter()
                .map(|device| match device.as_dispatch() {
                    DispatchDevice::$kind(device) => Ok(device.clone()),
                    _ => Err(ServeError::MixedBackends),
                })
                .collect::<Result<Vec<_>, _>>()?
        };
    }
    let sets = devices.iter().map(|device| supported(device.as_dispatch()));
    let supported = sets.reduce(Supported::common).unwrap_or_default();
    match devices.first().map(Device::as_dispatch) {
        None => Err(ServeError::NoDevices),
        Some(DispatchDevice::Flex(_)) => {
            Ok(server.serve::<Flex>(all!(Flex), operations(supported, false)))
        }
        #[cfg(feature = "cube")]
        Some(DispatchDevice::Cube(_)) => {
            Ok(server.serve::<burn::backend::Cube>(all!(Cube), operations(supported, true)))
        }
        Some(_) => {
            let reason = "its backend has none of this crate's operations".into();
            Err(ServeError::UnsupportedDevice { reason })
        }
    }
}

/// The operations of a backend; `checked` where its kernels rely on their tables.
fn operations<B>(supported: Supported, checked: bool) -> CustomOpRegistry<B>
where
    B: BackendIr + FusedKernels + Fp8Kernels + WireKernels,
{
    let mut operations = CustomOpRegistry::new();
    let ledger = Ledger::default();
    serve(&mut operations, ASK, move |request| {
        let lent = !ledger.lend_to(request.take_argument());
        let answer = Answer { version: VERSION, lent, supported };
        let answer = TensorData::new(answer.to_words(), [Answer::WORDS]);
        let answer = <B as IntTensorOps<B>>::int_from_data(answer, request.device);
        request.give_int(answer);
    });
    fused::register(&mut operations, supported, checked);
    fp8::register(&mut operations, supported, checked);
    wire::register(&mut operations, supported, checked);
    operations
}

/// Registers the kernels of a table that the backend has. A row becomes
///
/// ```text
/// if supported.any(FusedOp::Swiglu) {
///     serve(operations, "deepseek/swiglu", move |request| {
///         let gate_up = request.take_float();
///         let result = B::swiglu(gate_up);
///         request.give_float(result);
///     });
/// }
/// ```
macro_rules! serve_kernels {
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
        pub(super) fn register<B: BackendIr + $Trait>(
            operations: &mut CustomOpRegistry<B>,
            supported: Supported,
            checked: bool,
        ) {$(
            if supported.any(FusedOp::$Operation) {$(
                serve(operations, concat!("deepseek/", stringify!($kernel)), move |request| {
                    #[allow(unused_mut, unused_variables)] // most kernels have no table
                    let mut received = Received::<B>::new(stringify!($kernel), checked);
                    $(
                        let $arg = take!(*request, $Arg$(<$Of>)?);
                        note!(received, $arg, $arg: $Arg);
                    )*
                    let result = B::$kernel($($arg),*);
                    give!(*request, result, $Out<$OutOf>);
                });
            )*}
        )*}
    };
}

mod fused {
    use super::*;
    fused_kernels!(serve_kernels);
}

mod fp8 {
    use super::*;
    fp8_kernels!(serve_kernels);
}

mod wire {
    use super::*;
    wire_kernels!(serve_kernels);
}
