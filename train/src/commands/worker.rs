//! `deepseek worker`: lends this machine's devices to trainings of other processes and machines,
//! over Burn's own remote backend.

use crate::cli::WorkerArgs;
use crate::exit::Outcome;
use crate::failure::Result;
use crate::signals::Signals;

/// Lends devices until it is told to stop.
///
/// # Errors
///
/// A device, a token or an address that does not fit ([`crate::exit::USAGE`]); a server that fails
/// ([`crate::exit::FAILURE`]).
#[cfg(not(feature = "remote"))]
pub fn run(_args: WorkerArgs, _signals: &Signals) -> Result<Outcome> {
    let problem = "this binary was built without devices of workers; build with --features remote";
    Err(crate::failure::UsageError(problem.into()).into())
}

#[cfg(feature = "remote")]
pub use served::run;

#[cfg(feature = "remote")]
mod served {
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use burn::server::{
        AuthorizationRequest, Credential, EmptyToken, PeerAuthorizer, RemoteServer, ServeError,
        TokenAuthorizer, WebSocketTransport,
    };
    use burn::tensor::Device;
    use burn_deepseek::backend::remote::with_operations;
    use serde_json::json;

    use super::*;
    use crate::device::Token;
    use crate::failure::{Context, Failure, UsageError, blamed};
    use crate::stdout::write_stdout;

    blamed!(Run: EmptyToken, ServeError);

    /// How long sessions are waited for when the worker ends.
    const GRACE: Duration = Duration::from_secs(1);

    /// Lends devices until it is told to stop.
    ///
    /// # Errors
    ///
    /// A device, a token or an address that does not fit ([`crate::exit::USAGE`]); a server that
    /// fails ([`crate::exit::FAILURE`]).
    pub fn run(args: WorkerArgs, signals: &Signals) -> Result<Outcome> {
        let token = args.token.token()?;
        let address = resolved(&args.listen)?;
        if !address.ip().is_loopback() && token.is_none() {
            let problem = format!(
                "--listen {}: whoever reaches this address may use the devices; give --token-file \
                 or --token-env",
                args.listen
            );
            return Err(UsageError(problem).into());
        }
        let selected =
            args.device.iter().map(|device| device.open()).collect::<Result<Vec<_>, _>>()?;
        let listener =
            TcpListener::bind(address).with_context(|| format!("--listen {}", args.listen))?;
        let url = format!("ws://{}", listener.local_addr()?);
        let names: Vec<&str> = selected.iter().map(|device| device.name.as_str()).collect();

        let devices: Vec<Device> =
            selected.iter().map(|selected| selected.device.clone()).collect();
        let first = devices.first().context("invariant: there is a device")?.clone();
        let server = with_operations(RemoteServer::new(devices), &first);
        let server = match &token {
            Some(token) => {
                let authorizer = TokenAuthorizer::new(token.reveal()).context("the token")?;
                server.with_authorizer(move |request: AuthorizationRequest<'_>| {
                    let credential =
                        Credential::from(Token::of_credential(request.credential.as_bytes()));
                    authorizer
                        .authorize(AuthorizationRequest { credential: &credential, ..request })
                })
            }
            None => server,
        };
        log_to_stderr();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("the server's threads cannot be started")?;
        let (ended, end) = channel::<Option<Result<(), ServeError>>>();
        let (stopped, signal) = (ended.clone(), signals.forward());
        std::thread::spawn(move || {
            for () in signal {
                let _ = stopped.send(None); // a second signal, while the first ends the worker
            }
        });
        let serving = server.serve_async(WebSocketTransport::from_listener(listener));
        runtime.spawn(async move {
            let served = serving.await;
            let _ = ended.send(Some(served)); // the worker may have been told to stop meanwhile
        });

        // Where standard error is closed there is nobody to tell.
        let listed: Vec<String> =
            names.iter().enumerate().map(|(index, name)| format!("{index}: {name}")).collect();
        let asked = if token.is_some() { ", with a token" } else { "" };
        let _ = writeln!(std::io::stderr(), "listening on {url} ({}){asked}", listed.join(", "));
        if args.json {
            write_stdout(&format!("{}\n", json!({ "listening": url, "devices": names })))?;
        }
        let served = end.recv().context("the server's threads have stopped")?;
        runtime.shutdown_timeout(GRACE);
        match served {
            None => Ok(Outcome::done(json!({ "listened": url, "devices": names }))),
            Some(Ok(())) => Err(Failure::new(format!("{url}: the server has stopped"))),
            Some(Err(error @ ServeError::MixedBackends)) => {
                Err(UsageError(format!("--device: {error}")).into())
            }
            Some(Err(error)) => Err(error).context(url),
        }
    }

    fn resolved(listen: &str) -> Result<SocketAddr> {
        let wrong = |problem: String| {
            UsageError(format!(
                "--listen {listen}: {problem}; it is HOST:PORT, as in 127.0.0.1:3000"
            ))
        };
        let mut addresses = listen.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
        Ok(addresses.next().ok_or_else(|| wrong("no such host".into()))?)
    }

    /// How a session ends whose client has simply left; Burn's server warns of it.
    const LEFT: &str = "without closing handshake";

    /// What befalls a session (a refused token, a kernel that refused its arguments) is told by
    /// Burn's server through `log` or by a panic that ends the session alone: a line each.
    fn log_to_stderr() {
        struct Stderr;
        impl log::Log for Stderr {
            fn enabled(&self, metadata: &log::Metadata) -> bool {
                metadata.level() <= log::Level::Warn
            }

            fn log(&self, record: &log::Record) {
                let text = record.args().to_string();
                if self.enabled(record.metadata()) && !text.contains(LEFT) {
                    let _ = writeln!(
                        std::io::stderr(),
                        "{}: {text}",
                        record.level().as_str().to_lowercase()
                    );
                }
            }

            fn flush(&self) {}
        }
        if log::set_logger(&Stderr).is_ok() {
            log::set_max_level(log::LevelFilter::Warn);
        }
        std::panic::set_hook(Box::new(|panic| {
            let text = panic.payload_as_str().unwrap_or("no message");
            if !text.contains("ResetWithoutClosingHandshake") {
                let place = panic
                    .location()
                    .map(|place| format!(" ({}:{})", place.file(), place.line()))
                    .unwrap_or_default();
                let _ = writeln!(
                    std::io::stderr(),
                    "error: a session's thread has stopped: {text}{place}"
                );
            }
        }));
    }
}
