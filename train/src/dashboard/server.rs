//! The server itself: where it listens, on which threads, and its end.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::collection::Collection;
use super::connection::{Limited, OfConnection};
use super::door::Door;
use super::house::House;
use super::routes;
use crate::device::Token;
use crate::failure::{Context, Result, UsageError};
use crate::microscope::MOST_WAITING;

/// How long answers are waited for when the server ends.
const GRACE: Duration = Duration::from_millis(500);
/// Threads that read files, beside those of questions to the microscope, which wait for each other:
/// what one page asks does not hold up another.
const READERS: usize = 4;

/// Where a server listens, and to whom.
#[derive(Debug)]
pub struct Address<'a> {
    /// `HOST:PORT`.
    pub listen: &'a str,
    /// The argument that says so.
    pub argument: &'a str,
    /// The arguments that give a token.
    pub token_arguments: &'a str,
    /// What is asked for; an address other than loopback takes one.
    pub token: Option<Token>,
}

/// A server that has its address, and nobody is answered yet.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    door: Door,
    asks: bool,
}

impl Listening {
    /// Takes an address.
    ///
    /// # Errors
    /// One that does not fit, or without a token where one must be ([`crate::exit::USAGE`]); one
    /// that cannot be had ([`crate::exit::FAILURE`]).
    pub fn at(wanted: &Address<'_>) -> Result<Self> {
        let Address { listen, argument, token_arguments, token } = wanted;
        let address = resolved(listen, argument)?;
        if !address.ip().is_loopback() && token.is_none() {
            let problem = format!(
                "{argument} {listen}: whoever reaches this address may read and label the runs; \
                 give {token_arguments}"
            );
            return Err(UsageError(problem).into());
        }
        let bound = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok::<_, std::io::Error>((listener, address))
        };
        let (listener, address) = bound().with_context(|| format!("{argument} {listen}"))?;
        let door = Door::new(address, listen, token.as_ref());
        Ok(Self { listener, address, door, asks: token.is_some() })
    }

    /// Serves the runs in some folders or below; `live` is the one that this process trains.
    ///
    /// # Errors
    /// A folder that is not there ([`crate::exit::USAGE`]); threads that cannot be started
    /// ([`crate::exit::FAILURE`]).
    pub fn show(self, folders: &[PathBuf], live: Option<&Path>) -> Result<Dashboard> {
        let house = Arc::new(House::new(Collection::new(folders, live)?, self.door));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(READERS + MOST_WAITING)
            .thread_name("dashboard")
            .enable_all()
            .build()
            .context("the dashboard's threads cannot be started")?;
        let listener = {
            let _inside = runtime.enter();
            Limited::new(tokio::net::TcpListener::from_std(self.listener)?)
        };
        runtime.spawn(house.clone().watch());
        let service = routes::all(house).into_make_service_with_connect_info::<OfConnection>();
        runtime.spawn(axum::serve(listener, service).into_future());
        Ok(Dashboard { runtime: Some(runtime), address: self.address, asks: self.asks })
    }
}

/// A server of pages about runs, on a thread of its own; it ends when this is dropped.
#[derive(Debug)]
pub struct Dashboard {
    runtime: Option<Runtime>,
    address: SocketAddr,
    asks: bool,
}

impl Dashboard {
    /// Where it is, for a browser.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Its address in words.
    pub fn describe(&self) -> String {
        format!("{}{}", self.url(), if self.asks { ", with a token" } else { "" })
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(GRACE);
        }
    }
}

fn resolved(listen: &str, argument: &str) -> Result<SocketAddr> {
    let wrong = |problem: String| {
        let problem =
            format!("{argument} {listen}: {problem}; it is HOST:PORT, as in 127.0.0.1:6007");
        UsageError(problem)
    };
    let mut addresses = listen.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    Ok(addresses.next().ok_or_else(|| wrong("no such host".into()))?)
}
