//! Asking for memory before it is needed.

/// Bytes of a line of the caches.
pub(crate) const LINE_BYTES: usize = 64;

/// Asks for the lines of some bytes, for the first cache. No address is wrong.
#[inline(always)]
pub(crate) fn prefetch(first: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(LINE_BYTES) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the instruction is part of x86-64, and has no effect where nothing is.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (first, line);
    }
}

/// Asks for a line, for the second cache. No address is wrong.
#[inline(always)]
pub(crate) fn prefetch_later(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the instruction is part of x86-64, and has no effect where nothing is.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
