//! The program's allocator, which counts what is alive and ends the process where an input takes
//! more than it may.

use std::alloc::{GlobalAlloc, Layout};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use mimalloc::MiMalloc;

/// The words of a process that ended so.
pub const TOO_MUCH: &str = "memory above the limit";

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// mimalloc, counted.
pub struct Counted;

/// From here on this much more may be alive, in bytes.
pub fn allow(bytes: usize) {
    let alive = ALIVE.load(Ordering::Relaxed);
    PEAK.store(alive, Ordering::Relaxed);
    LIMIT.store(alive.saturating_add(bytes), Ordering::Relaxed);
}

/// The most bytes that were alive since [`allow`].
pub fn peak() -> usize {
    PEAK.load(Ordering::Relaxed)
}

fn add(bytes: usize) {
    let alive = ALIVE.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    if alive > PEAK.load(Ordering::Relaxed) {
        PEAK.store(alive, Ordering::Relaxed);
        if alive > LIMIT.load(Ordering::Relaxed) {
            // What is written now must not allocate; nobody is left to tell where it fails.
            LIMIT.store(usize::MAX, Ordering::Relaxed);
            let _ = std::io::stderr().write_all(TOO_MUCH.as_bytes());
            std::process::abort();
        }
    }
}

// SAFETY: every call goes to mimalloc as it is; the counters allocate nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        ALIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        add(new_size);
        ALIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.realloc(ptr, layout, new_size) }
    }
}
