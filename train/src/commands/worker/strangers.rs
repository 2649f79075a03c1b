//! Those who have come and not yet said who they are: never too many.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::limits::STRANGERS;

/// The strangers, in the order of their coming.
#[derive(Default)]
pub(super) struct Strangers(Mutex<VecDeque<Arc<Notify>>>);

impl Strangers {
    /// One more; what it is given wakes it when it must go. Where there are too many, that is the
    /// first: if the last had to go, a crowd could keep a training out.
    pub(super) fn arrived(&self) -> Arc<Notify> {
        let stranger = Arc::new(Notify::new());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == STRANGERS
            && let Some(first) = all.pop_front()
        {
            first.notify_one();
        }
        all.push_back(stranger.clone());
        stranger
    }

    /// It is known now, or gone.
    pub(super) fn left(&self, stranger: &Arc<Notify>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| !Arc::ptr_eq(other, stranger));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_first_of_too_many_goes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let strangers = Strangers::default();
            let known = strangers.arrived();
            strangers.left(&known);
            let first = strangers.arrived();
            let others: Vec<_> = (0..STRANGERS).map(|_| strangers.arrived()).collect();
            let woken = |stranger: Arc<Notify>| async move {
                tokio::time::timeout(Duration::from_millis(10), stranger.notified()).await.is_ok()
            };
            assert!(woken(first).await && !woken(known).await && !woken(others[0].clone()).await);
        });
    }
}
