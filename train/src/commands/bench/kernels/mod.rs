//! The FP8 operations over DeepSeek's shapes, each in turn with what it competes with on the same
//! device.

mod kind;
mod operations;
mod table;

use burn::tensor::Device;
use burn_deepseek::Precision;
use burn_deepseek::precision::{Fp8Recipe, Operation, Rule};

use self::operations::Linear;
use self::table::{HEADER, KernelRow};
use super::baseline::Baseline;
use super::{KERNEL_REPS, Repetitions, Turns};
use crate::cli::{BenchOperationArgs, BenchScale};
use crate::commands::products::products_on;
use crate::exit::Outcome;
use crate::failure::{Context, Result};
use crate::fold::{fold, width};
use crate::stdout::write_stdout;

/// Seed of all inputs.
const SEED: u64 = 3;
/// Experts of a grouped linear.
const EXPERTS: usize = 8;

/// A linear's sizes: `y[m, n] = x[m, k] w[n, k]^T`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    m: usize,
    n: usize,
    k: usize,
    /// Whether DeepSeek has it in experts too.
    grouped: bool,
}

/// DeepSeek-V3's linears, `(n, k, grouped)`: q_a with kv_a, q_b, kv_b, o, then an expert's gate
/// with up, and down.
const DEEPSEEK: [(usize, usize, bool); 6] = [
    (2112, 7168, false),
    (24576, 1536, false),
    (32768, 512, false),
    (7168, 16384, false),
    (4096, 7168, true),
    (7168, 2048, true),
];
/// Linears of the model that `bench train` trains, at its 8 x 256 tokens, `(n, k, grouped)`.
const TRAINING: [(usize, usize, bool); 3] =
    [(1024, 256, false), (256, 512, true), (512, 256, true)];

/// All shapes at a scale.
fn shapes(scale: BenchScale) -> Vec<Sizes> {
    let (m, part) = match scale {
        BenchScale::Gpu => (4096, 1),
        BenchScale::Cpu => (512, 4),
    };
    let deepseek = DEEPSEEK.map(|(n, k, grouped)| Sizes { m, n: n / part, k: k / part, grouped });
    let training = TRAINING.map(|(n, k, grouped)| Sizes { m: 2048, n, k, grouped });
    let square = Sizes { m: 1024, n: 1024, k: 1024, grouped: false };
    deepseek.into_iter().chain([square]).chain(training).collect()
}

/// Times casts and products, printing each row as it is done.
pub(super) fn run(args: &BenchOperationArgs) -> Result<Outcome> {
    let selected = &args.timing.device.open()?;
    let reps = Repetitions::new(&args.timing, KERNEL_REPS);
    let device = &selected.device;
    let scale = super::shapes(args, selected)?;
    let baseline = Baseline::of(selected);
    let mut setting = format!(
        "shapes of a {}, median of {} turns after {}, on {}; products beside {}, casts beside {}",
        scale.name(),
        reps.timed,
        reps.warmup,
        selected.name,
        baseline.product_name(),
        baseline.copy_name()
    );
    if let Some(products) = products_on(&selected.name, device) {
        setting += &format!("; products {products}");
    }
    write_stdout(&fold(&format!("bench kernels: {setting}\n{HEADER}\n"), width()))?;
    let mut rows = Vec::new();
    for sizes in shapes(scale) {
        for (experts, wanted) in [(1, true), (EXPERTS, sizes.grouped)] {
            if wanted {
                measure(sizes, experts, args.only.as_deref(), device, baseline, reps, &mut rows)?;
            }
        }
    }
    if rows.is_empty() {
        return Err(super::no_row(args, "fprop 1024x1024x1024").into());
    }
    Ok(Outcome::done(table::results(&setting, &selected.name, scale, baseline, &rows)))
}

/// Adds the rows of one linear.
fn measure(
    sizes: Sizes,
    experts: usize,
    only: Option<&str>,
    device: &Device,
    baseline: Baseline,
    reps: Repetitions,
    rows: &mut Vec<KernelRow>,
) -> Result<()> {
    // Linears of the same input share its casts.
    let known: Vec<String> = rows.iter().map(|row| row.kind.row_name(row.sizes)).collect();
    let wanted = kind::of(experts).iter().filter(|kind| {
        let name = kind.row_name(sizes);
        !known.contains(&name) && only.is_none_or(|only| name.contains(only))
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let Rule::Fp8(rule) = Precision::Fp8(Fp8Recipe::default()).rule(Operation::GateUp) else {
        unreachable!("the table has the linears in FP8")
    };
    device.seed(SEED);
    let linear = Linear::new(sizes, experts, rule, baseline, device);
    let turns = Turns { device, reps };
    for &kind in wanted {
        let competition = linear.competition(kind);
        let calc_diff = linear.difference(kind)?;
        let (us, baseline_us) = turns
            .medians(&*competition.ours, &*competition.theirs)
            .context("the device cannot finish its work")?;
        let row = KernelRow {
            kind,
            sizes,
            us,
            baseline_us,
            flop: competition.flop,
            bytes: competition.bytes,
            calc_diff,
        };
        write_stdout(&format!("{}\n", row.text()))?;
        rows.push(row);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_on_a_cpu_and_all_of_it_on_a_gpu() {
        let (gpu, cpu) = (shapes(BenchScale::Gpu), shapes(BenchScale::Cpu));
        assert_eq!((gpu.len(), cpu.len()), (10, 10));
        assert_eq!(gpu[0], Sizes { m: 4096, n: 2112, k: 7168, grouped: false });
        assert_eq!(cpu[0], Sizes { m: 512, n: 528, k: 1792, grouped: false });
        assert_eq!(gpu[6..], cpu[6..], "the square and the training shapes are the same");
    }
}
