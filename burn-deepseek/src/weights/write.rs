//! One safetensors file from tensors that are asked for one after another, and files that take
//! their names when they are complete.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use burn_store::burn_pack::AtomicFile;
use cubecl_kernels::definition::ScaleFormat;

use super::decode::dequantize;
use super::encode::Blocks;
use super::shards::{SavedWeight, Shard};
use super::{NamedSlice, SaveDType, WeightsError};

/// Values encoded at a time.
const CHUNK: usize = 1 << 18;

/// Where the tensors of a save come from.
pub(super) trait Tensors {
    /// A tensor, as it is held.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn tensor(&mut self, slice: &NamedSlice) -> Result<Held<'_>, WeightsError>;
}

/// A tensor before it is saved.
pub(super) enum Held<'a> {
    /// Its values.
    Values(Cow<'a, [f32]>),
    /// A matrix that is in FP8 already.
    Blocks(Blocks),
}

/// A complete file that waits for its name; dropped, it is deleted.
pub(super) struct Pending {
    scratch: AtomicFile,
    /// The name that it waits for.
    pub path: PathBuf,
}

impl Pending {
    /// Writes a file beside its place, to the disk.
    ///
    /// # Errors
    ///
    /// It cannot be written, or what writes it fails.
    pub fn create(
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

    /// Writes a file of text beside its place, to the disk.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn text(path: PathBuf, text: &str) -> Result<Self, WeightsError> {
        Self::create(path, |out| Ok(out.write_all(text.as_bytes())?))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    ///
    /// The name cannot be taken.
    pub fn commit(self) -> Result<(), WeightsError> {
        let Self { scratch, path } = self;
        scratch.commit().map_err(|source| WeightsError::Publish { path, source })
    }
}

/// Why a file could not be filled.
pub(super) enum Failure {
    Io(io::Error),
    Weights(WeightsError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WeightsError> for Failure {
    fn from(error: WeightsError) -> Self {
        Self::Weights(error)
    }
}

/// Writes a file, one weight at a time in memory; `written` is told of each, with the CRC-32 of its
/// bytes and of those of its scales, if any, and may break off: the file is not whole then.
pub(super) fn write_shard(
    shard: &Shard,
    source: &mut impl Tensors,
    out: &mut BufWriter<File>,
    mut written: impl FnMut(&SavedWeight, [u32; 2]) -> ControlFlow<()>,
) -> Result<(), Failure> {
    out.write_all(&(shard.header.len() as u64).to_le_bytes())?;
    out.write_all(&shard.header)?;
    let data = out.stream_position()?;
    for weight in &shard.weights {
        let held = source.tensor(&weight.slice)?;
        let sums = match weight.dtype {
            SaveDType::Fp8(format) => {
                let blocks = in_blocks(weight, held, format)?;
                let mut scales = Vec::new();
                let fits = SaveDType::F32.encode(&blocks.scales, &mut scales);
                debug_assert!(fits.is_ok(), "invariant: F32 holds every F32");
                out.seek(SeekFrom::Start(data + weight.start))?;
                out.write_all(&blocks.codes)?;
                out.seek(SeekFrom::Start(data + weight.scales_start))?;
                out.write_all(&scales)?;
                [crc32fast::hash(&blocks.codes), crc32fast::hash(&scales)]
            }
            dtype => {
                out.seek(SeekFrom::Start(data + weight.start))?;
                let (mut bytes, mut sum) = (Vec::new(), crc32fast::Hasher::new());
                for chunk in multiplied_out(weight, held).chunks(CHUNK) {
                    dtype.encode(chunk, &mut bytes).map_err(|value| out_of_range(weight, value))?;
                    sum.update(&bytes);
                    out.write_all(&bytes)?;
                }
                [sum.finalize(), 0]
            }
        };
        if written(weight, sums).is_break() {
            break;
        }
    }
    Ok(())
}

/// A matrix in FP8: as it is where its scales fit, else quantized from its values.
fn in_blocks(
    weight: &SavedWeight,
    held: Held<'_>,
    format: ScaleFormat,
) -> Result<Blocks, WeightsError> {
    match held {
        Held::Blocks(blocks) if blocks.has_scales_of(format) && !blocks.has_nan() => Ok(blocks),
        held => {
            let columns = weight.slice.shape.last().copied().unwrap_or(1);
            Blocks::quantize(&multiplied_out(weight, held), columns, format)
                .map_err(|value| out_of_range(weight, value))
        }
    }
}

fn multiplied_out<'a>(weight: &SavedWeight, held: Held<'a>) -> Cow<'a, [f32]> {
    match held {
        Held::Values(values) => values,
        Held::Blocks(Blocks { codes, scales }) => {
            let columns = weight.slice.shape.last().copied().unwrap_or(1);
            let mut values = vec![0.0; codes.len()];
            dequantize(&codes, &scales, 0, columns, &mut values);
            Cow::Owned(values)
        }
    }
}

fn out_of_range(weight: &SavedWeight, value: f32) -> WeightsError {
    let dtype = match weight.dtype {
        SaveDType::Fp8(_) => "FP8",
        dtype => dtype.torch_name(),
    };
    WeightsError::OutOfRange { name: weight.slice.name.clone(), value, dtype }
}
