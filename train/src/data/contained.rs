//! Panics inside libraries that read files, as errors: they take for granted that a file which they
//! could read makes sense, and many do not.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread becomes an error, and is told as such.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` of a library gives; where it panics, what it said.
///
/// # Errors
///
/// It panicked.
pub(super) fn contained<T>(library: &str, work: impl FnOnce() -> T) -> Result<T, String> {
    contained_panics_are_told_once();
    let outer = CONTAINED.replace(true);
    // What the library was working on is not used again: what panicked while it was read is
    // dropped, and text that a tokenizer panicked on ends the command.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    outcome.map_err(|panic| format!("the {library} library fails on it: {}", said(&*panic)))
}

fn contained_panics_are_told_once() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !CONTAINED.get() {
                before(panic);
            }
        }));
    });
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it stopped without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_thread_goes_on() {
        let number = std::hint::black_box(3);
        let failed = contained("odd", || assert_eq!(number, 4, "no good")).unwrap_err();
        assert!(failed.starts_with("the odd library fails on it: "), "{failed}");
        assert!(failed.contains("no good"), "{failed}");
        assert!(!CONTAINED.get());
        assert_eq!(contained("odd", || number), Ok(3));
    }
}
