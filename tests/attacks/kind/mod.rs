//! The kinds of input that are mutated: what a valid one is, where it lies, and what is done with
//! it.

mod configurations;
mod data;
mod prepared;
mod records;
mod tokenizers;
mod weights;

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::mutation::Form;
use crate::program;

pub use prepared::{NEWEST, prepare};

/// A kind of input.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// How large its part of a campaign is.
    pub share: u64,
    /// How it is put together.
    pub form: Form,
    /// Valid inputs; the folder is that of [`prepare`].
    pub seeds: fn(&Path) -> Result<Vec<Vec<u8>>>,
    /// The file of a place that the input becomes; none where it is arguments.
    pub file: Option<&'static str>,
    /// Fills a place with what has to lie beside that file; the first folder is that of
    /// [`prepare`].
    pub furnish: fn(&Path, &Path) -> Result<()>,
    /// The program's arguments about a place; the input, for kinds that are arguments.
    pub arguments: fn(&Path, &[u8]) -> Vec<OsString>,
    /// What is called in this process instead of the program with those arguments: none where all
    /// went well, else the error.
    pub call: Option<fn(&Path) -> Option<String>>,
}

/// All of them.
pub fn all() -> Vec<Kind> {
    [
        configurations::kinds(),
        weights::kinds(),
        tokenizers::kinds(),
        data::kinds(),
        records::kinds(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Kind {
    /// Writes an input where it belongs.
    pub fn lay(&self, place: &Path, input: &[u8]) -> Result<()> {
        if let Some(file) = self.file {
            let file = place.join(file);
            // Some file systems wait for the disk where a file is written over.
            if file.exists() {
                fs::remove_file(&file)?;
            }
            fs::write(file, input)?;
        }
        Ok(())
    }

    /// Hands a place with an input to the program, in this process.
    pub fn attack(&self, place: &Path, input: &[u8]) -> Option<String> {
        match self.call {
            Some(call) => call(place),
            None => program::call(&(self.arguments)(place, input)),
        }
    }
}

/// A command line: words without spaces in them, and paths under a place behind an `@`.
fn words(place: &Path, line: &str) -> Vec<OsString> {
    let word = |word: &str| match word.strip_prefix('@') {
        Some(path) => place.join(path).into_os_string(),
        None => word.into(),
    };
    line.split_whitespace().map(word).collect()
}

/// A place that needs nothing.
fn nothing(_: &Path, _: &Path) -> Result<()> {
    Ok(())
}

/// The files of a folder with an ending.
fn files(folder: &Path, ending: &str) -> Result<Vec<Vec<u8>>> {
    let mut paths =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.sort();
    paths.iter().map(|path| Ok(fs::read(path)?)).collect()
}
