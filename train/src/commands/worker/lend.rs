//! The command itself: checks, opens devices, serves, and ends.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use burn::server::ServeError;
use burn::tensor::Device;
use burn_deepseek::backend::remote::serve_devices;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::notices::say;
use super::server::Server;
use crate::cli::WorkerArgs;
use crate::exit::Outcome;
use crate::failure::{Context, Result, UsageError, blamed};
use crate::signals::Signals;
use crate::stdout::write_stdout;

blamed!(User: ServeError);

/// How long connections are waited for when the worker ends.
const GRACE: Duration = Duration::from_secs(1);

/// Lends devices until it is told to stop.
///
/// # Errors
///
/// A device, a token or an address that does not fit ([`crate::exit::USAGE`]); a server that cannot
/// be started ([`crate::exit::FAILURE`]).
pub fn run(args: WorkerArgs, signals: &Signals) -> Result<Outcome> {
    let token = args.token.token()?;
    let address = resolved(&args.listen)?;
    let loopback = address.ip().is_loopback();
    if !loopback && token.is_none() {
        let problem = format!(
            "--listen {}: whoever reaches this address may use the devices; give --token-file or \
             --token-env",
            args.listen
        );
        return Err(UsageError(problem).into());
    }
    let selected = args.device.iter().map(|device| device.open()).collect::<Result<Vec<_>, _>>()?;
    let bound = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(listener)
    };
    let listener = bound().with_context(|| format!("--listen {}", args.listen))?;
    let url = format!("ws://{}", listener.local_addr()?);
    let names: Vec<&str> = selected.iter().map(|device| device.name.as_str()).collect();
    let devices: Vec<Device> = selected.iter().map(|selected| selected.device.clone()).collect();

    tell_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the server's threads cannot be started")?;
    let ended = CancellationToken::new();
    let server = {
        let _inside = runtime.enter();
        Server {
            listener: tokio::net::TcpListener::from_std(listener)?,
            token,
            loopback: loopback.then(|| host(&args.listen).to_owned()),
            ended: ended.clone(),
        }
    };
    let asked = if server.token.is_some() { ", with a token" } else { "" };
    let serving = serve_devices(&devices, server).context("--device")?;
    let signal = signals.forward();
    runtime.spawn(serving);

    // Where standard error is closed there is nobody to tell.
    let listed: Vec<String> =
        names.iter().enumerate().map(|(index, name)| format!("{index}: {name}")).collect();
    let _ = writeln!(std::io::stderr(), "listening on {url} ({}){asked}", listed.join(", "));
    if args.json {
        write_stdout(&format!("{}\n", json!({ "listening": url, "devices": names })))?;
    }
    signal.recv().context("signals are no longer heard")?;
    ended.cancel();
    runtime.shutdown_timeout(GRACE);
    Ok(Outcome::done(json!({ "listened": url, "devices": names })))
}

/// The host of `HOST:PORT`.
fn host(listen: &str) -> &str {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn resolved(listen: &str) -> Result<SocketAddr> {
    let wrong = |problem: String| {
        UsageError(format!("--listen {listen}: {problem}; it is HOST:PORT, as in 127.0.0.1:3000"))
    };
    let mut addresses = listen.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    Ok(addresses.next().ok_or_else(|| wrong("no such host".into()))?)
}

/// What befalls a session's thread (a kernel that refuses its arguments) ends the session alone: a
/// line each.
fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("no message");
        let place = panic
            .location()
            .map(|place| format!(" ({}:{})", place.file(), place.line()))
            .unwrap_or_default();
        say(&format!("error: a session's thread has stopped: {text}{place}"));
    }));
}
