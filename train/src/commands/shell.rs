//! `deepseek completions` and `deepseek man`: the command line as shells and manuals want it, made
//! from the arguments' own types.

use clap::CommandFactory;
use serde_json::json;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::exit::Outcome;
use crate::failure::{Context, Result};
use crate::stdout::{write_drawing, write_stdout};

/// The program's name.
const NAME: &str = "deepseek";

/// Prints completions for a shell.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn completions(args: &CompletionsArgs) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    write_drawing(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::done(json!({"command": "completions", "shell": args.shell.to_string()})))
}

/// Prints the program's manual page, or writes one for each command.
///
/// # Errors
///
/// A folder or a page that cannot be written.
pub fn man(args: &ManArgs) -> Result<Outcome> {
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).context("the page")?;
        write_drawing(&String::from_utf8_lossy(&page))?;
        return Ok(Outcome::done(json!({"command": "man"})));
    };
    let told = || format!("--out {}", folder.display());
    std::fs::create_dir_all(folder).with_context(told)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(told)?;
    write_stdout(&format!(
        "written     {}/{NAME}.1 and a page for each command\n",
        folder.display()
    ))?;
    Ok(Outcome::done(json!({"command": "man", "out": folder})))
}
