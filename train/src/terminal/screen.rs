//! The terminal, taken from the shell and given back, whatever happens in between.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::{Mutex, MutexGuard, Once, TryLockError};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};

/// Bytes of a frame that go to the terminal in one piece.
const FRAME_BYTES: usize = 64 << 10;
/// How long whoever gives the terminal back waits for a frame that is being drawn: a terminal may
/// have stopped to read.
const PATIENCE: Duration = Duration::from_millis(200);

/// Whether the view has the terminal. Whoever draws holds it.
static TAKEN: Mutex<bool> = Mutex::new(false);

/// What a view is drawn on.
pub(super) type Screen = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

/// Whether a view can be shown: somebody sees it, and can press keys.
pub fn is_there() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
    io::stdout().is_terminal() && io::stdin().is_terminal() && !(cfg!(unix) && is_dumb)
}

/// Takes the terminal: keys come one by one, and the shell's text is set aside.
///
/// # Errors
/// It is none, or cannot be written.
pub(super) fn take() -> io::Result<Screen> {
    give_back_before_panics();
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    enable_raw_mode()?;
    let mut out = BufWriter::with_capacity(FRAME_BYTES, io::stdout());
    let entered = execute!(out, EnterAlternateScreen, Clear(ClearType::All))
        .and_then(|()| Terminal::new(CrosstermBackend::new(out)))
        .and_then(|mut screen| {
            screen.hide_cursor()?;
            Ok(screen)
        });
    *taken = true;
    drop(taken);
    if entered.is_err() {
        give_back();
    }
    entered
}

/// Has all of the next frame drawn. (`Terminal::clear` would ask the terminal where its cursor is, and
/// fail where that is slow to answer.)
///
/// # Errors
/// The terminal cannot be written.
pub(super) fn clear(screen: &mut Screen) -> io::Result<()> {
    execute!(screen.backend_mut(), Clear(ClearType::All))?;
    // What was drawn last is forgotten.
    screen.swap_buffers();
    Ok(())
}

/// Whether the view still has the terminal.
pub(super) fn is_taken() -> bool {
    *TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Draws while the terminal cannot be given back. `false` where it has been.
///
/// # Errors
/// The terminal cannot be written.
pub(super) fn draw(
    screen: &mut Screen,
    view: impl FnOnce(&mut ratatui::Frame),
) -> io::Result<bool> {
    let taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if *taken {
        // A terminal that can shows a frame when it has all of it.
        queue!(screen.backend_mut(), BeginSynchronizedUpdate)?;
        screen.draw(view)?;
        execute!(screen.backend_mut(), EndSynchronizedUpdate)?;
    }
    Ok(*taken)
}

/// Gives the terminal back as it was. Again does nothing.
pub(super) fn give_back() {
    let taken = patiently();
    if let Some(mut taken) = taken {
        if !*taken {
            return;
        }
        *taken = false;
    }
    // A terminal that has gone takes nothing back.
    let _ = disable_raw_mode();
    let mut out = io::stdout();
    let _ = queue!(out, LeaveAlternateScreen, Show).and_then(|()| out.flush());
}

/// The lock, unless whoever draws has it for long, as this thread may itself.
fn patiently() -> Option<MutexGuard<'static, bool>> {
    let begun = Instant::now();
    loop {
        match TAKEN.try_lock() {
            Ok(taken) => return Some(taken),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if begun.elapsed() > PATIENCE => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Has panics, on whatever thread, told in the shell's own text.
fn give_back_before_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            told(panic);
        }));
    });
}

/// Stops this process and what was started with it, as Ctrl-Z does where keys are signals, until
/// the shell has it go on. The terminal must have been given back.
#[cfg(unix)]
pub(super) fn suspend() {
    // The shell's own `kill` reaches everything of the job, the shell that calls it included. Where
    // it cannot be started nothing is stopped.
    let _ = std::process::Command::new("sh").args(["-c", "kill -s TSTP 0"]).status();
}

/// There are no jobs to stop.
#[cfg(not(unix))]
pub(super) fn suspend() {}
