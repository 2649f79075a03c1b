//! The right to compute on a rank, passed between two micro-batches that overlap: one computes
//! while the other's rows are in flight.

use std::sync::{Condvar, Mutex, PoisonError};

/// Held by at most one thread.
#[derive(Debug, Default)]
pub struct ComputeToken {
    held: Mutex<bool>,
    released: Condvar,
}

impl ComputeToken {
    /// Runs `compute` while holding the token; waits for it first.
    pub fn holding<T>(&self, compute: impl FnOnce() -> T) -> T {
        let _held = self.take();
        compute()
    }

    /// Gives the token up, waits, and takes it again.
    pub fn given_up<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.release();
        let result = wait();
        std::mem::forget(self.take()); // held again by whoever held it before, who releases it
        result
    }

    fn take(&self) -> Held<'_> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while *held {
            held = self.released.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        *held = true;
        Held(self)
    }

    fn release(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.released.notify_one();
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
}
