//! The most memory that this process has had.

/// Bytes, where the system says so: what of the process was in memory at one time at most, mapped
/// files that were read included.
pub fn peak_bytes() -> Option<u64> {
    peak_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// From what Linux says of a process.
fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_a_line_of_the_status() {
        let status = "Name:\tdeepseek\nVmPeak:\t  900 kB\nVmHWM:\t  123456 kB\nVmRSS:\t  1 kB\n";
        assert_eq!(peak_of(status), Some(123_456 * 1024));
        assert_eq!(peak_of("VmRSS:\t 12 kB\n"), None);
        assert_eq!(peak_of("VmHWM:\t much\n"), None);
        if cfg!(target_os = "linux") {
            let before = peak_bytes().unwrap();
            let held = vec![1u8; 64 << 20];
            assert!(peak_bytes().unwrap() >= before.max(held.len() as u64));
        }
    }
}
