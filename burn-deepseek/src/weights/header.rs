//! One safetensors file: its header, checked against its length, and reads of parts of its tensors.
//!
//! The header is parsed once and the data is read at its place. A map of the file into memory, which
//! is there for weights that stay as they are stored, would save a copy, and would turn a file cut
//! short while it is read into a signal that ends the process, where a read gives an error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use burn::tensor::Bytes;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::WeightsError;
use super::map::MappedFile;
use super::regular::open_regular;

/// Bytes of the header's length, before the header.
const LENGTH_BYTES: u64 = 8;
/// The format's own limit on a header.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// First byte in the file.
    start: u64,
    /// Length in bytes.
    pub len_bytes: usize,
}

/// An open safetensors file.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: Mutex<File>,
    /// None in it where the system does not map the file.
    map: OnceLock<Option<MappedFile>>,
    /// Its length, header and all.
    pub len_bytes: u64,
}

impl SafetensorsFile {
    /// Opens a file and lists its tensors.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is not safetensors, or is shorter or longer than its header
    /// says.
    pub fn open(path: &Path) -> Result<(Self, BTreeMap<String, StoredTensor>), WeightsError> {
        let read_error = |source| WeightsError::Read { path: path.to_path_buf(), source };
        let corrupt = |reason: String| WeightsError::Corrupt { path: path.to_path_buf(), reason };
        let mut file = open_regular(path).map_err(read_error)?;
        let found_bytes = file.metadata().map_err(read_error)?.len();
        if found_bytes < LENGTH_BYTES {
            return Err(corrupt(format!("{found_bytes} bytes are too few for a header")));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(read_error)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(corrupt(format!(
                "a header of {header_bytes} bytes; at most {MAX_HEADER_BYTES} are allowed"
            )));
        }
        let data_start = LENGTH_BYTES + header_bytes;
        if data_start > found_bytes {
            return Err(WeightsError::Length {
                path: path.to_path_buf(),
                expected_bytes: data_start,
                found_bytes,
            });
        }
        let mut header = Vec::new();
        (&file).take(header_bytes).read_to_end(&mut header).map_err(read_error)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| corrupt(error.to_string()))?;
        let expected_bytes = data_start.saturating_add(metadata.data_len() as u64);
        if expected_bytes != found_bytes {
            return Err(WeightsError::Length {
                path: path.to_path_buf(),
                expected_bytes,
                found_bytes,
            });
        }
        let tensors = metadata.tensors().into_iter().map(|(name, info)| {
            let (begin, end) = info.data_offsets;
            let start = data_start + begin as u64;
            (
                name,
                StoredTensor {
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    start,
                    len_bytes: end - begin,
                },
            )
        });
        let tensors = tensors.collect();
        let (path, file) = (path.to_path_buf(), Mutex::new(file));
        Ok((Self { path, file, map: OnceLock::new(), len_bytes: found_bytes }, tensors))
    }

    /// Name of the file, without its directory.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// `len` bytes of one of its tensors from byte `first` of it on: in place where the file can be
    /// mapped and they begin at a multiple of `align`, else read.
    ///
    /// # Errors
    ///
    /// A read that fails, or goes past the tensor.
    pub fn bytes(
        &self,
        tensor: &StoredTensor,
        first: usize,
        len: usize,
        align: usize,
    ) -> Result<Bytes, WeightsError> {
        let map = self.map.get_or_init(|| {
            MappedFile::new(&self.file.lock().unwrap_or_else(PoisonError::into_inner)).ok()
        });
        if let Some(map) = map
            && let Ok(start) = usize::try_from(tensor.start)
            && first.saturating_add(len) <= tensor.len_bytes
            && let Some(bytes) = map.bytes(start + first..start + first + len, align)
        {
            return Ok(bytes);
        }
        let mut bytes = vec![0; len];
        self.read_into(tensor, first, &mut bytes)?;
        Ok(Bytes::from_bytes_vec(bytes))
    }

    /// Fills `out` with the bytes of one of its tensors from byte `first` of it on.
    ///
    /// # Errors
    ///
    /// A read that fails, or goes past the tensor; a file that has become shorter.
    pub fn read_into(
        &self,
        tensor: &StoredTensor,
        first: usize,
        out: &mut [u8],
    ) -> Result<(), WeightsError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        read_at(&mut file, tensor, first, out)
            .map_err(|source| WeightsError::Read { path: self.path.clone(), source })
    }
}

fn read_at(file: &mut File, tensor: &StoredTensor, first: usize, out: &mut [u8]) -> io::Result<()> {
    if first.saturating_add(out.len()) > tensor.len_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.seek(SeekFrom::Start(tensor.start + first as u64))?;
    file.read_exact(out)
}
