//! Ctrl-C where burn-train's dashboard has the terminal.

use crate::signals::Signals;

/// While it lives, Ctrl-C is a signal: the dashboard (burn-train 0.22.1) reads keys raw, and leaves
/// Ctrl-C without a meaning.
#[derive(Debug)]
pub(super) struct DashboardKeys {
    #[cfg(unix)]
    ended: Option<std::sync::mpsc::Sender<()>>,
    #[cfg(unix)]
    keeping: Option<std::thread::JoinHandle<()>>,
}

#[cfg(unix)]
mod unix {
    use std::io::Write;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

    use super::{DashboardKeys, Signals};

    /// How often the terminal is looked at: the dashboard takes it at some time of its own.
    const EVERY: Duration = Duration::from_millis(100);

    /// Leaves the other screen, shows the cursor and lets the mouse go.
    const LEAVE: &[u8] =
        b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1049l\x1b[?25h";

    impl DashboardKeys {
        /// Keeps Ctrl-C a signal, and has the terminal as it is now when a signal ends the program.
        pub fn keep(signals: &Signals) -> Self {
            let Ok(before) = tcgetattr(std::io::stdin()) else {
                return Self { ended: None, keeping: None };
            };
            let as_before = before.clone();
            signals.before_end(move || {
                // The program ends; what cannot be put back stays as it is.
                let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &as_before);
                let mut out = std::io::stdout();
                let _ = out.write_all(LEAVE).and_then(|()| out.flush());
            });
            let (ended, end) = channel();
            let keeping = std::thread::spawn(move || {
                while end.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                    make_signals();
                }
            });
            Self { ended: Some(ended), keeping: Some(keeping) }
        }
    }

    impl Drop for DashboardKeys {
        fn drop(&mut self) {
            drop(self.ended.take());
            if let Some(keeping) = self.keeping.take() {
                // A thread that looked at the terminal has nothing to say.
                let _ = keeping.join();
            }
        }
    }

    /// Makes keys signals again where they are none.
    fn make_signals() {
        if let Ok(mut modes) = tcgetattr(std::io::stdin())
            && !modes.local_modes.contains(LocalModes::ISIG)
        {
            modes.local_modes |= LocalModes::ISIG;
            set(&modes);
        }
    }

    fn set(modes: &Termios) {
        // A terminal that has gone takes no keys.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, modes);
    }
}

#[cfg(not(unix))]
impl DashboardKeys {
    /// Nothing is to be done here.
    pub fn keep(_signals: &Signals) -> Self {
        Self {}
    }
}
