//! `deepseek export`: a model written for other programs, whole and read back or not at all.

mod beside;
mod card;
mod scratch;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use burn_deepseek::EndTokens;
use burn_deepseek::fp8::ScaleFormat;
use burn_deepseek::weights::{
    ExportOptions, ExportProgress, Exported, SaveDType, SaveOptions, export, scale_format_of,
};
use serde_json::json;

use super::new_folder::check_new;
use crate::cli::{ExportArgs, ExportDType, ExportScales};
use crate::exit::Outcome;
use crate::failure::{Context, Result, UsageError};
use crate::fold::fold_on_terminal;
use crate::metrics::duration;
use crate::model_folder::{Located, named};
use crate::shell_word::quoted;
use crate::signals::Signals;
use crate::stdout::write_stdout;
use beside::Beside;
use scratch::Scratch;

/// From one line of progress to the next.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Exports a model.
///
/// # Errors
///
/// No model, a folder that is not empty, settings that do not go together, values that the type
/// cannot hold ([`crate::exit::USAGE`]); files that cannot be read or written
/// ([`crate::exit::FAILURE`]).
pub fn run(args: ExportArgs, signals: &Signals) -> Result<Outcome> {
    if args.scale_format.is_some() && args.dtype != ExportDType::Fp8 {
        return Err(UsageError("--scale-format is for --dtype fp8".into()).into());
    }
    check_new("--out", &args.out)?;
    let source = Located::find(&named(&args.checkpoint, args.best)?, args.weights())?;
    let beside = Beside::of(&source)?;
    let scratch = Scratch::beside(&args.out)?;
    let partial = scratch.path().to_owned();
    // What a signal ends leaves nothing behind.
    signals.before_end(move || _ = std::fs::remove_dir_all(&partial));
    let options = ExportOptions {
        save: SaveOptions {
            dtype: dtype(&args, &source.folder)?,
            max_shard_bytes: args.max_shard_size,
        },
        bos_token_id: source.begin(),
        eos_token_id: match source.model.eos_token_id.is_empty() {
            true => source.stop.clone(),
            false => EndTokens::NONE,
        },
    };
    let mut progress = Progress::new();
    let exported = export(&source.folder, scratch.path(), &options, |so_far| {
        progress.show(so_far);
        ControlFlow::Continue(())
    })?;
    let exported = exported.context("the export broke off")?;
    beside.write(scratch.path())?;
    let card = card::text(&args.out, &source, &exported, options.save.dtype)?;
    scratch.write("README.md", card.as_bytes())?;
    let files = scratch.publish()?;
    report(&args, &source, &exported, options.save.dtype, files)
}

/// The type to write; scales as asked for, else as `config.json` says that they are.
fn dtype(args: &ExportArgs, folder: &Path) -> Result<SaveDType> {
    Ok(match args.dtype {
        ExportDType::F32 => SaveDType::F32,
        ExportDType::F16 => SaveDType::F16,
        ExportDType::Bf16 => SaveDType::Bf16,
        ExportDType::Fp8 => SaveDType::Fp8(match args.scale_format {
            Some(ExportScales::F32) => ScaleFormat::F32,
            Some(ExportScales::Ue8m0) => ScaleFormat::PowerOfTwo,
            None => scale_format_of(folder)?,
        }),
    })
}

/// What to call a type of weights, and the format of its scales.
fn names(dtype: SaveDType) -> (&'static str, Option<&'static str>) {
    match dtype {
        SaveDType::F32 => ("f32", None),
        SaveDType::F16 => ("f16", None),
        SaveDType::Bf16 => ("bf16", None),
        SaveDType::Fp8(ScaleFormat::F32) => ("fp8", Some("f32")),
        SaveDType::Fp8(ScaleFormat::PowerOfTwo) => ("fp8", Some("ue8m0")),
    }
}

/// Prints what was written and makes the results.
fn report(
    args: &ExportArgs,
    source: &Located,
    exported: &Exported,
    dtype: SaveDType,
    files: Vec<String>,
) -> Result<Outcome> {
    let (name, scales) = names(dtype);
    let from = source.run.as_ref().map_or(&source.folder, |(checkpoint, _)| &checkpoint.path);
    let step = source.run.as_ref().map(|(checkpoint, _)| checkpoint.position.step);
    let after = step.map_or_else(String::new, |step| format!(", after step {step}"));
    let average = if args.ema { ", the average of the weights" } else { "" };
    let tokens: Vec<String> = source.stop.iter().map(|token| token.to_string()).collect();
    let out = args.out.display();
    let word = quoted(&out.to_string());
    write_stdout(&fold_on_terminal(format!(
        "checkpoint  {}{after}{average}\n\
         weights     {} tensors, {} in {name}{}, read back and compared\n\
         end tokens  {}\n\
         files       {}\n\
         exported    {out}  (try it: deepseek generate --checkpoint {word} --prompt ...)\n",
        from.display(),
        exported.tensors,
        megabytes(exported.bytes),
        scales.map_or_else(String::new, |format| format!(" with {format} scales")),
        if tokens.is_empty() { "none".to_string() } else { tokens.join(", ") },
        files.join(" "),
    )))?;
    Ok(Outcome::done(json!({
        "command": "export",
        "checkpoint": from,
        "step": step,
        "ema": args.ema,
        "out": args.out,
        "dtype": name,
        "scale_format": scales,
        "tensors": exported.tensors,
        "bytes": exported.bytes,
        "weight_files": exported.files,
        "files": files,
        "bos_token_id": source.begin(),
        "eos_token_id": source.stop,
    })))
}

/// A size for people.
fn megabytes(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 1e6 => format!("{:.1} KB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.2} GB", bytes / 1e9),
    }
}

/// Lines on standard error, for exports that take long.
struct Progress {
    started: Instant,
    shown: Instant,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self { started: now, shown: now }
    }

    fn show(&mut self, ExportProgress { done_bytes, total_bytes }: ExportProgress) {
        if self.shown.elapsed() < PROGRESS_EVERY || done_bytes == total_bytes {
            return;
        }
        self.shown = Instant::now();
        let seconds = self.started.elapsed().as_secs_f64();
        let left = seconds / done_bytes.max(1) as f64 * (total_bytes - done_bytes) as f64;
        let half = total_bytes / 2;
        let (what, done) = match done_bytes.checked_sub(half) {
            Some(read) => ("read back", read),
            None => ("written", done_bytes),
        };
        // Progress that nobody can read is no reason to stop.
        let _ = writeln!(
            std::io::stderr(),
            "{what} {} of {}  {}/s  left {}",
            megabytes(done),
            megabytes(half),
            megabytes((done_bytes as f64 / seconds.max(1e-9)) as u64),
            duration(left)
        );
    }
}
