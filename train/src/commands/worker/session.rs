//! One session's connection: tasks go to its thread, answers to its training.

use std::net::SocketAddr;

use burn_ir::BackendIr;
use burn_router::{CustomOpRegistry, TensorInterpreter};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

use super::limits::{LAST_WORDS, QUEUE, of_trainings};
use super::messages::{Answer, Content, Message, SessionId, SessionInfo, Task, VERSION};
use super::notices::say;
use super::tasks::Tasks;
use super::trainings::Seat;

/// A session that is let in.
pub(super) struct Session<B: BackendIr> {
    pub peer: SocketAddr,
    pub number: SessionId,
    pub device: B::Device,
    pub device_count: u32,
    pub operations: CustomOpRegistry<B>,
    pub seat: Seat<B>,
}

/// How a training leaves a session.
enum Left {
    /// With a word.
    Closed,
    /// Without one.
    Broken,
}

/// What ends a session before its time.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("{0}")]
    WebSocket(#[from] Box<tungstenite::Error>),
    #[error("a batch of messages cannot be read: {0}")]
    Batch(#[from] rmp_serde::decode::Error),
    #[error("an answer cannot be written: {0}")]
    Answer(#[from] rmp_serde::encode::Error),
    #[error("a message that has no place in an open session")]
    Misplaced,
}

impl<B: BackendIr> Session<B> {
    /// Serves it to its end.
    pub(super) async fn run(self, stream: TcpStream) {
        let Self { peer, number, device, device_count, operations, seat } = self;
        let (mut sink, source) =
            WebSocketStream::from_raw_socket(stream, Role::Server, Some(of_trainings()))
                .await
                .split();
        let (tasks, queue) = mpsc::channel(QUEUE);
        let (answers, mut answered) = mpsc::channel::<Answer>(QUEUE);
        let training = seat.training.clone();
        let ended = training.ended.child_token();
        let runner = TensorInterpreter::with_custom_ops(device, operations);
        let info = SessionInfo {
            version: VERSION,
            settings: runner.device_settings(),
            device_count,
            peer_id: None,
        };
        if let Err(error) = Tasks::new(runner, seat, answers, ended.clone(), peer).spawn(queue) {
            return say(&format!("error: {peer}: a session's thread cannot be started: {error}"));
        }
        let writing = async {
            let mut answer = Some(Answer { content: Content::Init(info), id: 0 });
            while let Some(next) = answer {
                sink.send(Frame::Binary(next.to_bytes()?.into())).await.map_err(Box::new)?;
                answer = answered.recv().await;
            }
            Ok::<_, SessionError>(sink.close().await.map_err(Box::new)?)
        };
        tokio::pin!(writing);
        let outcome = tokio::select! {
            () = ended.cancelled() => Ok(Left::Broken),
            left = forward(source, &tasks, number) => left,
            written = &mut writing => written.map(|()| Left::Broken), // its thread has stopped
        };
        drop(tasks);
        match outcome {
            Ok(Left::Closed) => {
                // What it asked for before is still done and answered.
                let _ = timeout(LAST_WORDS, writing).await;
            }
            Ok(Left::Broken) => training.ended.cancel(),
            Err(error) => {
                if !matches!(error, SessionError::WebSocket(_)) {
                    say(&format!("error: {peer}: {error}"));
                }
                training.ended.cancel();
            }
        }
        ended.cancel();
    }
}

/// Hands tasks on, in their order, until the training leaves.
async fn forward(
    mut source: SplitStream<WebSocketStream<TcpStream>>,
    tasks: &mpsc::Sender<Task>,
    number: SessionId,
) -> Result<Left, SessionError> {
    while let Some(frame) = source.next().await {
        let batch: Vec<Message> = match frame.map_err(Box::new)? {
            Frame::Binary(frame) => rmp_serde::from_slice(&frame)?,
            Frame::Close(_) => break,
            _ => continue,
        };
        for message in batch {
            match message {
                // Its thread may have stopped.
                Message::Task(task) => {
                    if tasks.send(task).await.is_err() {
                        return Ok(Left::Broken);
                    }
                }
                Message::Close(closed) if closed == number => return Ok(Left::Closed),
                Message::Close(_) | Message::Init(_) => return Err(SessionError::Misplaced),
            }
        }
    }
    Ok(Left::Broken)
}
