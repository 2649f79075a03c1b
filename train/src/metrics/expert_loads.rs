//! How many tokens chose each expert, as a file: what `eval` and the log of a run leave for the
//! placement of experts.

use std::path::{Path, PathBuf};

use burn_deepseek::weights::read_regular_text;
use serde::{Deserialize, Serialize};

use crate::failure::{Blame, Context, Result, blamed, of_reading};
use crate::learner::LayerLoad;
use crate::record::{Line, METRICS_FILE, Record};

/// Bytes of a file of loads at most.
const MOST_BYTES: u64 = 1 << 30;

/// The loads of the experts of every MoE layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertLoads {
    /// Groups that the experts of a layer are divided into, where that is known.
    #[serde(default)]
    pub n_group: Option<usize>,
    /// Tokens that chose each expert, layer by layer.
    pub layer_loads: Vec<LayerLoad>,
}

/// Why there are no loads to be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadsError {
    /// Nothing of the name.
    #[error(
        "{}: no loads here; give a run's folder or a file of `deepseek eval --expert-loads`",
        .path.display()
    )]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// A run that has not been evaluated, or whose model is dense.
    #[error(
        "{}: no evaluation in it has loads of experts; `deepseek eval --expert-loads FILE` \
         measures those of any checkpoint of a model with \
         routed experts",
        .path.display()
    )]
    NotMeasured {
        /// The log.
        path: PathBuf,
    },
    /// A file of something else.
    #[error("{}: not a file of `deepseek eval --expert-loads`: {problem}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

blamed!(User: LoadsError);

impl ExpertLoads {
    /// The loads of a file that [`ExpertLoads::write`] wrote, or of the last evaluation of the run
    /// in a folder, which says nothing of groups.
    ///
    /// # Errors
    ///
    /// [`LoadsError`], or what cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let text = read_text(path)?;
            let malformed = |problem: serde_json::Error| LoadsError::Malformed {
                path: path.into(),
                problem: problem.to_string(),
            };
            return Ok(serde_json::from_str(&text).map_err(malformed)?);
        }
        let log = path.join(METRICS_FILE);
        if !log.exists() {
            return Err(LoadsError::NotFound { path: path.into() }.into());
        }
        let mut experts = None;
        // Lines that cannot be read are passed over, as they are when a run is resumed.
        Record::readable(path, |line| {
            if let Line::Evaluation(evaluation) = line {
                experts = Some(evaluation.experts);
            }
        })?;
        let layer_loads = experts.map(|experts| {
            let layers = experts.layers.into_iter().zip(experts.expert_loads);
            layers.map(|(layer, loads)| LayerLoad { layer, loads }).collect::<Vec<_>>()
        });
        let Some(layer_loads) = layer_loads.filter(|layers| !layers.is_empty()) else {
            return Err(LoadsError::NotMeasured { path: log }.into());
        };
        Ok(Self { n_group: None, layer_loads })
    }

    /// Writes them as JSON.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("{}: cannot write", path.display()))
    }
}

/// The text of a file of loads.
fn read_text(file: &Path) -> Result<String> {
    match read_regular_text(file, MOST_BYTES) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(LoadsError::NotFound { path: file.into() }.into())
        }
        Err(error) if of_reading(&error) == Blame::User => {
            Err(LoadsError::Malformed { path: file.into(), problem: error.to_string() }.into())
        }
        result => result.with_context(|| format!("{}: cannot be read", file.display())),
    }
}
