//! The optimizer of a checkpoint: AdamW's moments, put together from the tensors that they are
//! stored as.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use burn_deepseek::weights::{
    HeldParameter, NamedSlice, named_slices, open_regular, parameter_ids,
};
use burn_deepseek::{DeepSeek, DeepSeekConfig};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};

use super::{Checkpoint, CheckpointError};
use crate::learner::{AdamW, AdamWSettings, FIRST_MOMENT, Moments, OPTIMIZER_FILE, SECOND_MOMENT};

impl Checkpoint {
    /// The optimizer of `model`, as it was; moments of another format than `settings` has are
    /// converted.
    ///
    /// # Errors
    ///
    /// Moments that cannot be read, or that are not the model's.
    pub fn optimizer(
        &self,
        model: &DeepSeek,
        settings: AdamWSettings,
    ) -> Result<AdamW, CheckpointError> {
        let path = self.path.join(OPTIMIZER_FILE);
        let bytes = fs::read(&path).map_err(CheckpointError::io(&path, "read"))?;
        let file =
            SafeTensors::deserialize(&bytes).map_err(|e| CheckpointError::damaged(&path, e))?;
        let first = assembled(model, &file, FIRST_MOMENT, &path)?;
        let mut second = assembled(model, &file, SECOND_MOMENT, &path)?;
        let device = model.device().inner();
        let dtype = settings.moments.dtype();
        let tensor = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(
                TensorData::new(values, [count]).convert_dtype(dtype),
                (&device, dtype),
            )
        };
        let ids = parameter_ids(model);
        let mut moments = HashMap::new();
        for (parameter, first) in first {
            let (id, _) = ids.get(&parameter).ok_or_else(|| {
                CheckpointError::damaged(&path, format!("the model has no parameter {parameter}"))
            })?;
            let second = second.remove(&parameter).ok_or_else(|| {
                CheckpointError::damaged(&path, format!("{parameter} lacks its second moment"))
            })?;
            moments.insert(*id, Moments { first: tensor(first), second: tensor(second) });
        }
        Ok(AdamW::resumed(settings, self.position.step, moments))
    }
}

impl Checkpoint {
    /// The optimizer of a part of the model of `config`, as it was: the moments of what is `owned`,
    /// of which alone anything is read; `read` is told of each.
    ///
    /// # Errors
    ///
    /// As [`optimizer`](Self::optimizer).
    pub fn part_of_optimizer(
        &self,
        config: &DeepSeekConfig,
        owned: &[HeldParameter],
        settings: AdamWSettings,
        device: &Device,
        read: &mut dyn FnMut(),
    ) -> Result<AdamW, CheckpointError> {
        let path = self.path.join(OPTIMIZER_FILE);
        let mut file = MomentsFile::open(&path)?;
        let mut slices: HashMap<String, Vec<NamedSlice>> = HashMap::new();
        for slice in named_slices(config) {
            slices.entry(slice.parameter.clone()).or_default().push(slice);
        }
        let dtype = settings.moments.dtype();
        let mut moments = HashMap::new();
        for HeldParameter { id, path: parameter, elements } in owned {
            let own = slices.get(parameter).map_or(&[][..], Vec::as_slice);
            let own = || own.iter().filter(|slice| elements.contains(&slice.offset));
            if !own().any(|slice| file.has(&slice.name)) {
                continue;
            }
            let [first, second] = [FIRST_MOMENT, SECOND_MOMENT].map(|suffix| {
                let mut values = vec![0.0; elements.len()];
                for slice in own() {
                    let out = &mut values[slice.offset - elements.start..][..slice.elements()];
                    file.read(&format!("{}{suffix}", slice.name), &slice.shape, out)?;
                }
                let data = TensorData::new(values, [elements.len()]).convert_dtype(dtype);
                Ok::<_, CheckpointError>(Tensor::<1>::from_data(data, (device, dtype)))
            });
            moments.insert(*id, Moments { first: first?, second: second? });
            read();
        }
        Ok(AdamW::resumed(settings, self.position.step, moments))
    }
}

/// The file of an optimizer's moments, of which some tensors are read.
struct MomentsFile<'a> {
    path: &'a Path,
    file: fs::File,
    metadata: Metadata,
    /// First byte of the tensors.
    start: u64,
}

impl<'a> MomentsFile<'a> {
    fn open(path: &'a Path) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::io(path, "read")(source);
        let mut file = open_regular(path).map_err(io)?;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(io)?;
        let header_bytes = u64::from_le_bytes(length);
        let mut header = Vec::new();
        (&file).take(header_bytes.min(MAX_HEADER_BYTES)).read_to_end(&mut header).map_err(io)?;
        let metadata = serde_json::from_slice(&header)
            .map_err(|error| CheckpointError::damaged(path, error))?;
        Ok(Self { path, file, metadata, start: 8 + header_bytes })
    }

    /// Whether it has the first moment of a tensor.
    fn has(&self, tensor: &str) -> bool {
        self.metadata.info(&format!("{tensor}{FIRST_MOMENT}")).is_some()
    }

    /// Reads a tensor as F32 (which holds BF16 exactly).
    fn read(
        &mut self,
        name: &str,
        shape: &[usize],
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let damaged = |problem: String| CheckpointError::damaged(self.path, problem);
        let info = self.metadata.info(name).ok_or_else(|| damaged(format!("{name} is missing")))?;
        check(name, info.dtype, &info.shape, shape, self.path)?;
        let (first, end) = info.data_offsets;
        let dtype = info.dtype;
        let mut bytes = vec![0; end - first];
        self.file
            .seek(SeekFrom::Start(self.start + first as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(CheckpointError::io(self.path, "read"))?;
        widen(dtype, &bytes, out);
        Ok(())
    }
}

/// The longest header that is read: the format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Refuses a tensor that is not a moment of this shape.
fn check(
    name: &str,
    dtype: Dtype,
    found: &[usize],
    shape: &[usize],
    path: &Path,
) -> Result<(), CheckpointError> {
    if matches!(dtype, Dtype::F32 | Dtype::BF16) && found == shape {
        return Ok(());
    }
    let problem = format!("{name} is {dtype:?} {found:?} instead of F32 or BF16 {shape:?}");
    Err(CheckpointError::damaged(path, problem))
}

/// Values of F32 or BF16 as F32.
fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    if dtype == Dtype::F32 {
        out.iter_mut()
            .zip(bytes.as_chunks().0)
            .for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
    } else {
        let upper_half =
            |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        out.iter_mut()
            .zip(bytes.as_chunks().0)
            .for_each(|(value, bytes)| *value = upper_half(bytes));
    }
}

/// The moments of each parameter as F32 (which holds BF16 exactly), put together from the tensors
/// they are stored as; a parameter without any is left out.
fn assembled(
    model: &DeepSeek,
    file: &SafeTensors,
    suffix: &str,
    path: &Path,
) -> Result<HashMap<String, Vec<f32>>, CheckpointError> {
    let mut parameters: HashMap<String, Vec<f32>> = HashMap::new();
    for slice in named_slices(model.config()) {
        let name = format!("{}{suffix}", slice.name);
        let Ok(view) = file.tensor(&name) else { continue };
        check(&name, view.dtype(), view.shape(), &slice.shape, path)?;
        let count = slice.parameter_shape.iter().product();
        let values = parameters.entry(slice.parameter.clone()).or_insert_with(|| vec![0.0; count]);
        widen(view.dtype(), view.data(), &mut values[slice.offset..]);
    }
    Ok(parameters)
}
