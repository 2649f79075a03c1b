//! Lines on standard error about what befalls connections; strangers cannot make them many.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many lines about strangers may come in a [`PERIOD`].
const LINES: u32 = 5;

/// How long they are counted together.
const PERIOD: Duration = Duration::from_secs(10);

/// Writes lines.
pub(super) struct Notices(Mutex<Counted>);

struct Counted {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Notices {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Counted { since: Instant::now(), lines: 0, left_out: 0 }))
    }

    /// Says that somebody was not let in, unless that was said too often just now.
    pub(super) fn refused(&self, peer: SocketAddr, why: &str) {
        if let Some(more) = self.counted(Instant::now()) {
            say(&format!("refused {peer}: {why}{more}"));
        }
    }

    /// What is to be added to a line; none where there is to be no line.
    fn counted(&self, now: Instant) -> Option<String> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut more = String::new();
        if now.duration_since(counted.since) >= PERIOD {
            if counted.left_out > 0 {
                more = format!(" (and {} more before)", counted.left_out);
            }
            *counted = Counted { since: now, lines: 0, left_out: 0 };
        }
        if counted.lines == LINES {
            counted.left_out += 1;
            return None;
        }
        counted.lines += 1;
        Some(more)
    }
}

/// Writes a line; what others wrote in it cannot steer a terminal.
pub(super) fn say(line: &str) {
    let line: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_are_a_few_lines_and_a_count() {
        let notices = Notices::new();
        let begin = Instant::now();
        let lines = (0..1000).filter_map(|_| notices.counted(begin)).collect::<Vec<_>>();
        assert_eq!(lines, vec![String::new(); LINES as usize]);
        let later = begin + PERIOD + PERIOD;
        assert_eq!(notices.counted(later).as_deref(), Some(" (and 995 more before)"));
        assert_eq!(notices.counted(later).as_deref(), Some(""));
    }
}
