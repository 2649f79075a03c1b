//! Numbers in few columns.

/// `812`, `12.3K`, `4.56M`, `1.20B`: three digits that count.
pub(super) fn count(number: u64) -> String {
    let number = number as f64;
    let (value, unit) = match number {
        n if n < 1e3 => return format!("{n}"),
        n if n < 999_500.0 => (n / 1e3, "K"),
        n if n < 999_500_000.0 => (n / 1e6, "M"),
        n if n < 999.5e9 => (n / 1e9, "B"),
        n => (n / 1e12, "T"),
    };
    three_digits(value) + unit
}

/// Bytes in their largest unit.
pub(super) fn bytes(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{value} B") } else { format!("{} {unit}", three_digits(value)) }
}

/// A number of any size in at most nine columns.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".into(),
        0.0 => "0".into(),
        size if (1e-3..10.0).contains(&size) => format!("{value:.4}"),
        size if (10.0..1e5).contains(&size) => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

/// A share as a percentage: `0`, `0.004%`, `12.3%`.
pub(super) fn percent(share: f64) -> String {
    match 100.0 * share {
        value if !value.is_finite() => "-".into(),
        0.0 => "0".into(),
        value if value.abs() < 1e-3 => format!("{value:.0e}%"),
        value if value.abs() < 0.1 => format!("{value:.3}%"),
        value => format!("{value:.1}%"),
    }
}

/// `4.2 us`, `31 ms`, `1.25 s`, `3m20s`: the time of a step.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "-".into(),
        0.0 => "0".into(),
        s if s < 1e-3 => format!("{:.0} us", 1e6 * s),
        s if s < 1.0 => format!("{} ms", three_digits(1e3 * s)),
        s if s < 100.0 => format!("{} s", three_digits(s)),
        s => crate::metrics::duration(s),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_few_columns() {
        let counts = [0, 999, 1000, 12_345, 999_499, 999_600, 4_560_000, 1_200_000_000];
        assert_eq!(
            counts.map(count),
            ["0", "999", "1.00K", "12.3K", "999K", "1.00M", "4.56M", "1.20B"]
        );
        assert_eq!(count(14_800_000_000_000), "14.8T");
        assert_eq!(
            [0, 1000, 1 << 20, 5 << 30].map(bytes),
            ["0 B", "0.98 KiB", "1.00 MiB", "5.00 GiB"]
        );
        assert_eq!(
            [0.0, 1.5, 12.345, 3e-4, -2.5e7, f64::NAN].map(short),
            ["0", "1.5000", "12.35", "3.00e-4", "-2.50e7", "-"]
        );
        assert_eq!(
            [0.0, 0.123, 4e-5, 2e-7, 1.0].map(percent),
            ["0", "12.3%", "0.004%", "2e-5%", "100.0%"]
        );
        assert_eq!(
            [0.0, 4e-6, 0.031, 1.25, 200.0].map(seconds),
            ["0", "4 us", "31.0 ms", "1.25 s", "3m20s"]
        );
    }
}
