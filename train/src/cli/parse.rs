//! From the arguments to a command; what is wrong with them is told to people, and to programs
//! that asked for JSON.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use super::{Cli, tips};
use crate::failure::{Blame, Blamed};

/// Columns of the widest help.
const HELP_COLUMNS: usize = 80;

/// Arguments that are no command line of this program, or that ask for its help.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problem)]
pub struct Refused {
    /// What to print.
    pub error: clap::Error,
    /// What is wrong, in one line.
    pub problem: String,
    /// Whether the arguments ask for JSON.
    pub json: bool,
}

impl Blamed for Refused {
    fn blame(&self) -> Blame {
        Blame::User
    }
}

impl Refused {
    /// Whether this is help or a version that was asked for: no mistake.
    pub fn is_asked_for(&self) -> bool {
        matches!(self.error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
    }
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// Arguments that are none, and questions for help.
pub fn parse<A: Into<OsString>>(
    arguments: impl IntoIterator<Item = A>,
) -> Result<Cli, Box<Refused>> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let mut command = command();
    let parsed = command.try_get_matches_from_mut(&arguments);
    let parsed = parsed.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| {
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let error = tips::add(error.format(&mut command), &arguments);
        // Whatever follows `--` is no flag; neither is the value of another argument, which cannot
        // be this.
        let json = arguments.iter().take_while(|argument| *argument != "--");
        let json = json.into_iter().any(|argument| argument == "--json");
        Box::new(Refused { problem: one_line(&error), json, error })
    })
}

/// The command line, with help that fits 80 columns, and in which a number may be negative: it is for
/// its argument to refuse it.
pub(super) fn command() -> clap::Command {
    fn fitted(command: clap::Command) -> clap::Command {
        let about = command.get_long_about().map(|about| with_commands_cut(&about.to_string()));
        let command = match about {
            Some(about) => command.long_about(about),
            None => command,
        };
        command
            .mut_args(|argument| {
                let takes_values = argument.get_action().takes_values();
                if takes_values { argument.allow_negative_numbers(true) } else { argument }
            })
            .mut_subcommands(fitted)
    }
    fitted(Cli::command().max_term_width(HELP_COLUMNS))
}

/// Help whose examples go on in another line where they are long, as a shell reads them.
fn with_commands_cut(about: &str) -> String {
    let mut text = String::new();
    for line in about.split_inclusive('\n') {
        let mut rest = line.trim_end_matches('\n');
        let indented = rest.starts_with("  ");
        while indented && rest.len() > HELP_COLUMNS {
            let room = &rest[..HELP_COLUMNS - 2];
            let Some(at) = room.rfind(" --").filter(|at| *at > 8).or_else(|| room.rfind(' '))
            else {
                break;
            };
            text += &rest[..at];
            text += " \\\n      ";
            rest = &rest[at + 1..];
        }
        text += rest;
        text += &line[line.trim_end_matches('\n').len()..];
    }
    text
}

/// The problem without usage and hints, and with its tips.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let told = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let line = told.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &str) -> Box<Refused> {
        parse(std::iter::once("deepseek").chain(arguments.split(' '))).unwrap_err()
    }

    #[test]
    fn negative_numbers_are_refused_by_their_range() {
        for (arguments, parts) in [
            ("generate --checkpoint a --temperature -1", ["-1", "a number of at least 0"]),
            ("generate --checkpoint a --top-p -0.5", ["-0.5", "above 0 and at most 1"]),
            ("generate --checkpoint a --max-new-tokens -5", ["-5", "whole number"]),
            ("train --steps -3", ["-3", "whole number"]),
            ("compare-precision --tokens -1", ["-1", "whole number"]),
            ("plan schedule --ranks 2 --chunks 4 --forward -1", ["-1", "from 0 to 1e9"]),
            ("bench train --reps -2", ["-2", "whole number"]),
        ] {
            let refused = refused(arguments);
            let message = &refused.problem;
            assert!(parts.iter().all(|part| message.contains(part)), "{arguments}: {message}");
            assert!(!refused.is_asked_for());
        }
    }

    #[test]
    fn a_refusal_is_one_line_for_programs() {
        let plain = refused("eval --checkpoint a --batches none");
        assert!(!plain.json && !plain.problem.contains("\n"), "{}", plain.problem);
        assert!(plain.problem.starts_with("invalid value 'none' for '--batches"));
        assert!(refused("eval --json").json);
        assert!(refused("eval --json").problem.contains("--checkpoint"));
        assert!(!refused("check --preset -- --json").json);
    }

    #[test]
    fn help_fits_eighty_columns() {
        fn check(command: &str, of: &clap::Command) {
            let help = refused(&format!("{command}--help")).error.to_string();
            // The usage is a line of clap's own.
            let long: Vec<&str> = help
                .lines()
                .filter(|line| line.chars().count() > HELP_COLUMNS && !line.starts_with("Usage:"))
                .collect();
            assert!(long.is_empty(), "{command}:\n{}", long.join("\n"));
            of.get_subcommands().for_each(|inner| {
                check(&format!("{command}{} ", inner.get_name()), inner);
            });
        }
        check("", &command());
        let long = format!("Words.\n\n  deepseek a --b {} --d value", "x".repeat(58));
        let cut = with_commands_cut(&long);
        assert!(cut.ends_with("x \\\n      --d value"), "{cut}");
    }

    #[test]
    fn help_of_nested_commands_is_there() {
        for (arguments, part) in [
            ("help bench train", "Time whole training steps"),
            ("help bench dispatch", "pack fp8"),
            ("help plan cluster", "--cluster"),
            ("help train", "--resume"),
            ("bench help kernels", "--only"),
        ] {
            let refused = refused(arguments);
            assert!(refused.is_asked_for(), "{arguments}");
            assert!(refused.error.to_string().contains(part), "{arguments}: {}", refused.error);
        }
    }
}
