//! What ranks write of a checkpoint: each the tensors that it owns, in their places of files that
//! are the same whoever writes them.

use std::io;
use std::path::Path;

use burn::tensor::Tensor;
use burn_deepseek::DeepSeekConfig;
use burn_deepseek::weights::{FilesInPlace, SlicesByParameter, WeightsError};
use safetensors::Dtype;

use super::flat::flat_values;
use super::rank::Rank;
use super::shards::{Shard, Shards};
use crate::failure::Result;
use crate::kill_point;
use crate::learner::{FIRST_MOMENT, MomentFormat, OPTIMIZER_FILE, SECOND_MOMENT};
use crate::parallel::packed;

/// What every rank writes its own of.
#[derive(Clone, Debug)]
pub(super) struct WriteJob {
    /// The folder, in which the files are.
    pub folder: String,
    /// The shards that have moments, by their places.
    pub moments: Vec<usize>,
    /// Whether it is the average that is written, in place of the weights.
    pub average: bool,
}

packed!(WriteJob { folder, moments, average });

/// The files of a checkpoint's tensors.
pub(super) struct Files {
    pub weights: FilesInPlace,
    pub moments: FilesInPlace,
    /// The tensors of each parameter.
    slices: SlicesByParameter,
}

impl Files {
    /// Those of a model, of whose shards some have moments.
    pub fn new(
        config: &DeepSeekConfig,
        shards: &Shards,
        moments: &[usize],
        format: MomentFormat,
    ) -> io::Result<Self> {
        let slices = SlicesByParameter::new(config);
        let dtype = match format {
            MomentFormat::F32 => Dtype::F32,
            MomentFormat::Bf16 => Dtype::BF16,
        };
        let with_moments = moments.iter().filter_map(|&index| shards.0.get(index));
        let tensors = with_moments
            .flat_map(|shard| slices.within(&shard.path, &shard.elements))
            .flat_map(|slice| {
                [FIRST_MOMENT, SECOND_MOMENT]
                    .map(|suffix| (format!("{}{suffix}", slice.name), slice.shape.clone()))
            });
        Ok(Self {
            weights: FilesInPlace::of_model(config)?,
            moments: FilesInPlace::of_tensors(OPTIMIZER_FILE, dtype, tensors.collect())?,
            slices,
        })
    }
}

impl Rank {
    /// Which of the shards that this rank owns have moments, by their places.
    pub fn with_moments(&self) -> Vec<usize> {
        let moments = self.optimizer.moments();
        self.owned_shards()
            .filter(|shard| moments.contains_key(&shard.id))
            .map(|s| s.index)
            .collect()
    }

    /// Writes the weights and moments of the shards that this rank owns, or their average; how many
    /// bytes they are.
    pub fn write(&self, job: &WriteJob) -> Result<u64> {
        let (folder, mut bytes) = (Path::new(&job.folder), 0);
        let format = self.optimizer.settings().moments;
        let files = Files::new(self.part.config(), &self.shards, &job.moments, format)
            .map_err(|source| WeightsError::Write { path: folder.to_path_buf(), source })?;
        kill_point::here();
        let mut values = match job.average {
            true => self.average.clone(),
            false => flat_values(&self.part),
        };
        let mut out = files.weights.writer(folder);
        for shard in self.owned_shards() {
            let Some(value) = values.remove(&shard.id) else { continue };
            bytes += written(&files, shard, value, "", |name, bytes| out.write(name, bytes))?;
            self.post.sign_of_life();
        }
        out.sync()?;
        if job.average {
            return Ok(bytes);
        }
        kill_point::here();
        let mut out = files.moments.writer(folder);
        for shard in self.owned_shards() {
            let Some(moments) = self.optimizer.moments().get(&shard.id) else { continue };
            for (suffix, moment) in
                [(FIRST_MOMENT, &moments.first), (SECOND_MOMENT, &moments.second)]
            {
                bytes += written(&files, shard, moment.clone(), suffix, |name, bytes| {
                    out.write(name, bytes)
                })?;
            }
            self.post.sign_of_life();
        }
        out.sync()?;
        Ok(bytes)
    }

    fn owned_shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.owned_by(self.place.rank)
    }
}

/// Writes the tensors of a shard, whose values are flat; how many bytes they are.
fn written(
    files: &Files,
    shard: &Shard,
    values: Tensor<1>,
    suffix: &str,
    mut write: impl FnMut(&str, &[u8]) -> Result<(), WeightsError>,
) -> Result<u64> {
    let mut sum = 0;
    let data = values.into_data();
    let width = data.dtype().size();
    for slice in files.slices.within(&shard.path, &shard.elements) {
        let first = slice.offset - shard.elements.start;
        let bytes = &data.as_bytes()[first * width..][..slice.elements() * width];
        write(&format!("{}{suffix}", slice.name), bytes)?;
        sum += bytes.len() as u64;
    }
    Ok(sum)
}
