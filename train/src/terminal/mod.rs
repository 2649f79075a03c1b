//! A run in the terminal: curves, experts, machine and alerts, drawn from the run's own record, so
//! that a training shows what was before it was resumed, and any run can be watched by anybody.
//!
//! **Invariant.** A `View` is a value: lines of a record and keys change it, and a
//! frame is drawn of it alone. What has the terminal, the clock and the files is around it.
//!
//! **Invariant.** Whoever has the terminal gives it back: at the end, before a panic is told,
//! before a signal ends the program, and while the process is suspended.

mod frame;
mod header;
mod history;
mod keys;
mod numbers;
mod palette;
mod panels;
mod popups;
mod renderer;
mod scale;
mod screen;
mod series;
mod show;
#[cfg(test)]
mod tests;
mod view;
mod watch;

pub use renderer::TerminalRenderer;
pub use screen::is_there;
pub use view::Facts;
pub use watch::watch;
