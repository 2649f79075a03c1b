//! Cases made with another implementation: where they lie and how they are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors};

/// Folder of the cases: `$DSV3_FIXTURES`, else the project's own.
pub fn root() -> PathBuf {
    match std::env::var_os("DSV3_FIXTURES") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"),
    }
}

/// Every case of a kind that is a folder, sorted by name.
///
/// # Errors
///
/// The folder is missing or holds no case.
pub fn cases(kind: &str) -> Result<Vec<PathBuf>> {
    entries(kind, Path::is_dir)
}

/// Every case of a kind that is one file, sorted by name.
///
/// # Errors
///
/// The folder is missing or holds no file.
pub fn files(kind: &str) -> Result<Vec<PathBuf>> {
    entries(kind, Path::is_file)
}

fn entries(kind: &str, wanted: fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let folder = root().join(kind);
    let entries = std::fs::read_dir(&folder).with_context(|| {
        format!("{} (set DSV3_FIXTURES to the folder of fixtures)", folder.display())
    })?;
    let mut cases = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    cases.retain(|path| wanted(path));
    cases.sort();
    if cases.is_empty() {
        bail!("{} holds no case", folder.display());
    }
    Ok(cases)
}

/// One tensor of a case, as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Shape of the tensor.
    pub shape: Vec<usize>,
    /// Entries, row-major.
    pub data: Vec<f64>,
}

impl Values {
    /// The entries as tokens or indices.
    pub fn ints(&self) -> Vec<u32> {
        self.data.iter().map(|&v| v as u32).collect()
    }

    /// The entries as FP32, which they are exactly.
    pub fn floats(&self) -> Vec<f32> {
        self.data.iter().map(|&v| v as f32).collect()
    }

    /// The entries as codes.
    pub fn bytes(&self) -> Vec<u8> {
        self.data.iter().map(|&v| v as u8).collect()
    }
}

/// All tensors of a safetensors file, by name.
///
/// # Errors
///
/// The file cannot be read, or holds a type other than F32, BF16, I32 and U8.
pub fn read(path: &Path) -> Result<BTreeMap<String, Values>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| path.display().to_string())?;
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let quads = view.data().as_chunks::<4>().0.iter();
            let pairs = view.data().as_chunks::<2>().0.iter();
            let data = match view.dtype() {
                Dtype::F32 => quads.map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                Dtype::BF16 => pairs
                    .map(|b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)))
                    .collect(),
                Dtype::I32 => quads.map(|b| f64::from(i32::from_le_bytes(*b))).collect(),
                Dtype::U8 => view.data().iter().map(|&b| f64::from(b)).collect(),
                other => bail!("{}: {name} is {other:?}", path.display()),
            };
            Ok((name, Values { shape: view.shape().to_vec(), data }))
        })
        .collect()
}

/// What a safetensors file says about itself.
///
/// # Errors
///
/// The file cannot be read.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let (_, metadata) =
        SafeTensors::read_metadata(&bytes).with_context(|| path.display().to_string())?;
    Ok(metadata
        .metadata()
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect())
}
