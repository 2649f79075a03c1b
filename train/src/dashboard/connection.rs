//! Connections within limits: how many there are, how long a request may take to come and an answer
//! to be taken, and how long a request's head may be.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Connections at a time. One more, and whoever has been idle longest is shown out.
pub(super) const MOST: usize = 256;
/// How long a request's head may take to come, and how long a connection may be idle.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);
/// The longest head of a request, bytes.
pub(super) const HEAD_BYTES: usize = 32 << 10;
/// An answer that its reader takes more slowly than so many bytes in so long is given up.
const SLOWEST_BYTES: usize = 16 << 10;
const SLOWEST_TIME: Duration = Duration::from_secs(30);
/// How much is still read after the last answer, and for how long, so that the answer arrives.
const PASSED_BYTES: usize = 4 << 20;
const PASSED_TIME: Duration = Duration::from_secs(1);
/// How long it is rested where nobody can be let in, as with too few descriptors.
const REST: Duration = Duration::from_millis(100);
/// The answer to a head that is too long.
const TOO_LONG: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\n\
                          Connection: close\r\nContent-Length: 0\r\n\r\n";

/// A listener that keeps its connections within limits.
#[derive(Debug)]
pub(super) struct Limited {
    listener: TcpListener,
    all: Arc<All>,
}

impl Limited {
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, all: Arc::default() }
    }
}

impl Listener for Limited {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Where it cannot be set, answers come a little later.
                    let _ = stream.set_nodelay(true);
                    if let Some(connection) = self.all.arrived() {
                        return (Guarded::new(stream, connection, self.all.clone()), peer);
                    }
                }
                Err(_) => sleep(REST).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// All connections, in the order of their coming.
#[derive(Debug, Default)]
struct All(Mutex<Vec<Arc<Connection>>>);

impl All {
    /// One more, where there is room or can be made.
    fn arrived(&self) -> Option<Arc<Connection>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            let idle = all.iter().filter(|other| other.is_idle());
            let longest = idle.min_by_key(|other| other.idle_since())?.clone();
            longest.show_out();
            all.retain(|other| !Arc::ptr_eq(other, &longest));
        }
        let connection = Arc::new(Connection::default());
        all.push(connection.clone());
        Some(connection)
    }

    fn left(&self, connection: &Arc<Connection>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| !Arc::ptr_eq(other, connection));
    }
}

/// What the two sides of a connection share: what reads and writes bytes, and what answers.
#[derive(Debug)]
pub(super) struct Connection {
    /// Requests that are being answered.
    answering: AtomicUsize,
    /// Requests that have come.
    requests: AtomicUsize,
    idle_since: Mutex<Instant>,
    shown_out: AtomicBool,
    reader: AtomicWaker,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            answering: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            shown_out: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        }
    }
}

impl Connection {
    fn is_idle(&self) -> bool {
        self.answering.load(Ordering::Acquire) == 0
    }

    fn idle_since(&self) -> Instant {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_out(&self) {
        self.shown_out.store(true, Ordering::Release);
        self.reader.wake();
    }
}

/// The connection of a request.
#[derive(Clone, Debug)]
pub(super) struct OfConnection(Arc<Connection>);

impl OfConnection {
    /// A request is answered as long as this lives.
    pub fn answering(&self) -> Answering {
        self.0.answering.fetch_add(1, Ordering::AcqRel);
        self.0.requests.fetch_add(1, Ordering::AcqRel);
        Answering(self.0.clone())
    }
}

impl Connected<IncomingStream<'_, Limited>> for OfConnection {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        Self(stream.io().connection.clone())
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.answering.fetch_sub(1, Ordering::AcqRel);
        self.0.reader.wake();
    }
}

/// A connection's bytes.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: TcpStream,
    connection: Arc<Connection>,
    all: Arc<All>,
    reading: Pin<Box<Sleep>>,
    writing: Pin<Box<Sleep>>,
    /// Bytes of the head that is being read, and how many requests had come before it.
    head: (usize, usize),
    /// Bytes that were passed of a head that is too long, or after the last answer.
    passed: Option<usize>,
    /// Since when a reader has been slow, and how much it has taken.
    slow: Option<(Instant, usize)>,
}

impl Guarded {
    fn new(stream: TcpStream, connection: Arc<Connection>, all: Arc<All>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            connection,
            all,
            reading: Box::pin(sleep_until(now + HEAD_TIME)),
            writing: Box::pin(sleep_until(now)),
            head: (0, 0),
            passed: None,
            slow: None,
        }
    }

    /// Reads on where nothing is taken any more, and ends there.
    fn pass(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 8192];
        loop {
            let passed = self.passed.unwrap_or_default();
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
            let ended = match &read {
                Poll::Ready(Ok(())) => buffer.filled().is_empty(),
                Poll::Ready(Err(_)) => true,
                Poll::Pending => self.reading.as_mut().poll(context).is_ready(),
            };
            if ended || passed > PASSED_BYTES {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if read.is_pending() {
                return Poll::Pending;
            }
            self.passed = Some(passed + buffer.filled().len());
        }
    }

    /// What came of writing, unless the reader has been too slow for too long.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match (&written, &mut self.slow) {
            (Poll::Ready(_), None) => {}
            (Poll::Ready(Ok(written)), Some((since, taken))) => {
                *taken += bytes(written);
                if *taken >= SLOWEST_BYTES || since.elapsed() >= SLOWEST_TIME {
                    self.slow = None;
                }
            }
            (Poll::Ready(Err(_)), Some(_)) => {}
            (Poll::Pending, slow) => {
                if slow.is_none() {
                    let now = Instant::now();
                    *slow = Some((now, 0));
                    self.writing.as_mut().reset(now + SLOWEST_TIME);
                }
                if self.writing.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        written
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.all.left(&self.connection);
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.connection.reader.register(context.waker());
        if this.connection.shown_out.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if this.passed.is_some() {
            return this.pass(context);
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let idle = this.connection.is_idle();
        if read.is_pending() {
            if idle {
                let deadline = this.connection.idle_since() + HEAD_TIME;
                if this.reading.deadline() != deadline {
                    this.reading.as_mut().reset(deadline);
                }
                ready!(this.reading.as_mut().poll(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return Poll::Pending;
        }
        let requests = this.connection.requests.load(Ordering::Acquire);
        if !idle || this.head.1 != requests {
            this.head = (0, requests);
        }
        this.head.0 += buffer.filled().len() - before;
        if idle && this.head.0 > HEAD_BYTES {
            buffer.set_filled(before);
            // Whoever does not take it has it untold.
            let _ = Pin::new(&mut this.stream).poll_write(context, TOO_LONG);
            let _ = Pin::new(&mut this.stream).poll_shutdown(context);
            this.passed = Some(0);
            this.reading.as_mut().reset(Instant::now() + PASSED_TIME);
            return this.pass(context);
        }
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.in_time(context, written, |&count| count)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        this.in_time(context, written, |&count| count)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    /// What still comes is read for a moment: where it is not, the system takes back what the other
    /// side has not read yet.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.passed.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            this.passed = Some(0);
            this.reading.as_mut().reset(Instant::now() + PASSED_TIME);
        }
        // It ends in any case, and how is all the same.
        let _ = ready!(this.pass(context));
        Poll::Ready(Ok(()))
    }
}
