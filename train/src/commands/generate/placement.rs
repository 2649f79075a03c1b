//! What `--expert-placement` of `generate` names: a file of `plan experts --out`, and the model
//! with its experts placed by it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn_deepseek::weights::read_regular_text;
use burn_deepseek::{Compute, DeepSeek};
use serde::Deserialize;

use crate::device::SelectedDevice;
use crate::failure::{Blame, Context, Failure, Result, UsageError, of_reading};
use crate::parallel::PlacedExperts;
use crate::parallel::eplb::{Balance, LayerPlacement};

/// Bytes of a placement at most.
const MOST_BYTES: u64 = 64 << 20;

/// A placement as it was read.
#[derive(Debug)]
pub(super) struct Placement {
    path: PathBuf,
    gpus: usize,
    layers: BTreeMap<usize, LayerPlacement>,
}

/// What of the file is needed.
#[derive(Deserialize)]
struct Written {
    experts: usize,
    gpus: usize,
    layers: Vec<WrittenLayer>,
}

#[derive(Deserialize)]
struct WrittenLayer {
    layer: usize,
    phy2log: Vec<usize>,
}

impl Placement {
    /// Reads a file of `plan experts --out`.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no placement.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match read_regular_text(path, MOST_BYTES) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let make = "make one with `deepseek plan experts --out FILE`";
                return Err(UsageError(format!(
                    "--expert-placement {}: no such file; {make}",
                    path.display()
                ))
                .into());
            }
            Err(error) if of_reading(&error) == Blame::User => return Err(wrong(path, error)),
            result => result.with_context(|| path.display().to_string())?,
        };
        let Written { experts, gpus, layers } =
            serde_json::from_str(&text).map_err(|error| wrong(path, error))?;
        if layers.is_empty() {
            return Err(wrong(path, "it has no layers"));
        }
        let layer = |WrittenLayer { layer, phy2log }: WrittenLayer| {
            let plan = LayerPlacement::from_phy2log(phy2log, experts, gpus);
            plan.map(|plan| (layer, plan))
                .map_err(|error| wrong(path, format!("layer {layer}: {error}")))
        };
        Ok(Self {
            path: path.into(),
            gpus,
            layers: layers.into_iter().map(layer).collect::<Result<_>>()?,
        })
    }

    /// Takes the experts out of `model`, which is on `home`; `opened` are the devices of the GPUs,
    /// as many as were given.
    ///
    /// # Errors
    ///
    /// The placement is another model's, or more devices than GPUs were given.
    pub fn place(
        &self,
        model: &mut DeepSeek,
        home: &SelectedDevice,
        opened: &[SelectedDevice],
    ) -> Result<Arc<PlacedExperts>> {
        if opened.len() > self.gpus {
            let problem = format!(
                "--devices has {} devices, but {} is for {} GPUs",
                opened.len(),
                self.path.display(),
                self.gpus
            );
            return Err(UsageError(problem).into());
        }
        let device = |gpu: usize| opened.get(gpu).or(opened.last()).unwrap_or(home).device.clone();
        let others: Vec<_> = (1..self.gpus).map(device).collect();
        PlacedExperts::place(model, &self.layers, &others, &Compute::f32()).map_err(|error| {
            UsageError(format!("--expert-placement {}: {error}", self.path.display())).into()
        })
    }
}

fn wrong(path: &Path, problem: impl std::fmt::Display) -> Failure {
    UsageError(format!(
        "--expert-placement {}: not a file of `deepseek plan experts --out`: {problem}",
        path.display()
    ))
    .into()
}

/// How even the GPUs' rows are, in a line.
pub(super) fn text(gpu_rows: &BTreeMap<usize, Vec<u64>>) -> String {
    let ratio = |rows: &Vec<u64>| {
        Balance::of(&rows.iter().map(|&rows| rows as f64).collect::<Vec<_>>()).ratio()
    };
    let gpus = gpu_rows.values().map(Vec::len).max().unwrap_or(0);
    let layers: Vec<String> =
        gpu_rows.iter().map(|(layer, rows)| format!("layer {layer} {:.2}", ratio(rows))).collect();
    format!("experts     on {gpus} GPUs, max load / mean load: {}\n", layers.join(", "))
}
