//! What is timed beside ours: Burn's own products, and copies of as many bytes.

use burn::tensor::{DType, Device, FloatDType, Tensor};
use rayon::prelude::*;

use crate::device::SelectedDevice;

/// Bytes that one task of a copy on the host moves: enough to be worth a task.
const COPY_CHUNK: usize = 1 << 17;

/// Something to be timed; what it makes is dropped.
pub(super) type Work = Box<dyn Fn()>;

/// What the FP8 operations compete with on a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Baseline {
    /// Type of Burn's own products.
    pub product: DType,
    /// Whether the device's memory is the host's, where a copy is a copy of slices.
    pub host: bool,
}

impl Baseline {
    pub fn of(selected: &SelectedDevice) -> Self {
        let bf16 = !selected.on_cpu && selected.device.supports_dtype(FloatDType::BF16);
        Self { product: if bf16 { DType::BF16 } else { DType::F32 }, host: selected.name == "flex" }
    }

    pub fn product_name(self) -> &'static str {
        if self.product == DType::BF16 { "Burn's BF16 matmul" } else { "Burn's F32 matmul" }
    }

    pub fn copy_name(self) -> &'static str {
        if self.host {
            "a copy of as many bytes on all cores"
        } else {
            "an elementwise negation of as many bytes"
        }
    }

    /// Moves so many bytes, half of them read and half written.
    pub fn copy(self, bytes: usize, device: &Device) -> Work {
        let half = bytes / 2;
        if self.host {
            let source = vec![1u8; half];
            // Interior mutability by a lock that nobody else takes: the work is called through a
            // shared reference.
            let target = std::sync::Mutex::new(vec![0u8; half]);
            return Box::new(move || {
                let mut target = target.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let chunks = target.par_chunks_mut(COPY_CHUNK).zip(source.par_chunks(COPY_CHUNK));
                chunks.for_each(|(target, source)| target.copy_from_slice(source));
                std::hint::black_box(&mut *target);
            });
        }
        let x = Tensor::<1>::ones([half / size_of::<f32>()], device);
        Box::new(move || drop(std::hint::black_box(-x.clone())))
    }
}
