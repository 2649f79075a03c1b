//! Tensors from worker to worker: a WebSocket that is opened with the training's secret, on which
//! each message of 32 bytes, a tensor's capability, is answered by the tensor in MessagePack.

use std::sync::Arc;

use burn::tensor::TensorData;
use burn_ir::BackendIr;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{self, Message};

use super::connections::{Connection, DialError};
use super::messages::Capability;
use super::trainings::Training;

/// Why a tensor cannot be had from another worker.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    #[error("it is no worker of this training, and is not dialled")]
    Foreign,
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("{0}")]
    WebSocket(#[from] Box<tungstenite::Error>),
    #[error("it has ended the connection")]
    Ended,
    #[error("what it sent is no tensor: {0}")]
    NoTensor(#[from] rmp_serde::decode::Error),
}

/// Fetches a tensor from another worker of the training, and waits until it is there. Whoever waits
/// sees to it that somebody stops the wait.
///
/// # Errors
///
/// The worker is not one of the training's, cannot be reached, or ends the connection.
pub(super) async fn fetch<B: BackendIr>(
    training: &Training<B>,
    address: &str,
    capability: Capability,
) -> Result<TensorData, TransferError> {
    if !training.has_worker(address) {
        return Err(TransferError::Foreign);
    }
    let mut connection = training.connections.get(address).await?;
    let asked = Message::Binary(Bytes::copy_from_slice(&capability));
    connection.send(asked).await.map_err(Box::new)?;
    let tensor = loop {
        match connection.next().await.transpose().map_err(Box::new)? {
            Some(Message::Binary(tensor)) => break tensor,
            Some(Message::Close(_)) | None => return Err(TransferError::Ended),
            Some(_) => {}
        }
    };
    training.connections.put_back(address, connection);
    Ok(rmp_serde::from_slice(&tensor)?)
}

/// A tensor as it is sent.
///
/// # Errors
///
/// It cannot be written in MessagePack.
pub(super) fn packed(tensor: &TensorData) -> Result<Bytes, rmp_serde::encode::Error> {
    rmp_serde::to_vec(tensor).map(Bytes::from)
}

/// Gives another worker the tensors that it asks for, until it leaves or the training ends.
pub(super) async fn give<B: BackendIr>(mut connection: Connection, training: Arc<Training<B>>) {
    let mut wanted: Option<Capability> = None;
    loop {
        // Also while it waits for a tensor it is listened to: it may leave.
        let taken = async {
            match &wanted {
                Some(capability) => training.exposed.take(capability).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = training.ended.cancelled() => break,
            tensor = taken => {
                wanted = None;
                let sent = connection.send(Message::Binary(tensor));
                tokio::select! {
                    () = training.ended.cancelled() => break,
                    sent = sent => if sent.is_err() { break },
                }
            }
            message = connection.next() => match message {
                Some(Ok(Message::Binary(asked))) if wanted.is_none() => {
                    match Capability::try_from(&asked[..]) {
                        Ok(capability) => wanted = Some(capability),
                        Err(_) => break,
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => break,
            },
        }
    }
}
