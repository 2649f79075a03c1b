//! `deepseek report`: what came of runs, to keep and to hand on: Markdown with pictures, or one
//! page of HTML.

mod chart;
mod figures;
mod gathered;
mod heat;
mod markdown;
mod page;
mod render;
mod series;
mod table;

use std::path::{Path, PathBuf};

use serde_json::json;

use super::new_folder::check_new;
use crate::cli::ReportArgs;
use crate::durable::replace_file;
use crate::exit::Outcome;
use crate::failure::{Context, Result, UsageError};
use crate::runs::find_runs;
use crate::stdout::write_stdout;
use gathered::Gathered;
use page::Page;

/// The file of text in a report's folder.
const MARKDOWN: &str = "report.md";

/// Writes a report.
///
/// # Errors
///
/// No run, a folder or a file that is there already ([`crate::exit::USAGE`]); what cannot be read
/// or written ([`crate::exit::FAILURE`]).
pub fn run(args: &ReportArgs) -> Result<Outcome> {
    let folders = find_runs(&args.runs)?;
    let [first, ..] = &folders[..] else {
        let shown: Vec<String> =
            args.runs.iter().map(|folder| folder.display().to_string()).collect();
        return Err(UsageError(format!("no runs in {}", shown.join(", "))).into());
    };
    let out = match (&args.out, &args.html) {
        (Some(out), _) => Some(out.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(named_after(first, folders.len())),
    };
    check(args, out.as_deref())?;
    let runs = folders.iter().map(|folder| Gathered::of(folder)).collect::<Result<Vec<_>>>()?;
    let page = Page::of(&runs)?;
    let mut files = Vec::new();
    if let Some(out) = &out {
        std::fs::create_dir_all(out)
            .with_context(|| format!("{}: cannot create", out.display()))?;
        for figure in &page.figures {
            files.push(write(out.join(format!("{}.svg", figure.name)), &figure.svg)?);
        }
        files.push(write(out.join(MARKDOWN), &render::markdown(&page)?)?);
    }
    if let Some(html) = &args.html {
        files.push(write(html.clone(), &render::html(&page)?)?);
    }
    if !args.json {
        let text: String =
            files.iter().map(|file| format!("written     {}\n", file.display())).collect();
        write_stdout(&text)?;
    }
    Ok(Outcome::done(json!({
        "command": "report",
        "runs": folders,
        "out": out,
        "html": args.html,
        "files": files,
    })))
}

/// `quickstart-001-report` of a run, `runs-report` of several.
fn named_after(run: &Path, count: usize) -> PathBuf {
    let name = run.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.filter(|_| count == 1).unwrap_or_else(|| "runs".into());
    format!("{name}-report").into()
}

/// Refuses to write over anything, unless that is asked for.
fn check(args: &ReportArgs, out: Option<&Path>) -> Result<()> {
    if args.force {
        return Ok(());
    }
    if let Some(out) = out {
        check_new("--out", out)?;
    }
    match &args.html {
        Some(html) if html.exists() => {
            let problem =
                format!("--html {}: is there already; --force writes over it", html.display());
            Err(UsageError(problem).into())
        }
        _ => Ok(()),
    }
}

/// Writes a file, whole or not at all.
fn write(path: PathBuf, text: &str) -> Result<PathBuf> {
    replace_file(&path, |out| out.write_all(text.as_bytes()))?;
    Ok(path)
}
