//! Devices of `deepseek worker`, on this machine or another: their addresses, the token that opens
//! them, and whether one still answers.

use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use burn_deepseek::weights::read_regular_text;

use super::error::DeviceError;
#[cfg(feature = "remote")]
use super::introduction::Introduction;
#[cfg(feature = "remote")]
use super::selected::SelectedDevice;
use crate::failure::blamed;

/// What a worker's address begins with.
const SCHEME: &str = "ws://";

/// A device of a worker: `ws://host:port`, or `ws://host:port/1` for its second.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkerDevice {
    host: String,
    port: u16,
    index: usize,
}

impl WorkerDevice {
    /// Whether a text means a worker's device, rightly written or not.
    pub(super) fn is_meant_by(text: &str) -> bool {
        text.contains("://")
    }

    /// The worker, whichever its device.
    pub fn worker(&self) -> String {
        format!("{SCHEME}{}:{}", self.host, self.port)
    }

    /// Another device of the same worker.
    pub(super) fn with_index(&self, index: usize) -> Self {
        Self { index, ..self.clone() }
    }

    /// Whether the worker answers within `patience`. Any answer will do: it is not asked for
    /// anything that takes a token, and one that is busy computing answers all the same.
    pub fn answers(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let Ok(addresses) = (host, self.port).to_socket_addrs() else { return false };
        let left =
            || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let ask = |mut stream: TcpStream| -> std::io::Result<bool> {
            stream.set_read_timeout(Some(left()))?;
            stream.set_write_timeout(Some(left()))?;
            stream.write_all(
                format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host)
                    .as_bytes(),
            )?;
            Ok(stream.read(&mut [0])? > 0)
        };
        addresses.into_iter().any(|address| {
            TcpStream::connect_timeout(&address, left()).and_then(ask).unwrap_or(false)
        })
    }

    /// Opens the device for a rank of a training that is on `workers`, and waits for the worker's
    /// answer for `patience` at most.
    ///
    /// Every rank has a session of its own, also where several are on one device: a tensor of
    /// Burn's remote backend may be freed too early where two threads hold it, and messages between
    /// ranks are tensors that change threads. Between sessions a tensor is always another one.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Worker`].
    #[cfg(feature = "remote")]
    pub(super) fn open(
        &self,
        rank: usize,
        token: Option<&Token>,
        workers: &[String],
        patience: Duration,
    ) -> Result<SelectedDevice, DeviceError> {
        use burn::remote::RemoteHost;
        use burn_deepseek::backend::remote::{ConnectError, connect};

        let refused = |problem: String| DeviceError::Worker { device: self.to_string(), problem };
        let introduction =
            Introduction { rank, training: process_secret().into(), workers: workers.to_vec() };
        let host =
            RemoteHost::websocket(&self.worker()).with_credential(introduction.credential(token));
        let (answer, answered) = std::sync::mpsc::channel();
        let index = self.index;
        let ask = move || {
            let lent_until = Instant::now() + LENT_PATIENCE;
            let opened = loop {
                match connect(&host, index, borrower()) {
                    // A training that has just ended leaves sessions that take a moment to end too.
                    Err(ConnectError::Lent) if Instant::now() < lent_until => {
                        std::thread::sleep(Duration::from_millis(100))
                    }
                    opened => break opened,
                }
            };
            let _ = answer.send(opened); // whoever asked may have given up waiting
        };
        let thread = std::thread::Builder::new().name(format!("opening {self}"));
        thread
            .spawn(ask)
            .map_err(|error| refused(format!("a thread cannot be started: {error}")))?;
        match answered.recv_timeout(patience) {
            Ok(Ok(device)) => Ok(SelectedDevice { device, name: self.to_string(), on_cpu: false }),
            Ok(Err(error)) => Err(refused(error.to_string())),
            Err(_) => {
                Err(refused(format!("no answer for {} s (parallel.timeout_s)", patience.as_secs())))
            }
        }
    }
}

impl FromStr for WorkerDevice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let wrong = |problem| DeviceError::Index { text: text.into(), problem };
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| wrong("a worker's address begins with ws://"))?;
        let (authority, index) = match rest.split_once('/') {
            None | Some((_, "")) => (rest.trim_end_matches('/'), 0),
            Some((authority, index)) => (
                authority,
                index
                    .parse()
                    .map_err(|_| wrong("what follows the port must be the number of a device"))?,
            ),
        };
        let (host, port) = authority
            .rsplit_once(':')
            .ok_or_else(|| wrong("a worker's address has a port, as in ws://host:3000"))?;
        let port = port
            .parse()
            .map_err(|_| wrong("a worker's address has a port, as in ws://host:3000"))?;
        if host.is_empty() || host.contains(['@', '?', '#', ' ']) {
            return Err(wrong("a worker's address is ws://host:port, and no more"));
        }
        Ok(Self { host: host.into(), port, index })
    }
}

impl fmt::Display for WorkerDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.worker())?;
        if self.index > 0 { write!(f, "/{}", self.index) } else { Ok(()) }
    }
}

/// A secret of this process, in hexadecimal digits: what its training's workers know each other by.
#[cfg(feature = "remote")]
fn process_secret() -> &'static str {
    use std::hash::{BuildHasher, RandomState};

    static SECRET: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    SECRET.get_or_init(|| {
        let random = RandomState::new(); // its keys are the system's
        format!("{:016x}{:016x}", random.hash_one(1), random.hash_one(2))
    })
}

/// A number for this process, by which workers know to whom they lend.
#[cfg(feature = "remote")]
fn borrower() -> u64 {
    u64::from_str_radix(&process_secret()[..16], 16).unwrap_or_default()
}

/// How long devices that are lent to another training are waited for.
#[cfg(feature = "remote")]
const LENT_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a file with a token at most.
const TOKEN_BYTES: u64 = 1 << 20;

/// What a worker asks for before it lends its devices.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// From the first line of a file, or from an environment variable; none where neither is named.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, a variable that is not set, or an empty token.
    pub fn from_either(
        file: Option<&Path>,
        variable: Option<&str>,
    ) -> Result<Option<Self>, TokenError> {
        let (text, origin) = match (file, variable) {
            (None, None) => return Ok(None),
            (Some(file), _) => (
                read_regular_text(file, TOKEN_BYTES).map_err(|error| error.to_string()),
                file.display().to_string(),
            ),
            (None, Some(name)) => (
                std::env::var(name).map_err(|error| error.to_string()),
                format!("environment variable {name}"),
            ),
        };
        match text.as_ref().map(|text| text.lines().next().map_or("", str::trim)) {
            Ok("") => Err(TokenError { origin, problem: "the token is empty".into() }),
            Ok(token) => Ok(Some(Self(token.into()))),
            Err(problem) => Err(TokenError { origin, problem: problem.clone() }),
        }
    }

    /// The token itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)") // it may end in a log
    }
}

/// Why there is no token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("token: {origin}: {problem}")]
pub struct TokenError {
    origin: String,
    problem: String,
}

blamed!(User: TokenError);
