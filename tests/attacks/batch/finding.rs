//! What did not hold: kept with the input that shows it, and told once for each thing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::kind::Kind;
use crate::mutation::{draw_of, mutated};

/// Inputs that are kept of one thing.
const KEPT: usize = 3;

/// What an input did.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct What {
    /// What it is, the same for the same fault.
    text: String,
    deadly: bool,
}

impl What {
    /// An answer that is none, in its words.
    pub fn answer(text: &str) -> Self {
        Self { text: text.chars().take(300).collect(), deadly: false }
    }

    /// More memory than anything may take.
    pub fn memory() -> Self {
        Self { text: "takes more than 1 GB".into(), deadly: true }
    }

    /// More time than anything may take.
    pub fn slow() -> Self {
        Self { text: "takes longer than 10 s".into(), deadly: true }
    }

    /// The end of the process, with the last that it said.
    pub fn died(status: &str, words: &str) -> Self {
        let words: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = words[words.len().saturating_sub(2)..].join(" | ");
        let last: String = last.chars().take(300).collect();
        Self { text: format!("{status}: {last}"), deadly: true }
    }

    /// The same, where it did not happen again.
    pub fn once(mut self) -> Self {
        self.text += " (not again when alone)";
        self
    }

    /// Whether it is [`slow`](Self::slow).
    pub fn is_slow(&self) -> bool {
        *self == Self::slow()
    }
}

/// All that was found.
pub struct Findings {
    keep: PathBuf,
    seed: u64,
    prepared: PathBuf,
    found: Mutex<BTreeMap<(String, What), Vec<String>>>,
}

impl Findings {
    pub fn new(keep: &Path, seed: u64, prepared: &Path) -> Self {
        Self { keep: keep.into(), seed, prepared: prepared.into(), found: Mutex::default() }
    }

    /// Keeps an input of a campaign for what it did.
    pub fn add(&self, kind: &Kind, index: u64, what: What) -> Result<()> {
        let input = self.input(kind, index)?;
        self.keep(kind.name, &format!("{}-{}-{index}", kind.name, self.seed), &input, what)
    }

    /// Keeps an input under a name.
    pub fn keep(&self, group: &str, name: &str, input: &[u8], what: What) -> Result<()> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let examples = found.entry((group.to_owned(), what)).or_default();
        if examples.len() < KEPT {
            fs::create_dir_all(&self.keep)?;
            fs::write(self.keep.join(name), input)?;
        }
        examples.push(name.to_owned());
        Ok(())
    }

    fn input(&self, kind: &Kind, index: u64) -> Result<Vec<u8>> {
        let seeds = (kind.seeds)(&self.prepared)?;
        Ok(mutated(kind.form, &seeds, &mut draw_of(self.seed, kind.name, index)))
    }

    /// How often something of a kind was found.
    pub fn of(&self, group: &str) -> usize {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.iter().filter(|((of, _), _)| of == group).map(|(_, examples)| examples.len()).sum()
    }

    /// How often a process died of a kind.
    pub fn deaths(&self, group: &str) -> usize {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let deaths = found.iter().filter(|((of, what), _)| of == group && what.deadly);
        deaths.map(|(_, examples)| examples.len()).sum()
    }

    /// Prints each thing with examples; how many there are.
    pub fn print(&self) -> usize {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for ((kind, what), examples) in found.iter() {
            let shown = examples[..examples.len().min(KEPT)].join(" ");
            println!(
                "found: {kind}: {} ({} times, in {}: {shown})",
                what.text.escape_debug(),
                examples.len(),
                self.keep.display()
            );
        }
        found.len()
    }
}
