//! Where results are written: FP32, FP32 added to, or BF16.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use half::bf16;

/// The memory of a call's results, which its tasks write in parts.
pub(super) struct Output<'a> {
    pub(super) place: Place,
    pub(super) len: usize,
    pub(super) row_stride: usize,
    /// What products are multiplied by: of numbers in vectors alone, else one.
    pub(super) factor: f32,
    owner: PhantomData<&'a mut [f32]>,
}

/// Its form.
#[derive(Clone, Copy)]
pub(super) enum Place {
    F32 { start: *mut f32, add: bool },
    Bf16 { start: *mut bf16 },
}

// SAFETY: the pointer is only used by tasks, which write blocks that do not overlap (`plan` covers
// each element once).
unsafe impl Send for Output<'_> {}
// SAFETY: as for `Send`: tasks that share it write blocks that do not overlap.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Written in FP32, rows `row_stride` elements apart.
    pub(super) fn new(out: &'a mut [MaybeUninit<f32>], row_stride: usize) -> Self {
        Self {
            place: Place::F32 { start: out.as_mut_ptr().cast(), add: false },
            len: out.len(),
            row_stride,
            factor: 1.0,
            owner: PhantomData,
        }
    }

    /// Added to, in FP32.
    pub(super) fn accumulate(out: &'a mut [f32], row_stride: usize) -> Self {
        Self {
            place: Place::F32 { start: out.as_mut_ptr(), add: true },
            len: out.len(),
            row_stride,
            factor: 1.0,
            owner: PhantomData,
        }
    }

    /// Products times `factor`.
    pub(super) fn times(self, factor: f32) -> Self {
        Self { factor, ..self }
    }

    /// Written in BF16.
    pub(super) fn bf16(out: &'a mut [MaybeUninit<bf16>], row_stride: usize) -> Self {
        Self {
            place: Place::Bf16 { start: out.as_mut_ptr().cast() },
            len: out.len(),
            row_stride,
            factor: 1.0,
            owner: PhantomData,
        }
    }
}

/// A new FP32 result of `len` elements, which `fill` writes.
///
/// # Safety
/// `fill` writes every element.
pub(super) unsafe fn build_f32(
    len: usize,
    row_stride: usize,
    fill: impl FnOnce(&Output<'_>),
) -> Vec<f32> {
    // SAFETY: the caller vouches that `fill` writes every element.
    unsafe { crate::host::output::build(len, |out| fill(&Output::new(out, row_stride))) }
}

/// A new BF16 result of `len` elements, which `fill` writes.
///
/// # Safety
/// `fill` writes every element.
pub(super) unsafe fn build_bf16(
    len: usize,
    row_stride: usize,
    fill: impl FnOnce(&Output<'_>),
) -> Vec<bf16> {
    let mut out = Vec::with_capacity(len);
    fill(&Output::bf16(&mut out.spare_capacity_mut()[..len], row_stride));
    // SAFETY: the capacity is at least `len`, and the caller vouches that all of it is written.
    unsafe { out.set_len(len) };
    out
}
