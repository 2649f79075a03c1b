//! The rows of the kernels' bench, for people and for programs.

use serde_json::json;

use super::Sizes;
use super::kind::Kind;
use crate::cli::BenchScale;
use crate::commands::bench::baseline::Baseline;

/// Above the columns of [`KernelRow::text`].
pub(super) const HEADER: &str =
    "kernel          m x n x k              us TFLOP/s   GB/s   diff beside us faster";

/// One operation at one shape.
#[derive(Debug)]
pub(super) struct KernelRow {
    pub kind: Kind,
    pub sizes: Sizes,
    /// Median microseconds.
    pub us: f64,
    /// Median microseconds of what it competes with.
    pub baseline_us: f64,
    pub flop: usize,
    /// Read and written.
    pub bytes: usize,
    pub calc_diff: f64,
}

impl KernelRow {
    fn tflops(&self) -> Option<f64> {
        (self.flop > 0).then(|| self.flop as f64 / self.us / 1e6)
    }

    fn gb_per_s(&self) -> f64 {
        self.bytes as f64 / self.us / 1e3
    }

    fn speedup(&self) -> f64 {
        self.baseline_us / self.us
    }

    /// A line.
    pub fn text(&self) -> String {
        let (name, shape) = (self.kind.name(), self.kind.row_name(self.sizes));
        let shape = shape.rsplit(' ').next().unwrap_or_default();
        let tflops = self.tflops().map_or("-".into(), |tflops| format!("{tflops:.3}"));
        let (us, gb, diff, baseline, speedup) =
            (self.us, self.gb_per_s(), self.calc_diff, self.baseline_us, self.speedup());
        format!(
            "{name:<15} {shape:<15} {us:>9.1} {tflops:>7} {gb:>6.1} {diff:>6.1e} {baseline:>9.1} \
             {speedup:>5.2}x"
        )
    }
}

/// Everything, for programs.
pub(super) fn results(
    setting: &str,
    device: &str,
    scale: BenchScale,
    baseline: Baseline,
    rows: &[KernelRow],
) -> serde_json::Value {
    let object = |row: &KernelRow| {
        let Sizes { m, n, k, .. } = row.sizes;
        json!({
            "name": row.kind.row_name(row.sizes), "kernel": row.kind.name(),
            "m": m, "n": n, "k": k, "us": row.us,
            "tflop_per_s": row.tflops(), "gb_per_s": row.gb_per_s(), "calc_diff": row.calc_diff,
            "baseline": if row.flop > 0 { baseline.product_name() } else { baseline.copy_name() },
            "baseline_us": row.baseline_us, "times_as_fast": row.speedup(),
        })
    };
    json!({
        "command": "bench", "bench": "kernels",
        "setting": setting, "device": device, "scale": scale.name(),
        "rows": rows.iter().map(object).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_median() {
        let sizes = Sizes { m: 10, n: 20, k: 30, grouped: false };
        let row = |kind, flop| KernelRow {
            kind,
            sizes,
            us: 2.0,
            baseline_us: 5.0,
            flop,
            bytes: 4000,
            calc_diff: 6.5e-4,
        };
        let text = row(Kind::Fprop, 6_000_000).text();
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            ["fprop", "10x20x30", "2.0", "3.000", "2.0", "6.5e-4", "5.0", "2.50x"]
        );
        assert!(row(Kind::QuantizeWeight, 0).text().starts_with("quantize weight 20x30 "));
        assert_eq!(text.len(), HEADER.len());
    }
}
