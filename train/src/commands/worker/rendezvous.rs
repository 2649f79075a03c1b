//! Where one connection leaves what another comes for, whichever is first.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Things by what they are known by, each taken once.
pub(super) struct Rendezvous<K, V> {
    left: Mutex<HashMap<K, V>>,
    arrived: Notify,
}

impl<K, V> Default for Rendezvous<K, V> {
    fn default() -> Self {
        Self { left: Mutex::default(), arrived: Notify::new() }
    }
}

impl<K: Eq + Hash, V> Rendezvous<K, V> {
    /// Leaves something.
    pub(super) fn leave(&self, key: K, value: V) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
        self.arrived.notify_waiters();
    }

    /// Takes something, and waits until it is there. Whoever waits sees to it that somebody stops
    /// the wait.
    pub(super) async fn take(&self, key: &K) -> V {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable(); // before looking, or what comes in between wakes nobody
            let found = self.left.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            match found {
                Some(value) => return value,
                None => arrived.await,
            }
        }
    }

    /// Drops everything that nobody has come for.
    pub(super) fn clear(&self) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn either_may_be_first() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let place = Arc::new(Rendezvous::default());
            let waiting = tokio::spawn({
                let place = place.clone();
                async move { place.take(&1).await }
            });
            tokio::task::yield_now().await;
            place.leave(2, "two");
            place.leave(1, "one");
            assert_eq!((waiting.await.unwrap(), place.take(&2).await), ("one", "two"));
            place.leave(3, "three");
            place.clear();
            assert!(place.left.lock().unwrap().is_empty());
        });
    }
}
