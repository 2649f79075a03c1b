//! The thread that shows a view: it draws what is new, at most some times a second, and hears keys.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use ratatui::crossterm::event::{Event, KeyEventKind};

use super::frame;
use super::keys::Keys;
use super::screen::{self, Screen};
use super::view::{Asked, Role, View};
use crate::checkpoint;
use crate::record::{Record, RecordError};
use crate::run_lock::RunLock;
use crate::signals::Signals;

/// The least time between two frames that no key asked for.
const FRAME: Duration = Duration::from_millis(200);
/// How long a key is waited for before the end of the view is looked for.
const WAIT: Duration = Duration::from_millis(40);
/// How often the record is looked at.
const READ: Duration = Duration::from_millis(150);
/// How often checkpoints and the lock are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// A thread that comes late by so much was stopped, and so was the shell given the terminal.
const STOPPED: Duration = Duration::from_secs(2);

/// A view and what its threads share.
#[derive(Debug)]
pub(super) struct Shown {
    view: Mutex<View>,
    folder: PathBuf,
    signals: Signals,
    /// Whether there is something that was not drawn.
    changed: AtomicBool,
    /// Whether the view is to end.
    ending: AtomicBool,
}

impl Shown {
    pub fn new(view: View, signals: Signals) -> Self {
        let folder = view.facts.folder.clone();
        let (changed, ending) = (AtomicBool::new(true), AtomicBool::new(false));
        Self { view: Mutex::new(view), folder, signals, changed, ending }
    }

    /// The view.
    pub fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it drawn again.
    pub fn change(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Has its threads end.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Reads the record as it grows until the view ends.
    pub fn follow(&self) {
        let mut record = Record::of_run(&self.folder);
        while !self.is_ending() {
            self.read(&mut record);
            std::thread::sleep(READ);
        }
    }

    /// Reads what was added. A line that cannot be read is counted, a file that cannot be is told.
    fn read(&self, record: &mut Record) {
        if record.was_cut() {
            self.read_anew(record);
        }
        // A record that goes back in itself is nobody's, and is not read for ever.
        let (is_first, mut began_again) = (record.offset() == 0, false);
        loop {
            let added = record.added(|line| {
                if !self.is_ending() {
                    began_again |= !self.view().take(line);
                    self.change();
                }
            });
            let mut view = self.view();
            match added {
                Err(RecordError::Line { .. }) => view.history.unreadable += 1,
                Err(error @ RecordError::Read { .. }) => {
                    view.live.problem = Some(error.to_string());
                    break;
                }
                Ok(()) => {
                    view.live.problem = None;
                    break;
                }
            }
        }
        if began_again && !is_first {
            // Resumed; it is read from its beginning at the next look.
            self.read_anew(record);
        } else if !std::mem::replace(&mut self.view().live.read, true) {
            self.change();
        }
    }

    fn read_anew(&self, record: &mut Record) {
        *record = Record::of_run(&self.folder);
        let mut view = self.view();
        view.forget();
        view.live.read = false;
        self.change();
    }

    /// Draws and hears keys until the view ends, is left, or has lost its terminal.
    ///
    /// # Errors
    /// The terminal cannot be written.
    pub fn show(&self, mut screen: Screen) -> io::Result<()> {
        let keys = Keys::listen()?;
        let (mut drawn, mut looked) = (None::<Instant>, None::<Instant>);
        while !self.is_ending() {
            let begun = Instant::now();
            if looked.is_none_or(|then| then.elapsed() >= LOOK) {
                self.look();
                looked = Some(begun);
            }
            self.ask_signals();
            let is_due = drawn.is_none_or(|then| then.elapsed() >= FRAME);
            if is_due && self.changed.swap(false, Ordering::Relaxed) {
                if !screen::draw(&mut screen, |frame| frame::draw(frame, &self.view()))? {
                    return Ok(());
                }
                drawn = Some(Instant::now());
            }
            let mut pressed = keys.next(WAIT);
            while let Some(event) = pressed {
                if self.hear(&event, &mut screen)? {
                    return Ok(());
                }
                drawn = None;
                self.change();
                pressed = keys.next(Duration::ZERO);
            }
            if begun.elapsed() > STOPPED && screen::is_taken() {
                screen::give_back();
                screen = screen::take()?;
                self.change();
            }
        }
        Ok(())
    }

    /// Takes what was pressed. Whether the view is left.
    fn hear(&self, event: &Event, screen: &mut Screen) -> io::Result<bool> {
        let Event::Key(key) = event else { return Ok(false) };
        if key.kind == KeyEventKind::Release {
            return Ok(false);
        }
        let asked = self.view().press(*key);
        match asked {
            Asked::Nothing => {}
            // May end the program.
            Asked::Interrupt => self.signals.interrupt(),
            Asked::Leave => return Ok(true),
            Asked::Suspend => {
                screen::give_back();
                screen::suspend();
                *screen = screen::take()?;
            }
            Asked::Redraw => screen::clear(screen)?,
        }
        Ok(false)
    }

    /// What signals say.
    fn ask_signals(&self) {
        let (stopping, guarded) = (self.signals.stopped(), self.signals.guards());
        let mut view = self.view();
        if (view.live.stopping, view.live.guarded) != (stopping, guarded) {
            if stopping && !view.live.stopping {
                view.live.saved_step = checkpoint::newest_step(&self.folder);
            }
            view.live.guarded = guarded;
            view.stopping(stopping);
            self.change();
        }
    }

    /// What is known from the folder.
    fn look(&self) {
        let mut view = self.view();
        let before = view.live.clone();
        let live = &view.live;
        if live.stopping {
            view.live.saved_step = checkpoint::newest_step(&self.folder);
        }
        if view.role == Role::Watching && view.live.read {
            let is_trained = RunLock::is_taken(&self.folder);
            view.live.state = Some(view.history.state(is_trained, view.facts.steps));
        }
        let age = view.history.written.map(|written| (Utc::now() - written).num_seconds());
        view.live.age_seconds = age.and_then(|seconds| u64::try_from(seconds).ok());
        if view.live != before {
            self.change();
        }
    }
}
