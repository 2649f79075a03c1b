//! Rows to experts on other ranks and back: each step of an exchange in turn with a plain copy of
//! as many bytes.

mod operations;
mod routes;
mod routing;

use serde_json::json;

use self::operations::{Step, Steps};
use self::routes::Layer;
use self::routing::Routing;
use super::baseline::Baseline;
use super::{KERNEL_REPS, Repetitions, Turns};
use crate::cli::{BenchOperationArgs, BenchScale};
use crate::exit::Outcome;
use crate::failure::{Context, Result};
use crate::fold::{fold, width};
use crate::stdout::write_stdout;

/// Seed of all inputs.
const SEED: u64 = 5;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    tokens: usize,
    width: usize,
}

impl Sizes {
    /// Rows of DeepSeek-V3's width on a GPU, of a quarter of it on a CPU.
    fn of(scale: BenchScale) -> Self {
        match scale {
            BenchScale::Gpu => Self { tokens: 4096, width: 7168 },
            BenchScale::Cpu => Self { tokens: 512, width: 1792 },
        }
    }
}

/// One step of an exchange in one format.
#[derive(Debug)]
struct Row {
    step: Step,
    us: f64,
    copy_us: f64,
    /// Read and written.
    bytes: usize,
}

impl Row {
    fn gb_per_s(&self) -> f64 {
        self.bytes as f64 / self.us / 1e3
    }

    /// What a copy of as many bytes reaches.
    fn copy_gb_per_s(&self) -> f64 {
        self.bytes as f64 / self.copy_us / 1e3
    }

    fn text(&self) -> String {
        let (name, megabytes, ratio) =
            (self.step.name(), self.bytes as f64 / 1e6, self.copy_us / self.us);
        format!(
            "{name:<16} {megabytes:>8.1} {:>10.1} {:>8.1} {:>12.1} {ratio:>8.2}x",
            self.us,
            self.gb_per_s(),
            self.copy_gb_per_s()
        )
    }

    fn results(&self) -> serde_json::Value {
        json!({
            "name": self.step.name(), "us": self.us, "bytes": self.bytes,
            "gb_per_s": self.gb_per_s(), "copy_us": self.copy_us,
            "copy_gb_per_s": self.copy_gb_per_s(), "of_copy": self.copy_us / self.us,
        })
    }
}

/// Above the columns of [`Row::text`].
const HEADER: &str = "step                   MB         us     GB/s    copy, GB/s  of copy";

/// Above the columns of the routes.
const ROUTES_HEADER: &str =
    "route                             us   in nodes, MB  between nodes, MB  of direct";

/// Times the steps of one rank's exchange, printing each row as it is done.
pub(super) fn run(args: &BenchOperationArgs) -> Result<Outcome> {
    let selected = &args.timing.device.open()?;
    let reps = Repetitions::new(&args.timing, KERNEL_REPS);
    let device = &selected.device;
    let scale = super::shapes(args, selected)?;
    let sizes = Sizes::of(scale);
    let routing = Routing::random(sizes.tokens, SEED);
    let baseline = Baseline::of(selected);
    let setting = format!(
        "{} tokens of {} to {} of {} experts on {} ranks, all of them this device, median of {} \
         turns after {}, on {}; beside {}",
        sizes.tokens,
        sizes.width,
        routing::TOP_K,
        routing::EXPERTS,
        routing::RANKS,
        reps.timed,
        reps.warmup,
        selected.name,
        baseline.copy_name()
    );
    write_stdout(&fold(&format!("bench dispatch: {setting}\n{HEADER}\n"), width()))?;
    device.seed(SEED);
    let steps = Steps::new(sizes, &routing, device);
    let turns = Turns { device, reps };
    let mut rows = Vec::new();
    for step in Step::all()
        .filter(|step| args.only.as_deref().is_none_or(|only| step.name().contains(only)))
    {
        let (work, bytes) = steps.work(step);
        let copy = baseline.copy(bytes, device);
        let (us, copy_us) =
            turns.medians(&*work, &*copy).context("the device cannot finish its work")?;
        let row = Row { step, us, copy_us, bytes };
        write_stdout(&format!("{}\n", row.text()))?;
        rows.push(row);
    }
    let routes = if args.only.is_none() { routes(sizes, turns)? } else { Vec::new() };
    if rows.is_empty() {
        return Err(super::no_row(args, "pack fp8").into());
    }
    Ok(Outcome::done(json!({
        "command": "bench", "bench": "dispatch",
        "setting": setting, "device": selected.name, "scale": scale.name(),
        "tokens": sizes.tokens, "width": sizes.width, "baseline": baseline.copy_name(),
        "rows": rows.iter().map(Row::results).collect::<Vec<_>>(), "routes": routes,
    })))
}

/// Times a layer's whole exchange by both routes in turn, and counts the bytes that cross links.
fn routes(sizes: Sizes, turns: Turns<'_>) -> Result<Vec<serde_json::Value>> {
    let layer = Layer::new(sizes, SEED, turns.device);
    let bytes = layer.exchange(true);
    let exchange = |two_hops: bool| {
        std::hint::black_box(layer.exchange(two_hops));
    };
    let (two_hops_us, direct_us) = turns
        .medians(&|| exchange(true), &|| exchange(false))
        .context("the device cannot finish its work")?;
    write_stdout(&format!(
        "\na layer forward: FP8 there, BF16 back, {} ranks on threads, {} a node\n{ROUTES_HEADER}\n",
        routing::RANKS,
        routing::RANKS_A_NODE
    ))?;
    let mut results = Vec::new();
    for (name, us, links) in
        [("direct", direct_us, bytes.direct), ("two hops", two_hops_us, bytes.sent)]
    {
        let (fast, slow) = (links.fast_bytes as f64 / 1e6, links.slow_bytes as f64 / 1e6);
        let ratio = links.slow_bytes as f64 / bytes.direct.slow_bytes as f64;
        write_stdout(&format!("{name:<16} {us:>19.1} {fast:>14.1} {slow:>17.1} {ratio:>10.2}x\n"))?;
        results.push(json!({"name": name, "us": us, "links": links, "slow_of_direct": ratio}));
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_deepseek::ops::wire::WireFormat;

    #[test]
    fn rates_are_of_the_median() {
        let row = Row { step: Step::Pack(WireFormat::Fp8), us: 2.0, copy_us: 1.0, bytes: 4000 };
        let text = row.text();
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            ["pack", "fp8", "0.0", "2.0", "2.0", "4.0", "0.50x"]
        );
        assert_eq!(text.len(), HEADER.len());
        assert_eq!(row.results()["of_copy"], 0.5);
    }
}
