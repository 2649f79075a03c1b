//! How the preparation of the data goes, on standard error: a line that is redrawn on a terminal,
//! and a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::data::{DataConfig, Opening, Stage, Watch};
use crate::metrics::duration;
use crate::stdout::{ERASE, write_progress};
use crate::visible::visible;

/// From one line to the next where they stay.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// From one drawing of the line to the next.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// What takes less is not worth a line.
const PATIENCE: Duration = Duration::from_millis(700);

/// Tells the user how the data is prepared.
#[derive(Debug)]
pub(super) struct Preparation {
    cache: Option<PathBuf>,
    terminal: bool,
    shown: Mutex<Shown>,
}

/// What was shown last.
#[derive(Debug)]
struct Shown {
    stage: Option<Stage>,
    began: Instant,
    last: Instant,
    drawn: bool,
}

impl Preparation {
    /// For the data of a configuration; `no_cache` leaves kept tokens alone and keeps none.
    pub(super) fn new(config: &DataConfig, no_cache: bool) -> Self {
        let now = Instant::now();
        Self {
            cache: config.cache_folder().filter(|_| !no_cache),
            terminal: std::io::stderr().is_terminal(),
            shown: Mutex::new(Shown { stage: None, began: now, last: now, drawn: false }),
        }
    }

    /// How data is opened under these eyes.
    pub(super) fn opening(&self) -> Opening<'_> {
        Opening { cache: self.cache.as_deref(), watch: self, ..Opening::default() }
    }
}

impl Watch for Preparation {
    fn progress(&self, stage: Stage, done: u64, total: u64) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if shown.stage != Some(stage) {
            (shown.stage, shown.began) = (Some(stage), now);
        }
        let every = if self.terminal { DRAW_EVERY } else { LINE_EVERY };
        let early = self.terminal && now - shown.began < PATIENCE;
        if early || now - shown.last < every || done >= total {
            return;
        }
        shown.last = now;
        let line = line(stage, done, total, now - shown.began);
        if self.terminal {
            shown.drawn = true;
            write_progress(&format!("{ERASE}{line}"));
        } else {
            write_progress(&format!("{line}\n"));
        }
    }

    fn note(&self, text: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let erase = if std::mem::take(&mut shown.drawn) { ERASE } else { "" };
        write_progress(&format!("{erase}{}\n", visible(text)));
    }
}

impl Drop for Preparation {
    fn drop(&mut self) {
        if self.shown.get_mut().unwrap_or_else(PoisonError::into_inner).drawn {
            write_progress(ERASE);
        }
    }
}

/// `tokenizing   45% of 100.0 MB, 52.3 MB/s, 1s left`
fn line(stage: Stage, done: u64, total: u64, spent: Duration) -> String {
    let what = match stage {
        Stage::Comparing => "comparing text with what is known",
        Stage::Reading => "reading text",
        Stage::Tokenizing => "tokenizing",
    };
    let rate = done as f64 / spent.as_secs_f64().max(1e-3);
    let left = (total - done) as f64 / rate.max(1.0);
    format!(
        "{what} {:3}% of {:.1} MB, {:.1} MB/s, {} left",
        100 * done / total.max(1),
        total as f64 / 1e6,
        rate / 1e6,
        duration(left)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_share_rate_and_time_left() {
        let line = line(Stage::Tokenizing, 25_000_000, 100_000_000, Duration::from_secs(2));
        assert_eq!(line, "tokenizing  25% of 100.0 MB, 12.5 MB/s, 6s left");
    }
}
