//! The plan as text.

mod account;
mod memory;
mod numbers;
mod traffic;

use std::fmt::Write;

use super::Planned;
use crate::fold::fold;
use crate::plan::Workload;
use crate::schedule::rounded_count;

/// A line of a table, at the end of a string.
macro_rules! line {
    ($text:expr) => { $text.push('\n') };
    ($text:expr, $($format:tt)+) => {{
        // Writing to a string does not fail.
        let _ = writeln!($text, $($format)+);
    }};
}
use line;

/// Everything, in the order in which a question leads to the next: does it fit, what crosses the
/// links, how long does it take, what does it cost; in so many columns.
pub(super) fn text(planned: &Planned, width: usize) -> String {
    let mut text = heading(planned);
    memory::write(&mut text, planned, width);
    traffic::write(&mut text, planned, width);
    account::write(&mut text, planned, width);
    fold(&text, width)
}

fn heading(planned: &Planned) -> String {
    let mut text = String::new();
    let Planned { model_name, model, cluster_name, cluster, plan } = planned;
    let (counts, workload) = (model.parameter_counts(), &plan.workload);
    let Workload {
        axes, schedule, seq_len, micro_batch, global_batch, precision, recompute, ..
    } = workload;
    line!(
        text,
        "{model_name}: {} parameters, {} active a token; MTP modules {}",
        rounded_count(counts.total),
        rounded_count(counts.active),
        rounded_count(counts.mtp)
    );
    line!(
        text,
        "{cluster_name}: {} of {} x {}; {} GB/s inside a node{}",
        numbers::counted(cluster.node.count, "node"),
        cluster.node.gpus,
        cluster.gpu.name,
        cluster.link.fast.gb_per_s,
        cluster
            .link
            .slow
            .as_ref()
            .map_or_else(String::new, |slow| format!(", {} GB/s between nodes", slow.gb_per_s))
    );
    if let Some(basis) = &cluster.rates.basis {
        line!(text, "what is attained: {basis}");
    }
    line!(
        text,
        "pipeline {} x expert {} x data {}, {schedule}, {}, {} recomputation",
        axes.pipeline,
        axes.expert,
        axes.data,
        precision.name(),
        if *recompute { "with" } else { "without" }
    );
    line!(
        text,
        "a step: {} tokens, {global_batch} sequences of {seq_len}; {} of {} in each pipeline",
        rounded_count(workload.step_tokens() as u64),
        numbers::counted(workload.chunks(), "micro-batch"),
        numbers::counted(*micro_batch, "sequence")
    );
    text
}
