//! `runs export --tensorboard`: a record as event files.

use std::path::Path;

use serde_json::json;

use crate::cli::RunsExportArgs;
use crate::commands::new_folder::check_new;
use crate::exit::Outcome;
use crate::failure::{Context, Result};
use crate::runs::config_of;
use crate::shell_word::quoted;
use crate::stdout::write_stdout;
use crate::tensorboard::{EventFile, RunFacts};

/// Writes the events of a run into a folder of their own.
pub(super) fn run(args: &RunsExportArgs, folder: &Path) -> Result<Outcome> {
    let run = &args.run.run;
    let (config, _) = config_of(run)?;
    check_new("--tensorboard", folder)?;
    let (file, unreadable) = EventFile::of_run(run, folder, RunFacts::of(&config)?)?;
    let path = file.path();
    let bytes = path.metadata().with_context(|| path.display().to_string())?.len();
    if !args.run.json {
        let mut text = format!("exported    {bytes} bytes to {}\n", path.display());
        if unreadable > 0 {
            text += &format!("not read    {unreadable} lines of the record\n");
        }
        text += &format!(
            "look at it  tensorboard --logdir {}\n",
            quoted(&folder.display().to_string())
        );
        write_stdout(&text)?;
    }
    Ok(Outcome::done(json!({
        "command": "runs export",
        "run": args.run.run,
        "tensorboard": folder,
        "file": path,
        "bytes": bytes,
        "unreadable_lines": unreadable,
    })))
}
