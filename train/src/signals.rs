//! Ctrl-C, SIGTERM and SIGHUP (unless it is ignored, as under `nohup`): they end the program at once
//! where nothing can be lost, and ask it to stop where something can.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use burn_train::Interrupter;
use serde_json::json;

use crate::exit::INTERRUPTED;
use crate::failure::{Context, Result};
use crate::stdout::{ERASE, write_json};

/// How long the last words of an ended program may take: whoever reads them may have stopped to.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a signal does.
enum Answer {
    /// Ends the program.
    End,
    /// Asks it to stop, with a notice; the second one ends it.
    Ask(&'static str),
    /// Is told to whoever waits for it.
    Tell(std::sync::mpsc::Sender<()>),
}

/// What is to be done before the program ends.
type LastDeed = Box<dyn Fn() + Send>;

/// What is to be done with a signal; clones share it.
#[derive(Clone)]
pub struct Signals {
    answer: Arc<Mutex<Answer>>,
    before_end: Arc<Mutex<Option<LastDeed>>>,
    /// How a view gives the terminal back, while one has it.
    screen: Arc<Mutex<Option<LastDeed>>>,
    json: bool,
    interrupter: Interrupter,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").field("stopped", &self.stopped()).finish_non_exhaustive()
    }
}

impl Signals {
    /// Signals that nobody sends.
    pub fn unheard() -> Self {
        Self {
            answer: Arc::new(Mutex::new(Answer::End)),
            before_end: Arc::default(),
            screen: Arc::default(),
            json: false,
            interrupter: Interrupter::new(),
        }
    }

    /// Listens for signals, which end the program until there is something to lose
    /// ([`guard`](Self::guard)); with `json` its last words are an object on standard output.
    ///
    /// # Errors
    /// The system does not let it listen.
    pub fn listen(json: bool) -> Result<Self> {
        let signals = Self { json, ..Self::unheard() };
        let heard = signals.clone();
        let hangup_is_ignored = hangup::is_ignored();
        ctrlc::set_handler(move || heard.interrupt()).context("cannot listen for Ctrl-C")?;
        if hangup_is_ignored {
            hangup::ignore();
        }
        Ok(signals)
    }

    /// From here on something could be lost: a signal prints `notice` and asks to
    /// [stop](Self::stopped), and a second one ends the program.
    pub fn guard(&self, notice: &'static str) {
        self.set(Answer::Ask(notice));
    }

    /// A signal is told to the returned channel alone.
    pub fn forward(&self) -> std::sync::mpsc::Receiver<()> {
        let (sender, receiver) = channel();
        self.set(Answer::Tell(sender));
        receiver
    }

    /// Does `deed` before a signal ends the program.
    pub fn before_end(&self, deed: impl Fn() + Send + 'static) {
        *self.before_end.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(deed));
    }

    /// Whether there is something to lose: a signal asks the program to stop.
    pub fn guards(&self) -> bool {
        matches!(*self.answer.lock().unwrap_or_else(PoisonError::into_inner), Answer::Ask(_))
    }

    /// A view has the terminal: it shows by itself that the program was asked to stop, and the
    /// terminal is given back before a signal ends the program.
    pub fn take_screen(&self, give_back: impl Fn() + Send + 'static) {
        *self.screen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(give_back));
    }

    /// No view has the terminal any more.
    pub fn leave_screen(&self) {
        *self.screen.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the program was asked to stop.
    pub fn stopped(&self) -> bool {
        self.interrupter.should_stop()
    }

    /// What the learner and its dashboard stop by.
    pub fn interrupter(&self) -> &Interrupter {
        &self.interrupter
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// What a signal does, and what the key does that stands for one where a view reads the keys.
    /// It is called on a thread that may end with the program. The lock is held to the end: whoever
    /// would guard something while the program ends has come too late.
    pub fn interrupt(&self) {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*answer {
            Answer::Ask(notice) if !self.stopped() => {
                if screen.is_none() {
                    // Where standard error is closed there is nobody to tell.
                    let _ = writeln!(std::io::stderr(), "{notice}");
                }
                self.interrupter.stop(Some("interrupted by a signal"));
            }
            Answer::Tell(waiting) => {
                // Nobody waits any more where an earlier signal has been told.
                let _ = waiting.send(());
            }
            Answer::Ask(_) | Answer::End => {
                if let Some(deed) = &*self.before_end.lock().unwrap_or_else(PoisonError::into_inner)
                {
                    deed();
                }
                end(self.json, screen.take())
            }
        }
    }
}

/// Gives the terminal back, says what ends the program, and ends it.
fn end(json: bool, screen: Option<LastDeed>) -> ! {
    let (said, waited) = sync_channel(1);
    std::thread::spawn(move || {
        if let Some(give_back) = screen {
            give_back();
        }
        // On a terminal the line may hold a drawing of progress.
        let erase = if std::io::stderr().is_terminal() { ERASE } else { "" };
        // Where nobody listens there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{erase}interrupted");
        if json {
            let words = json!({
                "error": "interrupted", "exit_code": INTERRUPTED, "interrupted": true
            });
            let _ = write_json(&words);
        }
        let _ = said.send(());
    });
    let _ = waited.recv_timeout(LAST_WORDS);
    std::process::exit(i32::from(INTERRUPTED));
}

/// The signal of a terminal that is closed. `nohup` has it ignored, and a handler would undo that.
#[cfg(unix)]
mod hangup {
    /// Whether it is ignored.
    pub(super) fn is_ignored() -> bool {
        // SAFETY: all zeros are a `sigaction`, which the call fills in and does not change.
        let now = unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            let asked = libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut now);
            (asked == 0).then_some(now.sa_sigaction)
        };
        now == Some(libc::SIG_IGN)
    }

    /// Has it ignored.
    pub(super) fn ignore() {
        // SAFETY: ignoring runs no code of this program.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    }
}
#[cfg(not(unix))]
mod hangup {
    pub(super) fn is_ignored() -> bool {
        false
    }

    pub(super) fn ignore() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_program_is_asked_to_stop() {
        let signals = Signals::unheard();
        signals.guard("stopping");
        assert!(!signals.stopped());
        signals.clone().interrupt();
        assert!(signals.stopped() && signals.interrupter().should_stop());
        assert!(signals.guards() && !Signals::unheard().guards());
    }

    #[test]
    fn a_signal_can_be_waited_for() {
        let signals = Signals::unheard();
        let told = signals.forward();
        assert!(told.try_recv().is_err());
        signals.interrupt();
        signals.interrupt();
        assert_eq!((told.recv(), told.recv(), signals.stopped()), (Ok(()), Ok(()), false));
    }
}
