//! Files of a checkpoint that several write at once, each its tensors in their places: where those
//! are is decided by the model alone, so the files are the same whoever writes what.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::save::{config_text, index_text};
use super::shards::{header_of, shards};
use super::{CONFIG_FILE, INDEX_FILE, SaveDType, SaveOptions, WeightsError, named_slices};
use crate::DeepSeekConfig;

/// Some files, and where each tensor lies in them.
#[derive(Debug)]
pub struct FilesInPlace {
    files: Vec<FileInPlace>,
    /// File and first byte in it.
    places: HashMap<String, (usize, u64)>,
}

#[derive(Debug)]
struct FileInPlace {
    name: String,
    header: Vec<u8>,
    len_bytes: u64,
}

/// Bytes of a header's length, before the header.
const LENGTH_BYTES: u64 = 8;

impl FilesInPlace {
    /// The weights of a model in F32, as [`save_model`](super::save_model) lays them out.
    ///
    /// # Errors
    ///
    /// A header that cannot be written.
    pub fn of_model(config: &DeepSeekConfig) -> io::Result<Self> {
        let mut made = Self { files: Vec::new(), places: HashMap::new() };
        for shard in shards(named_slices(config), &SaveOptions::default())? {
            let first = LENGTH_BYTES + shard.header.len() as u64;
            let mut len_bytes = first;
            for weight in shard.weights {
                len_bytes += weight.len_bytes();
                made.places.insert(weight.slice.name, (made.files.len(), first + weight.start));
            }
            made.files.push(FileInPlace { name: shard.file, header: shard.header, len_bytes });
        }
        Ok(made)
    }

    /// One file of tensors of one type, by their names.
    ///
    /// # Errors
    ///
    /// A header that cannot be written.
    pub fn of_tensors(
        file: &str,
        dtype: Dtype,
        mut tensors: Vec<(String, Vec<usize>)>,
    ) -> io::Result<Self> {
        tensors.sort();
        let (mut end, mut infos, mut starts) = (0, Vec::new(), Vec::new());
        for (name, shape) in tensors {
            let start = end;
            end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
            starts.push((name.clone(), start as u64));
            infos.push((name, TensorInfo { dtype, shape, data_offsets: (start, end) }));
        }
        let header = header_of(infos)?;
        let first = LENGTH_BYTES + header.len() as u64;
        let len_bytes = first + end as u64;
        Ok(Self {
            files: vec![FileInPlace { name: file.to_string(), header, len_bytes }],
            places: starts.into_iter().map(|(name, start)| (name, (0, first + start))).collect(),
        })
    }

    /// Makes the files in a folder, with their headers and without their tensors.
    ///
    /// # Errors
    ///
    /// They cannot be made.
    pub fn create(&self, dir: &Path) -> Result<(), WeightsError> {
        for FileInPlace { name, header, len_bytes } in &self.files {
            let make = |path: &Path| {
                let mut file = File::create(path)?;
                file.write_all(&(header.len() as u64).to_le_bytes())?;
                file.write_all(header)?;
                file.set_len(*len_bytes)?;
                file.sync_all()
            };
            let path = dir.join(name);
            make(&path).map_err(|source| WeightsError::Write { path, source })?;
        }
        Ok(())
    }

    /// What writes tensors into files that have been [made](Self::create).
    pub fn writer(&self, dir: &Path) -> WriterInPlace<'_> {
        WriterInPlace { files: self, dir: dir.to_path_buf(), open: HashMap::new() }
    }
}

/// Writes what a folder has beside the weights of a model in F32: its `config.json`, and the index
/// of its shards where they are several.
///
/// # Errors
///
/// A file that cannot be written.
pub fn describe_model(config: &DeepSeekConfig, dir: &Path) -> Result<(), WeightsError> {
    let write = |name: &str, text: io::Result<String>| {
        let path = dir.join(name);
        let written = text.and_then(|text| {
            let mut file = File::create(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|source| WeightsError::Write { path, source })
    };
    write(CONFIG_FILE, config_text(config, SaveDType::F32))?;
    let index = shards(named_slices(config), &SaveOptions::default());
    match index.and_then(|shards| index_text(&shards)).transpose() {
        None => Ok(()),
        Some(text) => write(INDEX_FILE, text),
    }
}

/// Writes tensors in their places.
#[derive(Debug)]
pub struct WriterInPlace<'a> {
    files: &'a FilesInPlace,
    dir: PathBuf,
    open: HashMap<usize, File>,
}

impl WriterInPlace<'_> {
    /// Writes the bytes of a tensor.
    ///
    /// # Errors
    ///
    /// They cannot be written, or there is no such tensor.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), WeightsError> {
        let Some(&(number, start)) = self.files.places.get(name) else {
            let path = self.dir.clone();
            let source = io::Error::other(format!("no file has a place for {name}"));
            return Err(WeightsError::Write { path, source });
        };
        let path = self.dir.join(&self.files.files[number].name);
        let mut write = || {
            let file = match self.open.entry(number) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(place) => place.insert(OpenOptions::new().write(true).open(&path)?),
            };
            file.seek(SeekFrom::Start(start))?;
            file.write_all(bytes)
        };
        write().map_err(|source| WeightsError::Write { path, source })
    }

    /// Brings what was written to the disk.
    ///
    /// # Errors
    ///
    /// The system says that it cannot.
    pub fn sync(self) -> Result<(), WeightsError> {
        for (number, file) in self.open {
            let path = self.dir.join(&self.files.files[number].name);
            file.sync_all().map_err(|source| WeightsError::Write { path, source })?;
        }
        Ok(())
    }
}
