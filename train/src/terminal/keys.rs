//! Keys, heard on a thread of its own: where a terminal goes away, crossterm (0.29) never comes
//! back from waiting for one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event};

/// How long a key is waited for before it is looked whether anybody listens.
const SLICE: Duration = Duration::from_millis(40);
/// How long the end of the thread is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is pressed while this lives.
#[derive(Debug)]
pub(super) struct Keys {
    events: Receiver<Event>,
    ending: Arc<AtomicBool>,
}

impl Keys {
    /// Hears keys from now on.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn listen() -> io::Result<Self> {
        let (heard, events) = channel();
        let ending = Arc::new(AtomicBool::new(false));
        let asked = ending.clone();
        std::thread::Builder::new().name("keys".into()).spawn(move || hear(&heard, &asked))?;
        Ok(Self { events, ending })
    }

    /// The next event, or nothing within that time.
    pub fn next(&self, within: Duration) -> Option<Event> {
        match self.events.recv_timeout(within) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(within);
                None
            }
        }
    }
}

impl Drop for Keys {
    /// What is typed from here on is the shell's.
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE
            && self.events.recv_timeout(SLICE) != Err(RecvTimeoutError::Disconnected)
        {}
    }
}

fn hear(heard: &Sender<Event>, ending: &AtomicBool) {
    while !ending.load(Ordering::Relaxed) {
        let event = match event::poll(SLICE) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        // Nobody listens any more, or there is nothing to be heard.
        let Ok(event) = event else { return };
        if heard.send(event).is_err() {
            return;
        }
    }
}
