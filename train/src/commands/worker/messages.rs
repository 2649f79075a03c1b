//! Messages of Burn's remote backend, as version 2 of its protocol (Burn 0.22.1) has them: batches
//! in MessagePack, whose variants go by name and whose fields by place.

use burn::tensor::TensorData;
use burn_backend::{DType, DTypeUsageSet, DeviceSettings, ExecutionError, StreamId};
use burn_ir::{GraphBindings, GraphId, OperationIr, TensorId, TensorIr};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// The version of the protocol.
pub(super) const VERSION: u16 = 2;

/// By which a client tells answers apart.
pub(super) type RequestId = u64;

/// What a tensor between two sessions of this worker is known by.
pub(super) type LocalId = u64;

/// What a tensor between two workers is known by. Its client drew it at random.
pub(super) type Capability = [u8; 32];

/// What a client sends, in batches.
#[derive(Deserialize)]
#[allow(clippy::large_enum_variant)] // Burn's own shape
pub(super) enum Message {
    /// Something to do.
    Task(Task),
    /// Opens the session: the first message, and alone.
    Init(Init),
    /// Ends the session.
    Close(SessionId),
}

/// A session's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct SessionId {
    id: u64,
}

/// What a session opens with.
#[derive(Deserialize)]
pub(super) struct Init {
    pub version: u16,
    pub session: SessionId,
    pub device: u32,
    #[serde(with = "serde_bytes")]
    pub credential: Vec<u8>,
}

/// Something to do.
#[derive(Deserialize)]
#[allow(clippy::large_enum_variant)] // Burn's own shape
pub(super) enum Task {
    Seed(u64),
    RegisterOperation(StreamId, OperationIr),
    RegisterAndExecuteGraph {
        stream_id: StreamId,
        graph_id: GraphId,
        relative_graph: Vec<OperationIr>,
        bindings: GraphBindings,
    },
    ExecuteGraph {
        stream_id: StreamId,
        graph_id: GraphId,
        bindings: GraphBindings,
    },
    RegisterTensor(StreamId, TensorId, TensorData),
    RegisterAlias {
        #[allow(dead_code)] // a place of the message
        stream_id: StreamId,
        new_id: TensorId,
        src_id: TensorId,
    },
    RegisterTensorRemote(StreamId, TensorRemote, TensorId),
    ExposeTensorRemote {
        stream_id: StreamId,
        tensor: TensorIr,
        count: u32,
        capability: Capability,
        #[allow(dead_code)] // a place of the message: whoever has the capability may fetch
        target: Peer,
    },
    ExposeTensorLocal {
        stream_id: StreamId,
        tensor: TensorIr,
        transfer_id: LocalId,
    },
    RegisterTensorLocal {
        stream_id: StreamId,
        transfer_id: LocalId,
        new_id: TensorId,
    },
    ReadTensor(RequestId, StreamId, TensorIr),
    SyncBackend(RequestId, StreamId),
    DTypeUsage(RequestId, DType),
    ProfileStart(RequestId, #[allow(dead_code)] StreamId),
    ProfileEnd(RequestId, IgnoredAny, IgnoredAny, IgnoredAny),
    ProfileAbandon(IgnoredAny, IgnoredAny),
}

/// A tensor on another worker.
#[derive(Deserialize)]
pub(super) struct TensorRemote {
    pub capability: Capability,
    pub peer: Peer,
}

/// Another worker.
#[derive(Deserialize)]
pub(super) enum Peer {
    WebSocket(Address),
}

/// Where another worker is.
#[derive(Deserialize)]
pub(super) struct Address {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Address {
    /// As a training writes it.
    pub(super) fn written(&self) -> String {
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{}{port}", self.scheme, self.host)
    }
}

/// What a worker answers.
#[derive(Serialize)]
pub(super) struct Answer {
    pub content: Content,
    pub id: RequestId,
}

impl Answer {
    /// In MessagePack.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        rmp_serde::to_vec(self)
    }
}

/// What an answer says.
#[derive(Serialize)]
pub(super) enum Content {
    Init(SessionInfo),
    ReadTensor(Result<TensorData, ExecutionError>),
    SyncBackend(Result<(), ExecutionError>),
    DTypeUsage(DTypeUsageSet),
    /// No window is ever opened: a training asks for none.
    ProfileStart(Result<Option<()>, ExecutionError>),
    ProfileEnd(Result<Option<()>, ExecutionError>),
    InitRefused(SessionRefusal),
}

/// What an opened session is told.
#[derive(Serialize)]
pub(super) struct SessionInfo {
    pub version: u16,
    pub settings: DeviceSettings,
    pub device_count: u32,
    pub peer_id: Option<()>,
}

/// Why a session is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum SessionRefusal {
    Unauthorized,
    NoSuchDevice { device_count: u32 },
    IncompatibleProtocol { server_version: u16 },
}

/// The message that opens a session.
///
/// # Errors
///
/// It is not one, or is of another version.
pub(super) fn opening(bytes: &[u8]) -> Result<Init, SessionRefusal> {
    let incompatible = SessionRefusal::IncompatibleProtocol { server_version: VERSION };
    match rmp_serde::from_slice::<[Message; 1]>(bytes) {
        Ok([Message::Init(init)]) if init.version == VERSION => Ok(init),
        _ => Err(incompatible),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[{"Init": [version, [session], device, credential]}]`.
    fn init(version: u8) -> Vec<u8> {
        let mut bytes = vec![0x91, 0x81, 0xa4];
        bytes.extend(b"Init");
        bytes.extend([0x94, version, 0x91, 7, 1, 0xc4, 2]);
        bytes.extend(b"ab");
        bytes
    }

    #[test]
    fn a_session_opens_with_burn_s_message() {
        let opened = opening(&init(2)).unwrap();
        assert_eq!((opened.session, opened.device), (SessionId { id: 7 }, 1));
        assert_eq!(opened.credential, b"ab");
        let refusal = SessionRefusal::IncompatibleProtocol { server_version: 2 };
        let twice = [&[0x92], &init(2)[1..], &init(2)[1..]].concat();
        let close = [&[0x91, 0x81, 0xa5][..], b"Close", &[0x91, 7]].concat();
        for other in [init(3), twice, close, vec![], vec![0xdd; 5], b"{}".to_vec()] {
            assert_eq!(opening(&other).err(), Some(refusal), "{other:?}");
        }
    }

    #[test]
    fn a_refusal_is_what_burn_s_client_reads() {
        let refusal = Content::InitRefused(SessionRefusal::NoSuchDevice { device_count: 1 });
        let bytes = Answer { content: refusal, id: 0 }.to_bytes().unwrap();
        let expected = [
            &[0x92, 0x81, 0xab][..],
            b"InitRefused",
            &[0x81, 0xac],
            b"NoSuchDevice",
            &[0x91, 1, 0],
        ];
        assert_eq!(bytes, expected.concat());
    }

    /// `[{"Task": {"RegisterTensorRemote": [stream, [capability, {"WebSocket": address}], id]}}]`.
    #[test]
    fn an_address_is_read_as_a_training_writes_it() {
        let mut bytes = vec![0x81, 0xa9];
        bytes.extend(b"WebSocket");
        bytes.extend([0x93, 0xa2]);
        bytes.extend(b"ws");
        bytes.push(0xa5);
        bytes.extend(b"[::1]");
        bytes.extend([0xcd, 0x0b, 0xb8]);
        let Peer::WebSocket(address) = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(address.written(), "ws://[::1]:3000");
    }
}
