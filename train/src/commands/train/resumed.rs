//! What a run that is resumed goes on with: its checkpoint and its folder, its tokenizer, its text.

use super::folders::{RunFolder, newest_run, run_dir_of};
use crate::checkpoint::{self, Checkpoint, Purpose};
use crate::cli::TrainArgs;
use crate::data::{
    DataConfig, DataError, TOKENIZER_FILE, TokenData, Tokenizer, TokenizerConfig, TokenizerFiles,
};
use crate::failure::{Result, UsageError};
use crate::fold::fold_on_terminal;
use crate::stdout::write_stdout;

/// The checkpoint that `--resume` goes on from, and its run's folder.
pub(super) fn resumed(args: &TrainArgs) -> Result<Option<(Checkpoint, RunFolder)>> {
    let Some(path) = &args.resume else { return Ok(None) };
    if args.config.config.is_some() {
        let problem = "--resume goes on with the configuration of the run; leave --config out \
                       (--set still changes values)";
        return Err(UsageError(problem.into()).into());
    }
    if args.run_dir.is_some() {
        let problem = "--resume goes on in the run's own folder; leave --run-dir out (a copy of \
                       the folder can be resumed too)";
        return Err(UsageError(problem.into()).into());
    }
    let path = path
        .clone()
        .map_or_else(|| newest_run(&args.config_request().resolve()?.output.dir), Ok)?;
    let folder = RunFolder::lock(run_dir_of(&checkpoint::find(&path)?)?)?;
    // Looked for again: whoever had the lock before may have saved one.
    Ok(Some((Checkpoint::open(&path, Purpose::Training)?, folder)))
}

/// Who says what is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Here,
    ByRank0,
}

/// The tokenizer of the run that `checkpoint` is of, whatever has become of the file that it was
/// read from: that file as long as the checkpoint's copy is made of it, else the copy. None where
/// the run has another now, which is then compared with what it was begun with, or needs no file.
pub(super) fn tokenizer_of(
    checkpoint: &Checkpoint,
    data: &DataConfig,
    said: Said,
) -> Result<Option<Tokenizer>> {
    let begun = checkpoint.config()?.data;
    let TokenizerConfig::File(path) = &data.tokenizer else { return Ok(None) };
    if (&data.tokenizer, &data.eod_token) != (&begun.tokenizer, &begun.eod_token) {
        return Ok(None);
    }
    let Some(print) = checkpoint.data()? else { return Ok(None) };
    if let Ok(tokenizer) = data.open_tokenizer()
        && tokenizer.identity() == print.tokenizer
        && TokenizerFiles::of_run(&tokenizer, tokenizer.vocab_size())
            .is_ok_and(|files| files.are_in(&checkpoint.path))
    {
        return Ok(Some(tokenizer));
    }
    let copy = checkpoint.path.join(TOKENIZER_FILE);
    if said == Said::Here {
        write_stdout(&fold_on_terminal(format!(
            "tokenizer   {}: not there, or not what it was; the run goes on with {}\n",
            path.display(),
            copy.display()
        )))?;
    }
    let copied = DataConfig { tokenizer: TokenizerConfig::File(copy), ..data.clone() };
    Ok(Some(copied.open_tokenizer()?.copy_of(&print.tokenizer)))
}

/// A run goes on over the text that it was begun on, held out as it was, or over another that was
/// asked for.
pub(super) fn check_data(
    checkpoint: &Checkpoint,
    config: &DataConfig,
    data: &TokenData,
    allowed: bool,
) -> Result<()> {
    let saved = checkpoint.data()?;
    let mut changes = saved.map_or(Vec::new(), |saved| saved.changes(&data.fingerprint));
    changes.extend(split_changes(&checkpoint.config()?.data, config));
    if changes.is_empty() {
        return Ok(());
    }
    if !allowed {
        return Err(DataError::Changed { changes }.into());
    }
    write_stdout(&format!("data        changed since the checkpoint: {}\n", changes.join(", ")))
}

/// Settings that decide which text is there and what of it is held out, where they differ.
fn split_changes(begun: &DataConfig, now: &DataConfig) -> Vec<String> {
    let differing = [
        ("data.split", format!("{:?}", begun.split), format!("{:?}", now.split)),
        ("data.valid_fraction", begun.valid_fraction.to_string(), now.valid_fraction.to_string()),
        ("data.seed", begun.seed.to_string(), now.seed.to_string()),
        ("data.builtin_bytes", begun.builtin_bytes.to_string(), now.builtin_bytes.to_string()),
    ];
    differing
        .into_iter()
        .filter(|(_, was, is)| was != is)
        .map(|(key, was, is)| format!("{key} from {was} to {is}").to_lowercase())
        .collect()
}
