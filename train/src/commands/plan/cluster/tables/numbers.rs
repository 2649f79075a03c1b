//! How numbers are written.

use crate::digits::grouped;

/// A unit of bytes: its name and size.
#[derive(Clone, Copy)]
pub(super) struct Unit(pub &'static str, pub f64);

/// The largest of `GiB`, `MiB`, `KiB` that `most` bytes reach.
pub(super) fn binary(most: f64) -> Unit {
    largest(
        most,
        [Unit("GiB", (1u64 << 30) as f64), Unit("MiB", (1u64 << 20) as f64), Unit("KiB", 1024.0)],
    )
}

/// The largest of `GB`, `MB`, `KB` that `most` bytes reach.
pub(super) fn decimal(most: f64) -> Unit {
    largest(most, [Unit("GB", 1e9), Unit("MB", 1e6), Unit("KB", 1e3)])
}

fn largest(most: f64, units: [Unit; 3]) -> Unit {
    let [first, second, third] = units;
    if most >= first.1 {
        first
    } else if most >= second.1 {
        second
    } else {
        third
    }
}

/// `1 node`, `2 nodes`, `2 micro-batches`.
pub(super) fn counted(count: usize, what: &str) -> String {
    let plural = if what.ends_with("ch") { "es" } else { "s" };
    format!("{count} {what}{}", if count == 1 { "" } else { plural })
}

/// A number of at least 100 as a whole one with its thousands set apart, a smaller one with three
/// decimals, a very small one by its power of ten.
pub(super) fn number(value: f64) -> String {
    if value > 0.0 && value < 0.1 {
        return format!("{value:.3e}");
    }
    if value < 100.0 {
        return format!("{value:.3}");
    }
    grouped(format_args!("{value:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(["1.526e-3", "0.000"], [0.001_526, 0.0].map(number));
        assert_eq!(
            ["0.500", "99.999", "100", "2,659,732"],
            [0.5, 99.999, 100.4, 2_659_731.6].map(number)
        );
        assert_eq!(["1 node", "256 nodes"], [1, 256].map(|count| counted(count, "node")));
        assert_eq!(counted(120, "micro-batch"), "120 micro-batches");
        let names = [1.5e9, 2e6, 10.0].map(|most| (decimal(most).0, binary(most).0));
        assert_eq!(names, [("GB", "GiB"), ("MB", "MiB"), ("KB", "KiB")]);
    }
}
