//! `train --dashboard`: the run and those beside it in a browser, as long as it is trained.

use std::path::{Path, PathBuf};

use super::start::Start;
use crate::cli::TrainArgs;
use crate::dashboard::{Address, Dashboard, Listening};
use crate::device::Token;
use crate::failure::Result;
use crate::fold::fold_on_terminal;
use crate::stdout::write_stdout;

/// Takes the address that the pages are to be at, before anything is prepared.
///
/// # Errors
///
/// An address or a token that does not fit.
pub(super) fn listening(args: &TrainArgs) -> Result<Option<Listening>> {
    let Some(listen) = &args.dashboard else { return Ok(None) };
    let token = Token::from_either(
        args.dashboard_token_file.as_deref(),
        args.dashboard_token_env.as_deref(),
    )?;
    Listening::at(&Address {
        listen,
        argument: "--dashboard",
        token_arguments: "--dashboard-token-file or --dashboard-token-env",
        token,
    })
    .map(Some)
}

/// Shows the run and those beside it, and says where.
///
/// # Errors
///
/// Threads that cannot be started.
pub(super) fn show(listening: Listening, start: &mut Start) -> Result<Dashboard> {
    let run = &start.folder.path;
    let beside = run.parent().map(|parent| match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    });
    let folder: PathBuf = beside.unwrap_or(run).into();
    let dashboard = listening.show(&[folder], Some(run))?;
    let described = dashboard.describe();
    write_stdout(&fold_on_terminal(format!("dashboard   {described}\n")))?;
    start.browser = Some(described);
    Ok(dashboard)
}
