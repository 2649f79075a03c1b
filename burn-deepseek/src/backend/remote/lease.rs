//! To whom a server's devices are lent: one borrower at a time, for as long as one of its sessions
//! lives.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

/// The borrower, and how many sessions it has.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Option<(u64, usize)>>>);

/// One session's part in that. A session has a thread of its own, and the lease ends with it.
struct Lease(Ledger);

thread_local! {
    static LEASE: RefCell<Option<Lease>> = const { RefCell::new(None) };
}

impl Ledger {
    /// Lends to a borrower on the thread of one of its sessions; false where another one has the
    /// devices.
    pub(super) fn lend_to(&self, borrower: u64) -> bool {
        let mut lent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *lent {
            Some((who, _)) if *who != borrower => return false,
            _ if LEASE.with_borrow(Option::is_some) => return true, // asked once more
            Some((_, sessions)) => *sessions += 1,
            none => *none = Some((borrower, 1)),
        }
        LEASE.set(Some(Lease(self.clone())));
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut lent = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *lent = match lent.take() {
            Some((who, sessions)) if sessions > 1 => Some((who, sessions - 1)),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_lease_ends_with_the_thread_of_its_session() {
        let ledger = Ledger::default();
        let session = |borrower: u64| {
            let (ledger, (end, ended), (say, said)) = (ledger.clone(), channel::<()>(), channel());
            let thread = std::thread::spawn(move || {
                say.send((ledger.lend_to(borrower), ledger.lend_to(borrower))).unwrap();
                let _ = ended.recv(); // until the other end is dropped
            });
            (said.recv().unwrap(), end, thread)
        };
        let ended =
            |(_, end, thread): (_, std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>)| {
                drop(end);
                thread.join().unwrap();
            };
        let (first, second) = (session(1), session(1));
        assert_eq!((first.0, second.0), ((true, true), (true, true)));
        ended(first);
        assert_eq!(session(2).0, (false, false), "one session is left");
        ended(second);
        assert_eq!(session(2).0, (true, true));
    }
}
