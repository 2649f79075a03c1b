//! Memory for packed operands, kept by each thread from one product to the next.

use std::cell::Cell;
use std::mem::MaybeUninit;

/// A cache line: packed operands are read in whole ones.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [MaybeUninit<u32>; 16]);

const LINE: usize = 16;

/// The most lines that a thread keeps for its next product (16 MiB).
const KEPT_LINES: usize = 1 << 18;

/// Memory that is written before it is read, and never zeroed.
#[derive(Default)]
pub(super) struct Scratch(Vec<Line>);

impl Scratch {
    /// Parts of at least so many words, each at the start of a line. What was there is lost.
    pub(super) fn reserve<const N: usize>(&mut self, words: [usize; N]) -> [*mut u32; N] {
        let lines = words.map(|words| words.div_ceil(LINE));
        // Nothing is ever counted as in the vector, so nothing is copied when it grows.
        self.0.reserve(lines.iter().sum());
        let mut at = 0;
        lines.map(|lines| {
            // SAFETY: the sum of all parts has just been reserved.
            let part = unsafe { self.0.as_mut_ptr().add(at) };
            at += lines;
            part.cast()
        })
    }
}

thread_local! {
    static TASK: Cell<Scratch> = Cell::default();
    static SHARED: Cell<Scratch> = Cell::default();
}

/// Takes this thread's memory for a task. (A closure that is handed the memory would be compiled
/// without the task's instruction set.)
pub(super) fn take_task() -> Scratch {
    TASK.take()
}

/// Keeps it for the next task.
pub(super) fn keep_task(memory: Scratch) {
    TASK.set(memory);
}

/// Takes this thread's memory for what tasks share; a product inside another finds none and makes
/// its own.
pub(super) fn take_shared() -> Scratch {
    SHARED.take()
}

/// Keeps it for the next product, unless it is large.
pub(super) fn keep_shared(memory: Scratch) {
    if memory.0.capacity() <= KEPT_LINES {
        SHARED.set(memory);
    }
}
