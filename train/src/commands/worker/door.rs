//! Who is let in: a stranger's request, its headers and its first message, within limits.

use std::net::IpAddr;
use std::sync::Arc;

use burn_ir::BackendIr;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HOST, ORIGIN};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::connections::{BEARER, PATH};
use super::limits::of_strangers;
use super::messages::{Answer, Content, Init, SessionRefusal, opening};
use super::trainings::{Seat, Training, Trainings};
use crate::device::{Introduction, Token};

/// Where sessions are opened, as Burn's client has it.
const SESSION: &str = "/session";

/// The answer to a request that opens nothing, such as a training's question whether the worker
/// still answers.
const NO_WEBSOCKET: &[u8] = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n\
                              Connection: close\r\nContent-Length: 0\r\n\r\n";

/// Who has come in.
pub(super) enum Guest<B: BackendIr> {
    /// A training, which opens a session.
    Training(Init, Seat<B>),
    /// Another worker of a training, which fetches tensors.
    Worker(Arc<Training<B>>),
}

/// Why somebody was not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Somebody asked whether the worker answers. It does.
    #[error("its request opens no WebSocket")]
    NoWebSocket,
    #[error("it comes from a web page (its request has an Origin)")]
    Page,
    #[error("it asks for another host than this one")]
    Host,
    #[error("it asks for what is not served")]
    Path,
    #[error("it has no token, or a wrong one")]
    Token,
    #[error("it does not show the secret of a training that is served")]
    Secret,
    #[error("it speaks another protocol: is it of the same release?")]
    Protocol,
    #[error("it asks for a device that is not there")]
    Device,
    /// It may come again, and is told so.
    #[error("another training is served")]
    Lent,
    #[error("{0}")]
    Broken(Box<tungstenite::Error>),
}

impl From<tungstenite::Error> for Refusal {
    fn from(error: tungstenite::Error) -> Self {
        Self::Broken(Box::new(error))
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        tungstenite::Error::from(error).into()
    }
}

/// What the worker asks for.
pub(super) struct Door<B: BackendIr> {
    /// A digest: digests compare in constant time.
    token: Option<blake3::Hash>,
    /// Whether only this machine reaches it, and under which name it then was told to listen.
    loopback: Option<String>,
    devices: u32,
    trainings: Arc<Trainings<B>>,
}

impl<B: BackendIr> Door<B> {
    pub(super) fn new(
        token: Option<&Token>,
        loopback: Option<String>,
        devices: usize,
        trainings: Arc<Trainings<B>>,
    ) -> Self {
        let token = token.map(|token| blake3::hash(token.reveal().as_bytes()));
        Self { token, loopback, devices: devices.try_into().unwrap_or(u32::MAX), trainings }
    }

    /// Lets somebody in, or says why not. However long that takes: whoever calls it limits it.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which the other side has been told as far as it understands it.
    pub(super) async fn let_in(&self, stream: &mut TcpStream) -> Result<Guest<B>, Refusal> {
        match self.request(stream).await? {
            Asked::Tensors(training) => Ok(Guest::Worker(training)),
            Asked::Session => self.introduction(stream).await,
        }
    }

    /// Reads and answers the request.
    async fn request(&self, stream: &mut TcpStream) -> Result<Asked<B>, Refusal> {
        let mut outcome = Err(Refusal::NoWebSocket);
        #[allow(clippy::result_large_err)] // tungstenite's own type
        let judge = |request: &Request, response: Response| {
            outcome = self.judged(request);
            match &outcome {
                Ok(_) => Ok(response),
                Err(refusal) => {
                    let mut response = ErrorResponse::new(None);
                    *response.status_mut() = match refusal {
                        Refusal::Path => StatusCode::NOT_FOUND,
                        Refusal::Secret => StatusCode::UNAUTHORIZED,
                        _ => StatusCode::FORBIDDEN,
                    };
                    Err(response)
                }
            }
        };
        let opened = accept_hdr_async_with_config(&mut *stream, judge, Some(of_strangers())).await;
        match opened {
            Ok(_) | Err(tungstenite::Error::Http(_)) => outcome,
            Err(tungstenite::Error::Protocol(_)) => {
                stream.write_all(NO_WEBSOCKET).await?;
                Err(Refusal::NoWebSocket)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn judged(&self, request: &Request) -> Result<Asked<B>, Refusal> {
        let headers = request.headers();
        if headers.contains_key(ORIGIN) {
            return Err(Refusal::Page); // browsers send it, and nobody else
        }
        let mut hosts = headers.get_all(HOST).iter();
        match (hosts.next().map(|host| host.to_str()), hosts.next()) {
            (Some(Ok(host)), None) if self.is_host(host) => {}
            _ => return Err(Refusal::Host),
        }
        match request.uri().path() {
            SESSION => Ok(Asked::Session),
            PATH => {
                let secret = headers
                    .get(AUTHORIZATION)
                    .and_then(|value| value.as_bytes().strip_prefix(BEARER.as_bytes()));
                let training = secret.and_then(|secret| self.trainings.with_secret(secret));
                training.map(Asked::Tensors).ok_or(Refusal::Secret)
            }
            _ => Err(Refusal::Path),
        }
    }

    /// Whether a request's host can be this worker. On loopback another name would be one that was
    /// made to lead here; elsewhere a worker may have any, and asks for a token.
    fn is_host(&self, host: &str) -> bool {
        let Some(own) = &self.loopback else { return !host.is_empty() };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => name,
            _ => host,
        };
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.is_ok_and(|address| address.is_loopback())
            || name.eq_ignore_ascii_case("localhost")
            || name.eq_ignore_ascii_case(own)
    }

    /// Reads the first message of a session.
    async fn introduction(&self, stream: &mut TcpStream) -> Result<Guest<B>, Refusal> {
        // What is read beyond the message is lost, and its sender with it: whoever keeps to the
        // protocol waits for an answer first.
        let mut socket =
            WebSocketStream::from_raw_socket(stream, Role::Server, Some(of_strangers())).await;
        let message = loop {
            match socket.next().await.transpose()? {
                Some(Message::Binary(message)) => break message,
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                _ => return Err(Refusal::Protocol),
            }
        };
        let (told, refusal) = match opening(&message).map(|init| self.admitted(init)) {
            Ok(Ok(guest)) => return Ok(guest),
            Ok(Err(told)) => told,
            Err(told) => (told, Refusal::Protocol),
        };
        let answer = Answer { content: Content::InitRefused(told), id: 0 };
        if let Ok(bytes) = answer.to_bytes() {
            socket.send(Message::Binary(bytes.into())).await?;
        }
        socket.close(None).await?;
        Err(refusal)
    }

    fn admitted(&self, init: Init) -> Result<Guest<B>, (SessionRefusal, Refusal)> {
        let shown = init.credential.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let right = match &self.token {
            Some(token) => blake3::hash(shown) == *token,
            None => true,
        };
        if !right {
            return Err((SessionRefusal::Unauthorized, Refusal::Token));
        }
        let Some(introduction) = Introduction::read(&init.credential) else {
            return Err((SessionRefusal::Unauthorized, Refusal::Protocol));
        };
        if init.device >= self.devices {
            let told = SessionRefusal::NoSuchDevice { device_count: self.devices };
            return Err((told, Refusal::Device));
        }
        // A training that is not served has no devices: no other refusal of Burn's can say it.
        let lent = SessionRefusal::NoSuchDevice { device_count: 0 };
        let seat = self.trainings.seat(&introduction).ok_or((lent, Refusal::Lent))?;
        Ok(Guest::Training(init, seat))
    }
}

/// What a request asks for.
enum Asked<B: BackendIr> {
    Session,
    Tensors(Arc<Training<B>>),
}
