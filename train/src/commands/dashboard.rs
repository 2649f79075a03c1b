//! `deepseek dashboard`: serves pages about runs until it is told to stop.

use serde_json::json;

use crate::cli::DashboardArgs;
use crate::dashboard::{Address, Listening};
use crate::exit::Outcome;
use crate::failure::{Context, Result};
use crate::signals::Signals;
use crate::stdout::{write_json, write_stderr_line};

/// Shows runs in a browser until it is told to stop.
///
/// # Errors
///
/// A folder, a token or an address that does not fit ([`crate::exit::USAGE`]); an address that
/// cannot be listened at ([`crate::exit::FAILURE`]).
pub fn run(args: DashboardArgs, signals: &Signals) -> Result<Outcome> {
    let wanted = Address {
        listen: &args.listen,
        argument: "--listen",
        token_arguments: "--token-file or --token-env",
        token: args.token()?,
    };
    let signal = signals.forward();
    let dashboard = Listening::at(&wanted)?.show(&args.folders, None)?;
    let url = dashboard.url();
    write_stderr_line(&format!("listening on {}", dashboard.describe()));
    if args.json {
        write_json(&json!({ "listening": url }))?;
    }
    signal.recv().context("signals are no longer heard")?;
    drop(dashboard);
    Ok(Outcome::done(json!({ "command": "dashboard", "listened": url })))
}
