//! `deepseek`: parse -> resolve -> run -> exit code.

use std::process::ExitCode;

use deepseek_train::cli::Command;
use deepseek_train::parallel::{end_processes, launched, share_of_processors};
use deepseek_train::{cli, commands, exit};

// Flex allocates a buffer for each operation; with the system's allocator operations take 1.7 to
// 2.9 times as long.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of mimalloc's option `purge_delay`, milliseconds until freed pages go back to the system;
/// the binding has no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// The variable that sets the same, by which a process may have less memory and take longer.
const PURGE_DELAY_VARIABLE: &str = "MIMALLOC_PURGE_DELAY";

/// The variable that says on how many threads Flex computes: all that there are, but for processes
/// that share a machine and were not bound to a part of it.
const THREADS_VARIABLE: &str = "RAYON_NUM_THREADS";

/// A variable that the library of Wayland, through which graphics drivers look for a screen,
/// complains about on standard error where it is not set, as on most servers.
const RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

/// Lets drivers look for GPUs without complaining that there is no screen.
fn quiet_graphics() {
    if cfg!(unix) && std::env::var_os(RUNTIME_DIR).is_none() {
        // SAFETY: no other thread is there yet that could read the environment.
        unsafe { std::env::set_var(RUNTIME_DIR, std::env::temp_dir()) };
    }
}

fn main() -> ExitCode {
    quiet_graphics();
    let parsed = cli::parse(std::env::args_os());
    let serves = parsed.as_ref().is_ok_and(|cli| matches!(cli.command, Command::Dashboard(_)));
    if !serves && std::env::var_os(PURGE_DELAY_VARIABLE).is_none() {
        // A step frees and takes the same buffers again and again: pages that go back in between
        // are cleared anew each time, which cost a tenth of a step. (A server that stays gives them
        // back.) SAFETY: no other thread is there yet, which is all that the call asks for.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    }
    let launched = launched();
    if let Some(threads) = launched.and_then(share_of_processors)
        && std::env::var_os(THREADS_VARIABLE).is_none()
    {
        // SAFETY: no other thread is there yet that could read the environment.
        unsafe { std::env::set_var(THREADS_VARIABLE, threads.to_string()) };
    }
    // Of processes that were started together one speaks.
    let speaks = launched.is_none_or(|launched| launched.speaks());
    match parsed {
        Ok(cli) => {
            let json = cli.command.wants_json() && speaks;
            let code = exit::report(commands::run(cli.command), json);
            end_processes(code);
            ExitCode::from(code)
        }
        Err(refused) if !speaks => {
            ExitCode::from(if refused.is_asked_for() { exit::OK } else { exit::USAGE })
        }
        Err(refused) => commands::refuse(&refused),
    }
}
