//! Tokenizes jobs on several threads; what comes of them keeps their order.

use std::collections::BTreeMap;
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::error::DataError;
use super::pack::{Job, Sides};
use super::tokenizer::{Encoder, FimTokens, Tokenizer};

/// Jobs of each thread that may wait or be under way.
const AHEAD: usize = 4;

/// What came of a job.
#[derive(Debug)]
pub(super) struct Encoded {
    /// Tokens of each side.
    pub(super) tokens: Sides<Vec<u32>>,
    /// Bytes of text that they were.
    pub(super) bytes: usize,
}

/// Calls `produce` for jobs on a thread of its own, encodes them on `threads` threads, and hands
/// over what comes of them, in the order of the jobs, to `write` on this one.
///
/// # Errors
/// Whatever `produce` or `write` fails with; [`DataError::Tokenizer`].
pub(super) fn tokenize<T: Send, E: From<DataError>>(
    tokenizer: &Tokenizer,
    marks: Option<FimTokens>,
    threads: usize,
    produce: impl FnOnce(&mut dyn FnMut(Job) -> Result<(), DataError>) -> Result<T, DataError> + Send,
    mut write: impl FnMut(Encoded) -> Result<(), E>,
) -> Result<T, E> {
    let threads = threads.max(1);
    let (jobs_in, jobs_out) = channel::<(u64, Job)>();
    let jobs_out = Mutex::new(jobs_out);
    let (done_in, done_out) = channel();
    // A place must be free before a job is made: memory does not grow where one takes long.
    let (places_in, places_out) = sync_channel(threads * AHEAD);
    for _ in 0..threads * AHEAD {
        let _ = places_in.send(());
    }
    std::thread::scope(|scope| {
        let places_in = places_in; // gone with this closure: then nobody waits for a place
        let producer = scope.spawn(move || {
            let mut number = 0;
            produce(&mut |job| {
                places_out.recv().map_err(|_| DataError::Stopped)?;
                jobs_in.send((number, job)).map_err(|_| DataError::Stopped)?;
                number += 1;
                Ok(())
            })
        });
        for _ in 0..threads {
            let (jobs_out, done_in) = (&jobs_out, done_in.clone());
            scope.spawn(move || {
                let mut encoder = Encoder::new(tokenizer);
                let next = || jobs_out.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok((number, job)) = next() {
                    let bytes = job.bytes;
                    let tokens = job.encode(&mut encoder, marks, tokenizer.eod());
                    let encoded = tokens.map(|tokens| Encoded { tokens, bytes });
                    if done_in.send((number, encoded)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done_in);
        let (mut next, mut waiting) = (0, BTreeMap::new());
        for (number, encoded) in done_out {
            waiting.insert(number, encoded);
            while let Some(encoded) = waiting.remove(&next) {
                write(encoded?)?;
                next += 1;
                let _ = places_in.try_send(()); // nobody waits any more after the last job
            }
        }
        match producer.join() {
            Ok(produced) => Ok(produced?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pack::Counts;

    #[test]
    fn a_failure_ends_the_others() {
        let produce = |jobs: &mut dyn FnMut(Job) -> Result<(), DataError>| loop {
            jobs(Job::default())?;
        };
        let mut left = 50;
        let failed =
            tokenize::<Sides<Counts>, DataError>(&Tokenizer::Bytes, None, 2, produce, |_| {
                left -= 1;
                if left > 0 { Ok(()) } else { Err(DataError::OutOfRange { index: 7, len: 7 }) }
            });
        assert!(matches!(failed, Err(DataError::OutOfRange { index: 7, .. })));
        let stopped = tokenize::<(), DataError>(
            &Tokenizer::Bytes,
            None,
            2,
            |_| Err(DataError::OutOfRange { index: 1, len: 1 }),
            |_| Ok(()),
        );
        assert!(matches!(stopped, Err(DataError::OutOfRange { index: 1, .. })));
    }
}
