//! What the table of runs has of a run.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::numbers::{Number, Numbers};

/// Losses that a table draws of a run at most.
pub(super) const SPARKS: usize = 60;

/// What the table has of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub id: String,
    pub name: String,
    pub folder: String,
    #[serde(flatten)]
    pub of: Known,
}

/// What is known of a run, or why nothing is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Known {
    Read(Box<Read>),
    Unread { error: String },
}

/// What is known of a run that can be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Read {
    pub state: &'static str,
    pub step: u64,
    pub planned_steps: u64,
    pub tokens: Option<u64>,
    pub samples: Option<u64>,
    pub loss: Option<f64>,
    pub valid_loss: Option<f64>,
    pub best_valid_loss: Option<f64>,
    pub best_step: Option<u64>,
    pub tokens_per_second: Option<f64>,
    pub seconds_left: Option<f64>,
    pub elapsed_seconds: Option<f64>,
    pub started: Option<String>,
    pub updated: Option<String>,
    pub model: String,
    pub parameters: u64,
    pub format: &'static str,
    pub changed: BTreeMap<String, String>,
    pub tags: BTreeSet<String>,
    pub note: String,
    pub archived: bool,
    pub alerts: Alerts,
    pub unreadable_lines: usize,
    pub sparkline: Numbers,
}

/// Alerts by level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Alerts {
    pub info: usize,
    pub warning: usize,
    pub error: usize,
}

impl Row {
    /// The row of a run that cannot be read.
    pub fn unread(id: &str, name: &str, folder: &str, error: String) -> Self {
        let of = Known::Unread { error };
        Self { id: id.into(), name: name.into(), folder: folder.into(), of }
    }

    /// What is known, where something is.
    pub fn read(&self) -> Option<&Read> {
        match &self.of {
            Known::Read(read) => Some(read),
            Known::Unread { .. } => None,
        }
    }
}

impl Read {
    /// What came of the run, by name, for a table.
    pub fn results(&self) -> [(&'static str, Option<Number>); 9] {
        let some = |value: Option<f64>| value.map(Number);
        let whole = |value: Option<u64>| value.map(|value| Number(value as f64));
        [
            ("step", whole(Some(self.step))),
            ("tokens", whole(self.tokens)),
            ("loss", some(self.loss)),
            ("valid_loss", some(self.valid_loss)),
            ("best_valid_loss", some(self.best_valid_loss)),
            ("best_step", whole(self.best_step)),
            ("tokens_per_second", some(self.tokens_per_second)),
            ("elapsed_seconds", some(self.elapsed_seconds)),
            ("parameters", whole(Some(self.parameters))),
        ]
    }
}
