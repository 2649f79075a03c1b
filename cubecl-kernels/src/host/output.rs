//! Outputs that are written once and never zeroed first, also from several tasks.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::parallel::{chunk, for_each};
use super::simd::prefetch;

/// Builds a vector of `len` elements that `fill` writes, without zeroing it first.
///
/// # Safety
/// `fill` must write every element.
pub(crate) unsafe fn build<T>(len: usize, fill: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    fill(&mut out.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is at least `len`, and the caller vouches that all of it is written.
    unsafe { out.set_len(len) };
    out
}

/// Two outputs at once, as [`build`].
///
/// # Safety
/// `fill` must write every element of both.
pub(crate) unsafe fn build_two<T, U>(
    lens: [usize; 2],
    fill: impl FnOnce(&mut [MaybeUninit<T>], &mut [MaybeUninit<U>]),
) -> (Vec<T>, Vec<U>) {
    let mut second = Vec::new();
    // SAFETY: both closures hand `fill` the whole of the two outputs, which it writes.
    let first = unsafe {
        build(lens[0], |a| {
            second = build(lens[1], |b| fill(a, b));
        })
    };
    (first, second)
}

/// Calls `task(rows, out[rows])` for runs of `rows_a_task` rows of `out`, which are `row_len` long,
/// on the pool where `work` scalar operations in all are worth it.
pub(crate) fn for_rows<T: Send>(
    out: &mut [MaybeUninit<T>],
    row_len: usize,
    rows_a_task: usize,
    work: usize,
    task: impl Fn(Range<usize>, &mut [MaybeUninit<T>]) + Send + Sync,
) {
    let rows = out.len().checked_div(row_len).unwrap_or(0);
    let out = Parts::new(out);
    for_each(rows.div_ceil(rows_a_task), work, |index| {
        let rows = chunk(index, rows_a_task, rows);
        // SAFETY: a row belongs to one task.
        let part = unsafe { out.part(rows.start * row_len, rows.len() * row_len) };
        task(rows, part);
    });
}

/// Views initialised memory as memory to be written.
pub(crate) fn as_uninit(x: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: the layouts are equal, and code in this crate only ever stores initialised values
    // through such a view.
    unsafe { &mut *(std::ptr::from_mut(x) as *mut [MaybeUninit<f32>]) }
}

/// The bits of numbers, as words.
pub(crate) fn as_words(x: &[f32]) -> &[u32] {
    // SAFETY: size and alignment are equal, and every bit pattern is a u32.
    unsafe { &*(std::ptr::from_ref(x) as *const [u32]) }
}

/// Writes `value` to every element.
pub(crate) fn fill(out: &mut [MaybeUninit<f32>], value: f32) {
    for out in out {
        out.write(value);
    }
}

/// Zeroes `out`, and gives it as initialised.
pub(crate) fn zeroed(out: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    fill(out, 0.0);
    // SAFETY: all of it has just been written.
    unsafe { out.assume_init_mut() }
}

/// An output whose parts are written by different tasks.
pub(crate) struct Parts<'a, T = f32> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer is only used through `part`, whose callers promise that parts do not overlap.
unsafe impl<T: Send> Send for Parts<'_, T> {}
// SAFETY: as for `Send`: threads that share it write parts that do not overlap.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Takes an output apart.
    pub(crate) fn new(out: &'a mut [MaybeUninit<T>]) -> Self {
        Self { start: out.as_mut_ptr().cast(), len: out.len(), owner: PhantomData }
    }

    /// Asks for `len` elements from `start` on, which are written soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, start: usize, len: usize) {
        prefetch(self.start.wrapping_add(start).cast(), len * size_of::<T>());
    }

    /// Where element `start` is; `len` elements from there on lie inside the output.
    pub(crate) fn address(&self, start: usize, len: usize) -> *mut T {
        assert!(
            start <= self.len && len <= self.len - start,
            "invariant: a part lies inside its output"
        );
        self.start.wrapping_add(start)
    }

    /// The `len` elements from `start`.
    ///
    /// # Safety
    /// No other part that is alive may overlap it.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [MaybeUninit<T>] {
        assert!(
            start <= self.len && len <= self.len - start,
            "invariant: a part lies inside its output"
        );
        // SAFETY: inside the output, which is borrowed for 'a; not aliased, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start).cast(), len) }
    }

    /// The `len` elements from `start`, which have all been written before.
    ///
    /// # Safety
    /// They must have been written, and no other part that is alive may overlap them.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn written(&self, start: usize, len: usize) -> &mut [T] {
        assert!(
            start <= self.len && len <= self.len - start,
            "invariant: a part lies inside its output"
        );
        // SAFETY: inside the output, which is borrowed for 'a; not aliased and initialised, as the
        // caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}
