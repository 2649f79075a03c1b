//! The memory that this process has, and the most that it has had.

use crate::process_status::{self, value};

/// Bytes, where the system says so: what of the process was in memory at one time at most, mapped
/// files that were read included.
pub fn peak_bytes() -> Option<u64> {
    bytes_of(&process_status::of("self")?, "VmHWM")
}

/// What there is now, and the most that there was, in words; nothing where the system does not say.
pub fn describe() -> String {
    let mebibytes = |status: &str, what: &str| Some(bytes_of(status, what)? >> 20);
    let text = |status: String| {
        let (now, peak) = (mebibytes(&status, "VmRSS")?, mebibytes(&status, "VmHWM")?);
        Some(format!(" ({now} MiB, at most {peak})"))
    };
    process_status::of("self").and_then(text).unwrap_or_default()
}

/// From what Linux says of a process.
fn bytes_of(status: &str, what: &str) -> Option<u64> {
    let kibibytes: u64 = value(status, what)?.strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_a_line_of_the_status() {
        let status = "Name:\tdeepseek\nVmPeak:\t  900 kB\nVmHWM:\t  123456 kB\nVmRSS:\t  1 kB\n";
        assert_eq!(bytes_of(status, "VmHWM"), Some(123_456 * 1024));
        assert_eq!(bytes_of(status, "VmRSS"), Some(1024));
        assert_eq!(bytes_of("VmRSS:\t 12 kB\n", "VmHWM"), None);
        assert_eq!(bytes_of("VmHWM:\t much\n", "VmHWM"), None);
        if cfg!(target_os = "linux") {
            let before = peak_bytes().unwrap();
            let held = vec![1u8; 64 << 20];
            assert!(peak_bytes().unwrap() >= before.max(held.len() as u64));
        }
    }
}
