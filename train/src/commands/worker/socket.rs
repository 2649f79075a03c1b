//! What is asked of a connection's socket.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long a peer may be silent to the system's own questions until it counts as gone.
const GONE: Duration = Duration::from_secs(30);

/// Sends at once, and notices a peer that vanishes without a word, whether it is spoken to or not.
///
/// # Errors
///
/// The connection has ended already.
pub(super) fn settle(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(10));
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "windows"))]
    let probes = probes.with_interval(Duration::from_secs(5)).with_retries(4);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(GONE))?;
    #[cfg(not(target_os = "linux"))]
    let _ = GONE; // elsewhere what has been sent has the system's own patience
    Ok(())
}
