//! Opening a device of a server, and which operations it has.

use std::sync::{PoisonError, RwLock};

use burn::backend::tensor::IntTensor;
use burn::backend::{DispatchDevice, Remote, RemoteDevice};
use burn::remote::{Credential, CustomOpClient, RemoteHost};
use burn::tensor::{DType, Device, Int, Shape, Tensor};
use burn_ir::{CustomOpIr, ScalarIr, TensorIr};

use crate::backend::operations::Supported;

/// The operation that says what a server has.
pub(super) const ASK: &str = "deepseek/operations";

/// Version of names, arguments and results of the operations, and of the order of [`FusedOp`], by
/// which an answer numbers them: the same on both sides, or they do not understand each other.
///
/// [`FusedOp`]: crate::backend::FusedOp
pub(super) const VERSION: u32 = 5;

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// [`VERSION`] of the server.
    pub version: u32,
    /// Whether the server lends its devices to somebody else.
    pub lent: bool,
    /// The operations that its devices have kernels for.
    pub supported: Supported,
}

impl Answer {
    pub(super) const WORDS: usize = 4;

    pub(super) fn to_words(self) -> Vec<u32> {
        vec![self.version, self.lent.into(), self.supported.f32, self.supported.bf16]
    }

    fn from_words(words: &[u32]) -> Option<Self> {
        match *words {
            [version, lent, f32, bf16] => {
                Some(Self { version, lent: lent != 0, supported: Supported { f32, bf16 } })
            }
            _ => None,
        }
    }
}

/// Why a device of a server cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No session could be opened.
    #[error("{0}")]
    Session(#[from] burn::remote::ConnectError),
    /// The server has no operations of this crate.
    #[error(
        "it serves devices, but not the operations of this program: start it with the same release \
         of `deepseek worker`"
    )]
    Foreign,
    /// The server lends its devices to somebody else.
    #[error(
        "it lends its devices to another program; wait until that has ended, or start the worker \
         again"
    )]
    Lent,
    /// The server is of another release.
    #[error(
        "it serves version {server} of the operations, and this program takes version {client}: \
         take the same release on both sides"
    )]
    Version {
        /// The version of the server.
        server: u32,
        /// The version of this crate.
        client: u32,
    },
}

/// A device that was opened.
struct Opened {
    device: RemoteDevice,
    /// Where it is, without what it was asked with.
    server: RemoteHost,
    supported: Supported,
}

/// All of them. A handful: searching beats hashing.
static OPENED: RwLock<Vec<Opened>> = RwLock::new(Vec::new());

/// Opens a device of a server on behalf of `borrower`, and asks which operations it has. Blocks
/// until the server has answered.
///
/// A server lends its devices to one borrower at a time, a number that every process should draw
/// for itself: tensors that move between sessions of one server are told apart by numbers that each
/// process counts from 0. Where another has them this can be tried again.
///
/// # Errors
///
/// The server cannot be reached, refuses the credential, has no such device, has lent it, or does
/// not serve the operations of this crate.
pub fn connect(host: &RemoteHost, index: usize, borrower: u64) -> Result<Device, ConnectError> {
    use burn::remote::ConnectError as SessionError;
    let device = match Device::remote_options(host).device_index(index).init() {
        // What a worker that serves another training has for this one.
        Err(SessionError::NoSuchDevice { device_count: 0 }) => return Err(ConnectError::Lent),
        opened => opened?,
    };
    let remote = remote_device(device.as_dispatch())
        .expect("invariant: a remote host has remote devices")
        .clone();
    let answer = ask(&remote, borrower).ok_or(ConnectError::Foreign)?;
    if answer.version != VERSION {
        return Err(ConnectError::Version { server: answer.version, client: VERSION });
    }
    if answer.lent {
        return Err(ConnectError::Lent);
    }
    let mut all = OPENED.write().unwrap_or_else(PoisonError::into_inner);
    all.retain(|opened| opened.device != remote);
    all.push(Opened {
        device: remote,
        server: host.clone().with_credential(Credential::default()),
        supported: answer.supported,
    });
    Ok(device)
}

fn ask(device: &RemoteDevice, borrower: u64) -> Option<Answer> {
    let client = CustomOpClient::new(device);
    let answer =
        TensorIr::uninit(client.create_empty_handle(), Shape::from([Answer::WORDS]), DType::U32);
    let answer: IntTensor<Remote> = client
        .register(CustomOpIr::with_scalars(ASK, &[], &[answer], vec![ScalarIr::UInt(borrower)]))
        .pop()?;
    // A server that does not know the operation ends the session instead of answering.
    let answer = Tensor::<1, Int>::from_primitive::<Remote>(answer).try_into_data().ok()?;
    Answer::from_words(&answer.try_to_vec::<u32>().ok()?)
}

fn remote_device(device: &DispatchDevice) -> Option<&RemoteDevice> {
    match device {
        DispatchDevice::Remote(device) => Some(device),
        _ => None,
    }
}

/// Whether a tensor must go by way of this process from one device to another.
///
/// Servers fetch tensors from each other, all sessions of one over a single connection, one fetch
/// after the other; and a session that waits for a tensor does nothing else meanwhile. With several
/// sessions on a server, one's fetch can wait for what another will give only after a fetch of its
/// own, which waits for the connection.
pub(in crate::backend) fn must_detour(from: &DispatchDevice, to: &DispatchDevice) -> bool {
    let (Some(from), Some(to)) = (remote_device(from), remote_device(to)) else { return false };
    let all = OPENED.read().unwrap_or_else(PoisonError::into_inner);
    let server = |device: &RemoteDevice| {
        all.iter().find(|opened| opened.device == *device).map(|opened| &opened.server)
    };
    let sessions = |server: Option<&RemoteHost>| {
        all.iter().filter(|opened| Some(&opened.server) == server).count()
    };
    let (from, to) = (server(from), server(to));
    from != to && (sessions(from) > 1 || sessions(to) > 1)
}

/// The operations that the server of a device has kernels for.
pub(in crate::backend) fn served(device: &RemoteDevice) -> Supported {
    let all = OPENED.read().unwrap_or_else(PoisonError::into_inner);
    let opened = all.iter().find(|opened| opened.device == *device);
    opened.map(|opened| opened.supported).unwrap_or_default()
}
