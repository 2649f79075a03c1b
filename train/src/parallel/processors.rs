//! How many threads a process computes on that shares a machine with others of its run.

use super::launch::Launched;
use crate::process_status::{self, value};

/// How many threads this process, one of several that were started together, should compute on:
/// those of its machine share the processors that they may all use. None where it has them for
/// itself, because the launcher has bound each process to its own.
pub fn share_of_processors(launched: Launched) -> Option<usize> {
    let own = std::thread::available_parallelism().ok()?.get();
    let is_bound = matches!(
        (allowed("self"), parent().and_then(|parent| allowed(&parent))),
        (Some(own), Some(launcher)) if own < launcher
    );
    share(own, launched.on_this_machine, is_bound)
}

fn share(own: usize, processes: usize, is_bound: bool) -> Option<usize> {
    (processes > 1 && !is_bound).then(|| (own / processes).max(1))
}

/// How many processors a process may run on, as Linux tells; none elsewhere.
fn allowed(process: &str) -> Option<usize> {
    count(value(&process_status::of(process)?, "Cpus_allowed_list")?)
}

/// The process that has started this one.
fn parent() -> Option<String> {
    value(&process_status::of("self")?, "PPid").map(str::to_owned)
}

/// How many numbers are in a list like `0-3,8`.
fn count(list: &str) -> Option<usize> {
    let of_range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let [first, last] = [first, last].map(|number| number.trim().parse::<usize>());
        last.ok()?.checked_sub(first.ok()?).map(|more| more + 1)
    };
    list.split(',').map(of_range).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_a_machine_share_its_processors() {
        assert_eq!(share(8, 4, false), Some(2));
        assert_eq!(share(2, 8, false), Some(1));
        assert_eq!(share(2, 8, true), None);
        assert_eq!(share(8, 1, false), None, "alone in its machine");
    }

    #[test]
    fn lists_of_processors_are_counted() {
        assert_eq!(count("\t0-1\n"), Some(2));
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-3,8,12-13"), Some(7));
        assert_eq!(count("3-0"), None);
        assert_eq!(count(""), None);
        assert_eq!(count("all"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_both() {
        assert!(allowed("self").unwrap() >= 1);
        assert!(allowed(&parent().unwrap()).unwrap() >= 1);
    }
}
