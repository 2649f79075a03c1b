//! The training that has sessions here, one at a time, and what they have together.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use burn_ir::{BackendIr, HandleKind};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::messages::{Capability, LocalId};
use super::rendezvous::Rendezvous;
use crate::device::Introduction;

/// What the sessions of a training have together.
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

/// The training, and how many sessions it has here.
pub(super) struct Trainings<B: BackendIr> {
    served: Mutex<Option<(Arc<Training<B>>, usize)>>,
    worker_ended: CancellationToken,
}

/// A session's part in its training, which ends with the last of them.
pub(super) struct Seat<B: BackendIr> {
    pub training: Arc<Training<B>>,
    trainings: Arc<Trainings<B>>,
}

impl<B: BackendIr> Trainings<B> {
    /// None yet. Each ends with the worker at the latest.
    pub(super) fn new(worker_ended: CancellationToken) -> Self {
        Self { served: Mutex::default(), worker_ended }
    }

    /// A seat in the training that a session introduces itself with; none while another training is
    /// served, or this one ends.
    pub(super) fn seat(self: &Arc<Self>, introduction: &Introduction) -> Option<Seat<B>> {
        let secret = blake3::hash(introduction.training.as_bytes());
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let training = match &mut *served {
            Some((training, sessions))
                if training.secret == secret && !training.ended.is_cancelled() =>
            {
                *sessions += 1;
                training.clone()
            }
            Some(_) => return None,
            none => {
                let training = Arc::new(Training {
                    secret,
                    workers: introduction.workers.iter().cloned().collect(),
                    connections: Connections::new(&introduction.training),
                    local: Rendezvous::default(),
                    exposed: Rendezvous::default(),
                    ended: self.worker_ended.child_token(),
                });
                *none = Some((training.clone(), 1));
                training
            }
        };
        Some(Seat { training, trainings: self.clone() })
    }

    /// The training that another worker shows the secret of, unless it ends.
    pub(super) fn with_secret(&self, secret: &[u8]) -> Option<Arc<Training<B>>> {
        let secret = blake3::hash(secret);
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let (training, _) = served.as_ref()?;
        let known = training.secret == secret && !training.ended.is_cancelled();
        known.then(|| training.clone())
    }
}

impl<B: BackendIr> Drop for Seat<B> {
    fn drop(&mut self) {
        let mut served = self.trainings.served.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *served {
            Some((_, sessions)) if *sessions > 1 => *sessions -= 1,
            last => {
                self.training.ended.cancel();
                self.training.connections.close();
                self.training.local.clear();
                self.training.exposed.clear();
                *last = None;
            }
        }
    }
}
