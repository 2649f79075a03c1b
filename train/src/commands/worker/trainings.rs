//! The trainings that have sessions here: one, except while one ends and the next begins.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use burn_ir::{BackendIr, HandleKind};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::messages::{Capability, LocalId};
use super::rendezvous::Rendezvous;
use crate::device::Introduction;

/// What sessions of one training have together. Nothing of it is seen by another.
pub(super) struct Training<B: BackendIr> {
    /// What its workers know each other by, as a digest: digests compare in constant time.
    secret: blake3::Hash,
    /// Where its workers are.
    workers: HashSet<String>,
    /// Connections to them.
    pub connections: Connections,
    /// Tensors between sessions of this worker.
    pub local: Rendezvous<LocalId, HandleKind<B>>,
    /// Tensors for other workers, as they are sent.
    pub exposed: Rendezvous<Capability, Bytes>,
    /// Cancelled when one of the sessions has broken off, and with the last: no session of a training
    /// can do without the others.
    pub ended: CancellationToken,
}

impl<B: BackendIr> Training<B> {
    /// Whether a worker is one of this training's.
    pub(super) fn has_worker(&self, address: &str) -> bool {
        self.workers.contains(address)
    }
}

/// The trainings, and how many sessions each has.
pub(super) struct Trainings<B: BackendIr>(Mutex<Vec<(Arc<Training<B>>, usize)>>);

impl<B: BackendIr> Default for Trainings<B> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A session's part in its training, which ends with the last of them.
pub(super) struct Seat<B: BackendIr> {
    pub training: Arc<Training<B>>,
    all: Arc<Trainings<B>>,
}

impl<B: BackendIr> Trainings<B> {
    /// A seat in the training that a session introduces itself with.
    ///
    /// It ends with the worker at the latest.
    pub(super) fn seat(
        self: &Arc<Self>,
        introduction: &Introduction,
        worker: &CancellationToken,
    ) -> Seat<B> {
        let secret = blake3::hash(introduction.training.as_bytes());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let training = match all.iter_mut().find(|(training, _)| training.secret == secret) {
            Some((training, sessions)) => {
                *sessions += 1;
                training.clone()
            }
            None => {
                let training = Arc::new(Training {
                    secret,
                    workers: introduction.workers.iter().cloned().collect(),
                    connections: Connections::new(&introduction.training),
                    local: Rendezvous::default(),
                    exposed: Rendezvous::default(),
                    ended: worker.child_token(),
                });
                all.push((training.clone(), 1));
                training
            }
        };
        Seat { training, all: self.clone() }
    }

    /// The training that another worker shows the secret of.
    pub(super) fn with_secret(&self, secret: &[u8]) -> Option<Arc<Training<B>>> {
        let secret = blake3::hash(secret);
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(training, _)| training.secret == secret).map(|(one, _)| one.clone())
    }
}

impl<B: BackendIr> Drop for Seat<B> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) =
            all.iter().position(|(training, _)| Arc::ptr_eq(training, &self.training))
        else {
            return; // it has a place as long as one seat is taken
        };
        all[place].1 -= 1;
        if all[place].1 == 0 {
            all.swap_remove(place);
            self.training.ended.cancel();
            self.training.connections.close();
            self.training.local.clear();
            self.training.exposed.clear();
        }
    }
}
