//! A checkpoint from a model.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use burn_store::bridge;
use burn_store::burn_pack::{AtomicFile, Tensor as PackTensor};
use safetensors::tensor::{Metadata, TensorInfo};

pub use super::encode::SaveDType;

use super::index::ShardIndex;
use super::named::parameters_by_path;
use super::shards::{Shard, index, shards};
use super::{CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE, WeightsError, named_slices};
use crate::DeepSeek;

/// Values encoded at a time.
const CHUNK: usize = 1 << 18;

/// How a model is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveOptions {
    /// Type of the weights; the routers' balance biases are always F32.
    pub dtype: SaveDType,
    /// Most bytes of tensor data in one file; a model with more is split into shards.
    pub max_shard_bytes: u64,
}

impl Default for SaveOptions {
    /// F32 in shards of 5 GB.
    fn default() -> Self {
        Self { dtype: SaveDType::F32, max_shard_bytes: 5_000_000_000 }
    }
}

/// Saves a model for Hugging Face: `config.json` and `model.safetensors`, or shards and
/// `model.safetensors.index.json`.
///
/// Every file is complete and on disk before it takes its name, so an interrupted save leaves no
/// part of a file under a final name. A checkpoint already in `dir` is replaced, its leftover
/// shards included; other files stay. The names change one after the other: who needs the whole
/// directory to change at once saves into a new one and renames that.
///
/// # Errors
///
/// A directory or file that cannot be written, a value that `dtype` cannot hold, or a model whose
/// parameters are not those of its config.
pub fn save_model(
    model: &DeepSeek,
    dir: impl AsRef<Path>,
    options: &SaveOptions,
) -> Result<(), WeightsError> {
    let dir = dir.as_ref();
    let mut parameters = Parameters { tensors: parameters_by_path(model)?, current: None };
    let shards = shards(named_slices(model.config()), options);
    fs::create_dir_all(dir)
        .map_err(|source| WeightsError::Write { path: dir.to_path_buf(), source })?;

    let mut files = Vec::with_capacity(shards.len());
    for shard in &shards {
        files.push(Pending::create(dir.join(&shard.file), |out| {
            write_shard(shard, &mut parameters, out)
        })?);
    }
    let config = model.config().to_hugging_face_json(options.dtype.torch_name());
    let config =
        Pending::create(dir.join(CONFIG_FILE), |out| Ok(out.write_all(config.as_bytes())?))?;
    if shards.len() == 1 {
        publish_single(dir, config, files)
    } else {
        let index = serde_json::to_vec_pretty(&index(&shards)).map_err(io::Error::from);
        let index = Pending::create(dir.join(INDEX_FILE), |out| Ok(out.write_all(&index?)?))?;
        publish_shards(dir, config, files, index)
    }
}

/// The single file takes precedence over an older index, whose shards go last.
fn publish_single(dir: &Path, config: Pending, files: Vec<Pending>) -> Result<(), WeightsError> {
    let old = old_shards(dir);
    config.commit()?;
    files.into_iter().try_for_each(Pending::commit)?;
    remove(&dir.join(INDEX_FILE))?;
    old.iter().try_for_each(|shard| remove(&dir.join(shard)))
}

/// An older index goes first where a new shard takes an old one's name: in between there is no
/// checkpoint, rather than a mixed one. An older single file goes last: until then it is the
/// checkpoint.
fn publish_shards(
    dir: &Path,
    config: Pending,
    files: Vec<Pending>,
    index: Pending,
) -> Result<(), WeightsError> {
    let new: BTreeSet<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    let old = old_shards(dir).into_iter().map(|shard| dir.join(shard));
    let (replaced, stale): (Vec<_>, Vec<_>) = old.partition(|shard| new.contains(shard));
    if !replaced.is_empty() {
        remove(&dir.join(INDEX_FILE))?;
    }
    files.into_iter().try_for_each(Pending::commit)?;
    config.commit()?;
    index.commit()?;
    remove(&dir.join(WEIGHTS_FILE))?;
    stale.iter().try_for_each(|shard| remove(shard))
}

/// Shards of the checkpoint that is there; none where its index cannot be read, for then nobody
/// knows whose files they are.
fn old_shards(dir: &Path) -> Vec<String> {
    let index = ShardIndex::read(&dir.join(INDEX_FILE)).unwrap_or_default();
    index.shards().into_iter().filter(|shard| *shard != WEIGHTS_FILE).map(str::to_string).collect()
}

fn remove(path: &Path) -> Result<(), WeightsError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(WeightsError::Write { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// A complete file that waits for its name; dropped, it is deleted.
struct Pending {
    scratch: AtomicFile,
    path: PathBuf,
}

impl Pending {
    fn create(
        path: PathBuf,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Failure>,
    ) -> Result<Self, WeightsError> {
        let (scratch, file) = AtomicFile::create(&path)
            .map_err(|source| WeightsError::Publish { path: path.clone(), source })?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let written = write(&mut out).and_then(|()| {
            out.flush()?;
            Ok(out.get_ref().sync_all()?)
        });
        match written {
            Ok(()) => Ok(Self { scratch, path }),
            Err(Failure::Io(source)) => Err(WeightsError::Write { path, source }),
            Err(Failure::Weights(error)) => Err(error),
        }
    }

    fn commit(self) -> Result<(), WeightsError> {
        let Self { scratch, path } = self;
        scratch.commit().map_err(|source| WeightsError::Publish { path, source })
    }
}

/// Why a file could not be filled.
enum Failure {
    Io(io::Error),
    Weights(WeightsError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn write_shard(
    shard: &Shard,
    parameters: &mut Parameters,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut header = header(shard)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut bytes = Vec::new();
    for tensor in &shard.tensors {
        let slice = &tensor.slice;
        let values = parameters.values(&slice.parameter).map_err(Failure::Weights)?;
        for chunk in values[slice.offset..][..slice.elements()].chunks(CHUNK) {
            tensor.dtype.encode(chunk, &mut bytes).map_err(|value| {
                let (name, dtype) = (slice.name.clone(), tensor.dtype.torch_name());
                Failure::Weights(WeightsError::OutOfRange { name, value, dtype })
            })?;
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

fn header(shard: &Shard) -> io::Result<Vec<u8>> {
    let mut end = 0;
    let infos = shard.tensors.iter().map(|tensor| {
        let start = end;
        end += tensor.len_bytes();
        let info = TensorInfo {
            dtype: tensor.dtype.stored(),
            shape: tensor.slice.shape.clone(),
            data_offsets: (start, end),
        };
        (tensor.slice.name.clone(), info)
    });
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let metadata = Metadata::new(Some(format), infos.collect()).map_err(io::Error::other)?;
    Ok(serde_json::to_vec(&metadata)?)
}

/// A model's parameters, the last one used kept on the host: its tensors follow one another.
struct Parameters {
    tensors: HashMap<String, PackTensor>,
    current: Option<(String, Vec<f32>)>,
}

impl Parameters {
    fn values(&mut self, parameter: &str) -> Result<&[f32], WeightsError> {
        let fresh = match self.current.take() {
            Some((path, values)) if path == parameter => (path, values),
            _ => (parameter.to_string(), self.read(parameter)?),
        };
        Ok(&self.current.insert(fresh).1)
    }

    fn read(&self, parameter: &str) -> Result<Vec<f32>, WeightsError> {
        let failed =
            |reason: String| WeightsError::Device { parameter: parameter.to_string(), reason };
        let tensor = self
            .tensors
            .get(parameter)
            .ok_or_else(|| failed("the model has no such parameter".into()))?;
        let data = bridge::to_data(tensor).map_err(|error| failed(error.to_string()))?;
        data.try_into_vec_as().map_err(|error| failed(error.to_string()))
    }
}
