//! The listener: counts who comes, and hands on who is let in.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use burn_deepseek::backend::remote::DeviceServer;
use burn_ir::BackendIr;
use burn_router::CustomOpRegistry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use super::door::{Door, Guest, Refusal};
use super::limits::{GUESTS, INTRODUCTION, of_strangers};
use super::notices::{Notices, say};
use super::session::Session;
use super::socket::settle;
use super::strangers::Strangers;
use super::trainings::Trainings;
use super::transfer::give;
use crate::device::Token;

/// How long it is rested where nobody can be let in, as with too few descriptors.
const REST: Duration = Duration::from_millis(100);

/// A server that is yet to be given devices.
pub(super) struct Server {
    pub listener: TcpListener,
    pub token: Option<Token>,
    /// The name under which it listens, where that is this machine's loopback.
    pub loopback: Option<String>,
    /// Ends it, and every session.
    pub ended: CancellationToken,
}

impl DeviceServer for Server {
    type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn serve<B: BackendIr>(
        self,
        devices: Vec<B::Device>,
        operations: CustomOpRegistry<B>,
    ) -> Self::Served {
        // Elsewhere than on a server a read waits for the device on the thread that asks.
        burn_std::set_runtime_kind(burn_std::RuntimeKind::Async);
        let trainings = Arc::new(Trainings::<B>::new(self.ended.clone()));
        let house = Arc::new(House {
            door: Door::new(self.token.as_ref(), self.loopback, devices.len(), trainings),
            devices,
            operations,
            notices: Notices::new(),
            strangers: Strangers::default(),
            guests: Semaphore::new(GUESTS),
            ended: self.ended,
        });
        Box::pin(house.accept(self.listener))
    }
}

/// What all connections have together.
struct House<B: BackendIr> {
    door: Door<B>,
    devices: Vec<B::Device>,
    operations: CustomOpRegistry<B>,
    notices: Notices,
    strangers: Strangers,
    guests: Semaphore,
    ended: CancellationToken,
}

impl<B: BackendIr> House<B> {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            tokio::select! {
                () = self.ended.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let house = self.clone();
                        let shown_out = self.strangers.arrived();
                        tokio::spawn(async move { house.meet(stream, peer, shown_out).await });
                    }
                    Err(error) => {
                        say(&format!("error: a connection cannot be taken: {error}"));
                        tokio::time::sleep(REST).await;
                    }
                },
            }
        }
    }

    /// One connection, from its beginning to its end.
    async fn meet(
        self: Arc<Self>,
        mut stream: TcpStream,
        peer: SocketAddr,
        shown_out: Arc<Notify>,
    ) {
        let known = async {
            settle(&stream)?;
            self.door.let_in(&mut stream).await
        };
        let known = tokio::select! {
            known = timeout(INTRODUCTION, known) => known,
            () = shown_out.notified() => {
                return self.notices.refused(peer, "others came before it had said who it is");
            }
        };
        self.strangers.left(&shown_out);
        let guest = match known {
            Ok(Ok(guest)) => guest,
            Ok(Err(Refusal::NoWebSocket | Refusal::Lent)) => return,
            Ok(Err(refusal)) => return self.notices.refused(peer, &refusal.to_string()),
            Err(_) => {
                let why = format!("it has not said who it is in {} s", INTRODUCTION.as_secs());
                return self.notices.refused(peer, &why);
            }
        };
        let Ok(_place) = self.guests.try_acquire() else {
            return self.notices.refused(peer, "there are too many connections");
        };
        match guest {
            Guest::Worker(training) => {
                let limits = Some(of_strangers()); // what it asks for is short
                give(
                    WebSocketStream::from_raw_socket(stream, Role::Server, limits).await,
                    training,
                )
                .await;
            }
            Guest::Training(init, seat) => {
                let session = Session {
                    peer,
                    number: init.session,
                    device: self.devices[init.device as usize].clone(),
                    device_count: self.devices.len() as u32,
                    operations: self.operations.clone(),
                    seat,
                };
                session.run(stream).await;
            }
        }
    }
}
