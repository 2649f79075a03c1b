//! Connections to other workers of a training.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::{self, http};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::limits::{DIAL, of_trainings};
use super::socket::settle;

/// Where tensors are fetched.
pub(super) const PATH: &str = "/tensors";

/// What stands before the secret in a request's header.
pub(super) const BEARER: &str = "Bearer ";

/// A connection to or from another worker.
pub(super) type Connection = WebSocketStream<TcpStream>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("no connection in {limit} s", limit = DIAL.as_secs())]
    Slow,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    WebSocket(#[from] Box<tungstenite::Error>),
    #[error("{0}")]
    Address(#[from] http::Error),
}

/// Connections to other workers that are not in use. Two fetches never share one: each may have to
/// wait for what comes after the other.
pub(super) struct Connections {
    secret: String,
    idle: Mutex<Option<HashMap<String, Vec<Connection>>>>,
}

impl Connections {
    pub(super) fn new(secret: &str) -> Self {
        Self { secret: secret.into(), idle: Mutex::new(Some(HashMap::new())) }
    }

    /// Closes what is idle, and what will be.
    pub(super) fn close(&self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A connection that nobody else uses.
    ///
    /// # Errors
    ///
    /// The worker cannot be reached, or does not know the training.
    pub(super) async fn get(&self, address: &str) -> Result<Connection, DialError> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.as_mut().and_then(|idle| idle.get_mut(address)?.pop())
        };
        match idle {
            Some(connection) => Ok(connection),
            None => {
                timeout(DIAL, dial(address, &self.secret)).await.map_err(|_| DialError::Slow)?
            }
        }
    }

    /// Keeps a connection for the next fetch.
    pub(super) fn put_back(&self, address: &str, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = idle.as_mut() {
            idle.entry(address.into()).or_default().push(connection);
        }
    }
}

async fn dial(address: &str, secret: &str) -> Result<Connection, DialError> {
    let mut request = format!("{address}{PATH}").into_client_request().map_err(Box::new)?;
    let value = format!("{BEARER}{secret}").parse().map_err(http::Error::from)?;
    request.headers_mut().insert(AUTHORIZATION, value);
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let stream = TcpStream::connect(authority).await?;
    settle(&stream)?;
    let connected = client_async_with_config(request, stream, Some(of_trainings())).await;
    Ok(connected.map_err(Box::new)?.0)
}
