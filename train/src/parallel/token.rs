//! The right to compute on a rank, passed between two micro-batches that overlap: one computes
//! while the other's rows are in flight.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Held by at most one thread.
#[derive(Debug, Default)]
pub struct ComputeToken {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Since when somebody holds it.
    since: Option<Instant>,
    /// How long it was held before that.
    held: Duration,
}

impl ComputeToken {
    /// Runs `compute` while holding the token; waits for it first.
    pub fn holding<T>(&self, compute: impl FnOnce() -> T) -> T {
        let _held = self.take();
        compute()
    }

    /// Gives the token up, waits, and takes it again; how long it was held meanwhile, too: the part
    /// of the wait in which the other micro-batch computed. A micro-batch that is alone on its rank
    /// need not hold the token, and does not after this either.
    pub fn given_up<T>(&self, wait: impl FnOnce() -> T) -> (T, Duration) {
        let was_held = self.release();
        let before = self.held();
        let result = wait();
        let meanwhile = self.held().saturating_sub(before);
        if was_held {
            std::mem::forget(self.take()); // held again by whoever held it before, who releases it
        }
        (result, meanwhile)
    }

    /// How long it has been held in all, by whom ever: the time in which something was computed.
    pub fn held(&self) -> Duration {
        let state = self.state();
        state.held + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn take(&self) -> Held<'_> {
        let mut state = self.state();
        while state.since.is_some() {
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.since = Some(Instant::now());
        Held(self)
    }

    /// Releases it; whether it was held.
    fn release(&self) -> bool {
        let mut state = self.state();
        let since = state.since.take();
        state.held += since.map_or(Duration::ZERO, |since| since.elapsed());
        drop(state);
        self.released.notify_one();
        since.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Releases the token, also when its holder unwinds.
struct Held<'a>(&'a ComputeToken);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    #[test]
    fn one_computes_while_the_other_waits() {
        let token = Arc::new(ComputeToken::default());
        let computing = Arc::new(AtomicUsize::new(0));
        let (answer, answered) = channel::<()>();
        let other = (token.clone(), computing.clone());
        token.holding(|| {
            computing.fetch_add(1, Ordering::SeqCst);
            let thread = std::thread::spawn(move || {
                let (token, computing) = other;
                token.holding(|| {
                    assert_eq!(
                        computing.load(Ordering::SeqCst),
                        0,
                        "the first holder has given the token up"
                    );
                    answer.send(()).unwrap();
                });
            });
            computing.fetch_sub(1, Ordering::SeqCst);
            // The answer would never come if the token were still held.
            token.given_up(|| answered.recv().unwrap());
            computing.fetch_add(1, Ordering::SeqCst);
            thread.join().unwrap();
        });
        assert_eq!(computing.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_time_that_it_is_held_is_known() {
        let token = ComputeToken::default();
        let pause = Duration::from_millis(20);
        token.holding(|| {
            std::thread::sleep(pause);
            assert!(token.held() >= pause);
            let before = token.held();
            let (_, meanwhile) = token.given_up(|| std::thread::sleep(10 * pause));
            assert_eq!(meanwhile, Duration::ZERO, "nobody else held it");
            assert!(token.held() < before + 9 * pause, "waiting is not holding");
        });
        assert_eq!(token.held(), token.held());
    }

    #[test]
    fn whoever_is_alone_need_not_hold_it() {
        let token = ComputeToken::default();
        token.given_up(|| ());
        token.given_up(|| ());
        token.holding(|| token.given_up(|| ())); // would wait for ever if it were held
        assert!(token.state().since.is_none());
    }

    /// Of a wait that part is hidden in which somebody else holds the token.
    #[test]
    fn what_a_wait_hides_is_known() {
        let token = Arc::new(ComputeToken::default());
        let pause = Duration::from_millis(40);
        let meanwhile = token.holding(|| {
            let other = token.clone();
            let thread = std::thread::spawn(move || other.holding(|| std::thread::sleep(pause)));
            let (_, meanwhile) = token.given_up(|| std::thread::sleep(4 * pause));
            thread.join().unwrap();
            meanwhile
        });
        assert!(meanwhile >= pause && meanwhile < 3 * pause, "{meanwhile:?}");
    }
}
