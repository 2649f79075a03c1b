//! What a training sends to its worker, recorded by a relay between them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};

use super::worker::Worker;

/// Bytes of a message that are kept: the rest of it is numbers.
const KEPT_BYTES: usize = 1 << 22;

/// What a client has sent on a connection so far.
type Kept = Arc<Mutex<Vec<u8>>>;

/// A message of a connection, as it was before it was framed.
#[derive(Clone, Debug)]
pub struct Message {
    /// The first byte of its frame: whether it is the last, and its type.
    pub first: u8,
    pub payload: Vec<u8>,
}

/// A connection: its handshake, and what the client said after it.
#[derive(Clone, Debug)]
pub struct Session {
    head: String,
    relay: String,
    pub messages: Vec<Message>,
}

impl Session {
    /// The handshake, as if it had been made with this address.
    pub fn head_for(&self, address: &str) -> String {
        self.head.replace(&self.relay, address)
    }
}

impl Message {
    /// The message in a frame, with a mask.
    pub fn framed(&self, mask: u32) -> Vec<u8> {
        let length = self.payload.len();
        let mut frame = vec![self.first];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        let mask = mask.to_be_bytes();
        frame.extend(mask);
        frame.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }
}

/// Trains on a worker through a relay, and gives the connections that were made.
pub fn record(worker: &Worker, scratch: &Path) -> Result<Vec<Session>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let relay = listener.local_addr()?;
    let sent: Arc<Mutex<Vec<Kept>>> = Arc::default();
    let (target, kept) = (worker.address, sent.clone());
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let bytes = Kept::default();
            lock(&kept).push(Arc::clone(&bytes));
            // A connection that fails is the training's to tell of.
            let _ = relayed(client, target, bytes);
        }
    });
    worker.train(&relay, scratch)?;
    let sessions: Vec<Session> =
        lock(&sent).iter().filter_map(|bytes| session(&lock(bytes), &relay)).collect();
    ensure!(!sessions.is_empty(), "a training makes a connection with messages");
    Ok(sessions)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes bytes on in both directions, and keeps those of the client.
fn relayed(client: TcpStream, target: SocketAddr, kept: Kept) -> Result<()> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let (mut from_server, mut to_client) = (server, client);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_client.read(&mut buffer) {
            let mut kept = lock(&kept);
            if kept.len() < KEPT_BYTES {
                kept.extend(&buffer[..read]);
            }
            drop(kept);
            if to_server.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(std::net::Shutdown::Both);
    });
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
    Ok(())
}

/// What was sent on a connection, where it got as far as a message.
fn session(bytes: &[u8], relay: &SocketAddr) -> Option<Session> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let (mut rest, mut messages) = (&bytes[end..], Vec::new());
    while let Some((message, after)) = message(rest) {
        messages.push(message);
        rest = after;
    }
    (!messages.is_empty()).then(|| Session { head, relay: relay.to_string(), messages })
}

/// The message at the beginning, unmasked, and what follows it.
fn message(bytes: &[u8]) -> Option<(Message, &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match second & 0x7f {
        126 => {
            rest.split_first_chunk().map(|(b, rest)| (u64::from(u16::from_be_bytes(*b)), rest))?
        }
        127 => rest.split_first_chunk().map(|(b, rest)| (u64::from_be_bytes(*b), rest))?,
        short => (u64::from(short), rest),
    };
    let (mask, rest) = rest.split_first_chunk::<4>()?;
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((Message { first, payload }, rest))
}
