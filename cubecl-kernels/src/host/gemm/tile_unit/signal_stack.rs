//! A larger alternate signal stack for threads that use tiles.
//!
//! Rust gives each thread an alternate stack of the least size, on which a stack overflow is told.
//! Once a thread has touched a tile, the state that the kernel saves there takes nearly all of it,
//! and the thread dies without a word.

use std::cell::OnceCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// Bytes of a stack: the state of the tiles is 11 KiB, what tells of an overflow needs a few.
const BYTES: usize = 64 << 10;

/// `stack_t`.
#[repr(C)]
struct StackDescription {
    start: *mut c_void,
    flags: c_int,
    bytes: usize,
}

/// `SS_DISABLE`: no alternate stack.
const DISABLED: c_int = 2;

unsafe extern "C" {
    fn sigaltstack(new: *const StackDescription, old: *mut StackDescription) -> c_int;
}

/// Memory that is this thread's alternate stack.
struct Stack(Box<[MaybeUninit<u8>]>);

thread_local! {
    static STACK: OnceCell<Option<Stack>> = const { OnceCell::new() };
}

/// Gives this thread a larger stack where its own is small; done once a thread.
///
/// A thread that gets none goes on with what it has: only the words about an overflow are at stake.
pub(super) fn enlarge() {
    STACK.with(|stack| {
        stack.get_or_init(|| (current().bytes < BYTES).then(Stack::install).flatten());
    });
}

/// The stack in use, of no bytes where there is none.
fn current() -> StackDescription {
    let mut old = StackDescription { start: ptr::null_mut(), flags: 0, bytes: 0 };
    // SAFETY: only the description is written.
    if unsafe { sigaltstack(ptr::null(), &mut old) } != 0 || old.flags & DISABLED != 0 {
        old.bytes = 0;
    }
    old
}

impl Stack {
    fn install() -> Option<Self> {
        let mut stack = Self(Box::new_uninit_slice(BYTES));
        let start = stack.0.as_mut_ptr().cast();
        let new = StackDescription { start, flags: 0, bytes: BYTES };
        // SAFETY: the memory is this thread's until `Drop` has taken it out of use.
        (unsafe { sigaltstack(&new, ptr::null_mut()) } == 0).then_some(stack)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // Rust's own end of a thread takes whatever stack there is out of use, before this.
        if current().start != self.0.as_mut_ptr().cast() {
            return;
        }
        let none = StackDescription { start: ptr::null_mut(), flags: DISABLED, bytes: 0 };
        // SAFETY: no handler runs on it: the thread is here.
        unsafe { sigaltstack(&none, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const CHILD: &str = "CUBECL_KERNELS_TEST_OVERFLOW";
    const NAME: &str = "host::gemm::tile_unit::signal_stack::tests::an_overflow_still_says_so";

    #[inline(never)]
    fn overflow(depth: u64) -> u64 {
        let frame = std::hint::black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { overflow(depth + 1) + frame[(depth % 64) as usize] }
    }

    /// In a process of its own, which it ends: an overflow on the larger stack.
    #[test]
    fn an_overflow_still_says_so() {
        if std::env::var_os(CHILD).is_some() {
            let thread = std::thread::Builder::new().name("deep".into()).spawn(|| {
                enlarge();
                assert!(current().bytes >= BYTES);
                overflow(0)
            });
            thread.unwrap().join().unwrap();
            unreachable!("the thread has overflowed");
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(said.contains("'deep'") && said.contains("has overflowed its stack"), "{said}");
    }

    #[test]
    fn threads_come_and_go() {
        for _ in 0..200 {
            let sizes = std::thread::spawn(|| {
                enlarge();
                enlarge();
                (current().bytes, STACK.with(|stack| stack.get().is_some()))
            });
            let (bytes, asked) = sizes.join().unwrap();
            assert!(bytes >= BYTES && asked);
        }
    }
}
