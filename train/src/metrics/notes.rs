//! What a run has to tell while something else has the terminal.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A line that is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it says.
    pub text: String,
    /// Whether the run's record says it too.
    pub is_recorded: bool,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Lines that wait for whoever shows the run.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Vec<Note>>>);

impl Notes {
    /// Has a line shown.
    pub fn say(&self, text: String) {
        self.add(Note { text, is_recorded: false });
    }

    /// Has a line shown by whoever does not show what is in the run's record.
    pub fn say_recorded(&self, text: String) {
        self.add(Note { text, is_recorded: true });
    }

    fn add(&self, note: Note) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    /// What was said since the last call.
    pub fn take(&self) -> Vec<Note> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
