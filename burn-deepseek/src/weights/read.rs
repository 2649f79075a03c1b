//! Reads of a checkpoint's tensor: as F32, of what is found in it, and of the scales beside it.
//!
//! A read goes through the tensor once, a piece at a time. Only [`Pieces`] hands over what is no
//! finite number; the others refuse it: no text comes of it.

use half::bf16;
use safetensors::Dtype;

use super::WeightsError;
use super::checkpoint::Checkpoint;
use super::decode::{decode, dequantize, is_nan_code};
use super::stored::{StoredForm, StoredPart, position, scale_name};

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 20;
/// The largest value of an E4M3 code.
const E4M3_MAX: f32 = 448.0;

impl StoredPart {
    /// Fills `out` with the values from element `first` on, whatever they are stored as. (All of
    /// the tensor is read and looked at: what has parts of it is the tensor of all experts.)
    ///
    /// # Errors
    ///
    /// A read that fails, a value or a scale that is not finite.
    pub fn read_range_f32(
        &self,
        checkpoint: &Checkpoint,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), WeightsError> {
        let end = first + out.len();
        self.each_finite(checkpoint, |start, values| {
            let (from, to) = (first.max(start), end.min(start + values.len()));
            if from < to {
                out[from - first..to - first].copy_from_slice(&values[from - start..to - start]);
            }
        })
    }

    /// The codes and scales of an FP8 tensor; none of another.
    pub fn fp8(&self) -> Option<Fp8Part<'_>> {
        match self.form {
            StoredForm::Fp8 { scales } => Some(Fp8Part { part: self, dtype: scales }),
            _ => None,
        }
    }

    /// Its values in order, whatever they are.
    ///
    /// # Errors
    ///
    /// Scales that cannot be read.
    pub fn pieces<'a>(&'a self, checkpoint: &'a Checkpoint) -> Result<Pieces<'a>, WeightsError> {
        let scales = match self.fp8() {
            Some(fp8) => fp8.scales(checkpoint)?,
            None => Vec::new(),
        };
        let (bytes, values) = (Vec::new(), Vec::new());
        Ok(Pieces { part: self, checkpoint, scales, next_row: 0, bytes, values })
    }

    /// Goes through the tensor as it is stored.
    ///
    /// # Errors
    ///
    /// A read that fails, a value or a scale that is not finite.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<(), WeightsError> {
        let sound = match self.fp8() {
            Some(fp8) => {
                // No code times such a scale overflows.
                let scales = fp8.read_scales(checkpoint)?;
                scales.iter().all(|scale| (scale * E4M3_MAX).is_finite())
                    && self.all_bytes(checkpoint, |codes| {
                        !codes.iter().fold(false, |any, &code| any | is_nan_code(code))
                    })?
            }
            None if self.form == StoredForm::Bf16 => self.all_bytes(checkpoint, |bytes| {
                let (values, _) = bytes.as_chunks::<2>();
                let finite = |&value| bf16::from_le_bytes(value).is_finite();
                values.iter().fold(true, |all, value| all & finite(value))
            })?,
            None => false,
        };
        // Again, to say where it is.
        if sound { Ok(()) } else { self.each_finite(checkpoint, |_, _| {}) }
    }

    /// Whether `holds` of all its bytes, read a piece at a time.
    fn all_bytes(
        &self,
        checkpoint: &Checkpoint,
        holds: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, WeightsError> {
        let len_bytes = self.elements() * self.form.size_bytes();
        let mut bytes = vec![0; PIECE_BYTES.min(len_bytes)];
        let mut all = true;
        for first in (0..len_bytes).step_by(PIECE_BYTES) {
            let bytes = &mut bytes[..PIECE_BYTES.min(len_bytes - first)];
            checkpoint.read_into(&self.name, first, bytes)?;
            all &= holds(bytes);
        }
        Ok(all)
    }

    fn each_finite(
        &self,
        checkpoint: &Checkpoint,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<(), WeightsError> {
        if let Some(fp8) = self.fp8() {
            fp8.read_scales(checkpoint)?;
        }
        let mut pieces = self.pieces(checkpoint)?;
        while let Some(Piece { first, bytes, values }) = pieces.next()? {
            if let Some(fp8) = self.fp8() {
                fp8.check_codes(checkpoint, first, bytes)?;
            }
            check_finite(checkpoint, &self.name, &self.shape, first, values)?;
            each(first, values);
        }
        Ok(())
    }
}

/// Some whole rows of a tensor.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    /// The first element, in the order of the tensor.
    pub first: usize,
    /// As they are stored.
    pub bytes: &'a [u8],
    /// As F32.
    pub values: &'a [f32],
}

/// The values of a tensor, read a piece at a time.
pub(super) struct Pieces<'a> {
    part: &'a StoredPart,
    checkpoint: &'a Checkpoint,
    scales: Vec<f32>,
    /// Counted through all matrices.
    next_row: usize,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Pieces<'_> {
    /// The next rows, all of one matrix; none after the last.
    ///
    /// # Errors
    ///
    /// A read that fails.
    pub fn next(&mut self) -> Result<Option<Piece<'_>>, WeightsError> {
        let StoredPart { rows, columns, matrices, form, .. } = *self.part;
        if self.next_row >= matrices * rows || columns == 0 {
            return Ok(None);
        }
        let size = form.size_bytes();
        let (matrix, first_row) = (self.next_row / rows, self.next_row % rows);
        let most = (PIECE_BYTES / size / columns).max(1);
        let (first, count) = (self.next_row * columns, most.min(rows - first_row));
        self.next_row += count;
        self.bytes.resize(count * columns * size, 0);
        self.values.resize(count * columns, 0.0);
        self.checkpoint.read_into(&self.part.name, first * size, &mut self.bytes)?;
        if self.part.fp8().is_some() {
            let [block_rows, block_columns] = self.part.blocks();
            let scales = block_rows * block_columns;
            let scales = &self.scales[matrix * scales..][..scales];
            dequantize(&self.bytes, scales, first_row, columns, &mut self.values);
        } else {
            decode(form.dtype(), &self.bytes, &mut self.values);
        }
        Ok(Some(Piece { first, bytes: &self.bytes, values: &self.values }))
    }
}

/// An FP8 tensor of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fp8Part<'a> {
    part: &'a StoredPart,
    dtype: Dtype,
}

impl Fp8Part<'_> {
    /// The multipliers that dequantize, `[matrices, ceil(rows / 128), ceil(columns / 128)]`.
    ///
    /// # Errors
    ///
    /// A read that fails, a scale that is not finite.
    pub fn read_scales(&self, checkpoint: &Checkpoint) -> Result<Vec<f32>, WeightsError> {
        let scales = self.scales(checkpoint)?;
        let name = scale_name(&self.part.name);
        let shape = checkpoint.get(&name).map(|tensor| tensor.shape.clone()).unwrap_or_default();
        check_finite(checkpoint, &name, &shape, 0, &scales)?;
        Ok(scales)
    }

    /// The scales, whatever they are.
    ///
    /// # Errors
    ///
    /// A read that fails.
    pub fn scales(&self, checkpoint: &Checkpoint) -> Result<Vec<f32>, WeightsError> {
        let count = self.part.scale_count();
        let mut bytes = vec![0; count * self.dtype.bitsize() / 8];
        checkpoint.read_into(&scale_name(&self.part.name), 0, &mut bytes)?;
        let mut scales = vec![0.0; count];
        decode(self.dtype, &bytes, &mut scales);
        Ok(scales)
    }

    fn check_codes(
        &self,
        checkpoint: &Checkpoint,
        first: usize,
        codes: &[u8],
    ) -> Result<(), WeightsError> {
        // Without an early end, which would keep it from being vectorized.
        if !codes.iter().fold(false, |any, &code| any | is_nan_code(code)) {
            return Ok(());
        }
        let index = codes.iter().position(|&code| is_nan_code(code)).unwrap_or_default();
        let found = format!("the NaN code {:#04x}", codes[index]);
        Err(not_finite(checkpoint, &self.part.name, &self.part.shape, first + index, found))
    }
}

/// Refuses the first value that is not finite; `first` is the place of the first value.
fn check_finite(
    checkpoint: &Checkpoint,
    name: &str,
    shape: &[usize],
    first: usize,
    values: &[f32],
) -> Result<(), WeightsError> {
    if values.iter().fold(true, |all, value| all & value.is_finite()) {
        return Ok(());
    }
    let index = values.iter().position(|value| !value.is_finite()).unwrap_or_default();
    Err(not_finite(checkpoint, name, shape, first + index, values[index].to_string()))
}

fn not_finite(
    checkpoint: &Checkpoint,
    name: &str,
    shape: &[usize],
    element: usize,
    found: String,
) -> WeightsError {
    WeightsError::NotFinite {
        name: name.to_string(),
        file: checkpoint.file_of(name),
        found,
        position: position(shape, element),
    }
}
