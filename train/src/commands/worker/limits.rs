//! How much and how long a worker bears from whom.

use std::time::Duration;

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// How long a stranger may take to say who it is: request, headers and first message together.
pub(super) const INTRODUCTION: Duration = Duration::from_secs(10);

/// How many may be saying who they are. One more, and whoever has taken longest is shown out.
pub(super) const STRANGERS: usize = 64;

/// How many connections may be let in at a time. A rank has one, and one for each worker that
/// fetches from it at the same moment.
pub(super) const GUESTS: usize = 512;

/// How long another worker may take until a connection to it stands.
pub(super) const DIAL: Duration = Duration::from_secs(10);

/// How long what is still to be sent may take once a session has ended.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);

/// How many tasks and how many answers of a session may wait; beyond, its client does.
pub(super) const QUEUE: usize = 64;

/// The longest message of somebody unknown, bytes: a token and the addresses of some thousand
/// workers.
const INTRODUCTION_BYTES: usize = 64 << 10;

/// The longest message of a training, bytes, as in Burn's client: a tensor is one message.
const MESSAGE_BYTES: usize = 1 << 30;

/// What is read of somebody unknown. Memory follows what has come, up to the message's limit; its
/// headers have tungstenite's own: 64 KiB and 124 lines.
pub(super) fn of_strangers() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_message_size(Some(INTRODUCTION_BYTES))
        .max_frame_size(Some(INTRODUCTION_BYTES))
}

/// What is read of a training.
pub(super) fn of_trainings() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(64 << 10)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES))
}
