//! Tensors from one device to another.

use std::sync::{Mutex, PoisonError};

use burn::backend::DispatchDevice;
use burn::tensor::kind::Basic;
use burn::tensor::{Device, Tensor};

/// A tensor without autodiff on another device: by Burn's own copy, except between servers that
/// could then wait for each other in a circle.
///
/// Burn's copy between two devices of CUDA in one process is NCCL's, where its library is there,
/// and goes through host memory elsewhere.
pub(crate) fn moved<const D: usize, K: Basic>(x: Tensor<D, K>, device: &Device) -> Tensor<D, K> {
    let (from, to) = (x.device(), device.as_dispatch());
    let from = from.as_dispatch();
    #[cfg(feature = "remote")]
    if super::remote::must_detour(from, to) {
        let dtype = x.dtype();
        return Tensor::from_data(x.into_data(), (device, dtype));
    }
    if has_transport(from) && has_transport(to) {
        in_turn(|| x.to_device(device))
    } else {
        x.to_device(device)
    }
}

/// Asks for one transfer at a time in the whole process.
///
/// With a transport of its own a device keeps its transfers, sends and receptions, in one queue,
/// and each of them holds up the rest until the other device has come to it too. A transfer is put
/// into both devices' queues one after the other. Two threads that ask at once, for transfers in
/// opposite directions, could have each device wait for the one that the other has second, for ever
/// (CubeCL 0.11.3, `Client::to_client_tensor`); three threads in a circle as well. One after the
/// other, all queues have the transfers in one order, and the first that is not done stands at the
/// head of both of its queues. Nothing is waited for meanwhile: transfers are queued, not carried
/// out, when the turn ends.
fn in_turn<R>(ask: impl FnOnce() -> R) -> R {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    ask()
}

/// Whether a device sends to others of its kind without the host.
fn has_transport(device: &DispatchDevice) -> bool {
    match device {
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(device) => device.client().has_device_transport(),
        DispatchDevice::Autodiff(device) => has_transport(device),
        #[allow(unreachable_patterns)] // the other backends are features
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};
    use std::thread;

    use super::in_turn;

    /// Without turns some two transfers are in another order in one queue than in the other.
    #[test]
    fn transfers_are_in_one_order_in_the_queues_of_both_devices() {
        const THREADS: usize = 8;
        let queues = [Mutex::new(Vec::new()), Mutex::new(Vec::new())];
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (queues, start) = (&queues, &start);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..50 {
                        in_turn(|| {
                            // Half of them the other way round.
                            for place in [number % 2, 1 - number % 2] {
                                queues[place].lock().unwrap().push((number, round));
                                thread::yield_now();
                            }
                        });
                    }
                });
            }
        });
        let [here, there] = queues.map(|queue| queue.into_inner().unwrap());
        assert_eq!(here.len(), THREADS * 50);
        assert_eq!(here, there);
    }
}
