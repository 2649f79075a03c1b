//! A process that does nothing but start the rank and wait for it: launchers end a run with the
//! exit code of the process that they started, and say of one that was killed only that it was.

use std::process::{Command, ExitStatus};

use crate::exit;
use crate::failure::{Context, Result};
use crate::parallel::Launched;
use crate::signals::Signals;
use crate::stdout::write_stderr_line;

/// Set for the process that is the rank.
const RANK: &str = "DEEPSEEK_IS_RANK";

/// Starts the rank as a process of its own, and ends with its exit code when it does; comes back in
/// that process alone. A rank that is killed is told of, and ends the run: the launcher does the
/// rest.
pub(super) fn guard(launched: Launched, signals: &Signals) -> Result<()> {
    if std::env::var_os(RANK).is_some() {
        return Ok(());
    }
    // Signals go to the launcher's whole group, and are the rank's to answer.
    let _unheard = signals.forward();
    let program = std::env::current_exe().context("the program cannot be found")?;
    let ended = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(RANK, launched.rank.to_string())
        .status()
        .context("the process of the rank cannot be started")?;
    let code = ended.code().unwrap_or_else(|| {
        write_stderr_line(&format!("error: rank {} was killed{}", launched.rank, by(ended)));
        i32::from(exit::FAILURE)
    });
    std::process::exit(code)
}

/// What a process was killed by.
#[cfg(unix)]
fn by(ended: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    ended.signal().map_or_else(String::new, |signal| match signal {
        9 => " by SIGKILL; where nobody did that, the machine was out of memory".into(),
        _ => format!(" by signal {signal}"),
    })
}

/// What a process was killed by, where that is not known.
#[cfg(not(unix))]
fn by(_: ExitStatus) -> String {
    String::new()
}
