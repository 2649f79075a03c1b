//! Memory for numbers on their way, kept by each thread from one task to the next.

use std::cell::Cell;

thread_local! {
    static KEPT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// A thread's memory: a task that makes its own would zero as much as it computes.
pub struct Buffer(Vec<f32>);

impl Buffer {
    /// Takes the thread's; one beside it makes its own.
    pub(in crate::host) fn take() -> Self {
        Self(KEPT.take())
    }

    /// Room for `len` numbers, which holds anything.
    pub(in crate::host) fn room(&mut self, len: usize) -> &mut [f32] {
        if self.0.len() < len {
            self.0.resize(len, 0.0);
        }
        &mut self.0[..len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // A thread that ends keeps nothing.
        let _ = KEPT.try_with(|kept| kept.set(std::mem::take(&mut self.0)));
    }
}
