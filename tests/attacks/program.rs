//! The program under attack: in a process of its own, watched, or called in this one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use deepseek_train::cli;
use deepseek_train::commands;
use deepseek_train::exit;
use deepseek_train::failure::line_of;
use deepseek_train::signals::Signals;

/// The first argument that makes this binary the program.
pub const AS_PROGRAM: &str = "program";

/// What no answer may take.
pub const SLOW: Duration = Duration::from_secs(10);
/// What no answer may take of memory.
pub const MUCH_BYTES: usize = 1 << 30;

/// A complete DeepSeek-V3 of 13 thousand parameters, and a run of it that takes a second.
pub const TINY: &str = include_str!("seeds/tiny.toml");

/// Is the program.
pub fn be(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match cli::parse([OsString::from("deepseek")].into_iter().chain(arguments)) {
        Ok(cli) => {
            let json = cli.command.wants_json();
            ExitCode::from(exit::report(commands::run(cli.command), json))
        }
        Err(refused) => commands::refuse(&refused),
    }
}

/// The program, to be started.
pub fn command() -> Command {
    let own = std::env::current_exe().expect("a running program has a path");
    let mut command = Command::new(own);
    command.arg(AS_PROGRAM).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
    command
}

/// Runs a command of the program in this process, without its signals and exit code: none where
/// it did what it was asked, else its line on standard error.
pub fn call(arguments: &[OsString]) -> Option<String> {
    let unheard = Signals::unheard();
    let arguments = [OsString::from("deepseek")].into_iter().chain(arguments.iter().cloned());
    let result = match cli::parse(arguments) {
        Err(refused) => return Some(refused.problem.clone()),
        Ok(cli) => match cli.command {
            cli::Command::Check(args) => commands::check::run(args, &unheard),
            cli::Command::Plan(args) => commands::plan::run(args),
            other => panic!("not a command to call here: {other:?}"),
        },
    };
    result.err().map(|failure| line_of(&failure))
}

/// What a watched process left behind.
#[derive(Debug)]
pub struct Watched {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub elapsed: Duration,
    pub peak_bytes: usize,
}

/// Runs a command to its end, or to that of `patience`; its output goes through files in `folder`.
pub fn watch(mut command: Command, folder: &Path, patience: Duration) -> Result<Watched> {
    let (out, err) = (folder.join("stdout"), folder.join("stderr"));
    command.stdout(File::create(&out)?).stderr(File::create(&err)?);
    let started = Instant::now();
    let mut child = command.spawn().context("the program cannot be started")?;
    let mut peak_bytes = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        peak_bytes = peak_bytes.max(peak_of(child.id()).unwrap_or(0));
        if started.elapsed() > patience {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(4));
    };
    let elapsed = started.elapsed();
    let stderr = String::from_utf8_lossy(&fs::read(&err)?).into_owned();
    Ok(Watched { status, stdout: fs::read(&out)?, stderr, elapsed, peak_bytes })
}

/// The most memory that a process has had, in bytes; none where it has ended, or the system does
/// not say.
pub fn peak_of(process: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes << 10)
}

/// Waits for a process until then; whether it has ended by itself.
pub fn ended_by(child: &mut Child, moment: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(left.min(Duration::from_millis(2)));
    }
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
