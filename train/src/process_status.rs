//! What Linux says of a process.

/// Lines of the form `Name:   value` about a process (`self`, or its number); none where the system
/// has no such file.
pub fn of(process: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{process}/status")).ok()
}

/// The value of a line, without the spaces around it.
pub fn value<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let after = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    status.lines().find_map(after).map(str::trim)
}
