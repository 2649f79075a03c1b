//! The view of a run that somebody else trains, or that has ended.

use super::palette::Palette;
use super::screen;
use super::show::Shown;
use super::view::{Facts, Role, View};
use crate::failure::{Context, Result};
use crate::signals::Signals;

/// Shows a run until its watcher leaves.
///
/// # Errors
/// The terminal cannot be taken or written.
pub fn watch(facts: Facts, signals: &Signals) -> Result<()> {
    let view = View::new(facts, Role::Watching, Palette::of_environment());
    let shown = Shown::new(view, signals.clone());
    let screen = screen::take().context("the terminal cannot be taken")?;
    signals.take_screen(screen::give_back);
    let left = std::thread::scope(|scope| {
        scope.spawn(|| shown.follow());
        let left = shown.show(screen);
        shown.end();
        left
    });
    screen::give_back();
    signals.leave_screen();
    left.context("the terminal cannot be written")
}
