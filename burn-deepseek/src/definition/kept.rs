//! What backends have made of a value, kept with it.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Things that backends have made of a value, such as its tables on a device, for all who share it:
/// each is made once. They live as long as the value, and make no difference between values.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<Arc<dyn Any + Send + Sync>>>>);

impl Kept {
    /// The thing that `is_it` says is the one, made by `make` where there is none yet.
    ///
    /// Two threads at once may both make it; the first one's is kept and given to both.
    pub fn get_or_make<T: Send + Sync + 'static>(
        &self,
        is_it: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |things: &[Arc<dyn Any + Send + Sync>]| {
            things.iter().cloned().find_map(|x| x.downcast::<T>().ok().filter(|x| is_it(x)))
        };
        let found = find(&lock());
        if let Some(found) = found {
            return found;
        }
        // Not under the lock: making may wait for a device.
        let made = Arc::new(make());
        let mut things = lock();
        find(&things).unwrap_or_else(|| {
            things.push(made.clone());
            made
        })
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let things = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "{} kept", things.len())
    }
}

impl PartialEq for Kept {
    /// Always: what was made of a value is no part of it.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kept {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_made_once_for_all_who_share_it() {
        let kept = Kept::default();
        let shared = kept.clone();
        let first = kept.get_or_make(|x: &u32| *x > 2, || 3u32);
        let again = shared.get_or_make(|x: &u32| *x > 2, || panic!("made again"));
        assert!(Arc::ptr_eq(&first, &again));
        // Another of the same type, and one of another type.
        assert_eq!(*shared.get_or_make(|x: &u32| *x < 2, || 1u32), 1);
        assert_eq!(*shared.get_or_make(|_: &String| true, || "a".to_owned()), "a");
        assert_eq!(format!("{kept:?}"), "3 kept");
        assert_eq!(kept, Kept::default());
    }
}
