//! The plan as text.

use std::fmt::Write;

use super::Planned;
use crate::plan::{ClusterPlan, RankMemory, Workload};
use crate::schedule::rounded_count;

const GIB: f64 = (1u64 << 30) as f64;
const MEGA: f64 = 1e6;
const GIGA: f64 = 1e9;

/// Everything, in the order in which a question leads to the next: does it fit, what crosses the links, how long does it take, what does it cost.
pub(super) fn text(planned: &Planned) -> String {
    let mut text = heading(planned);
    memory(&mut text, planned);
    traffic(&mut text, planned);
    time(&mut text, planned);
    account(&mut text, planned);
    text
}

macro_rules! line {
    ($text:expr) => { $text.push('\n') };
    ($text:expr, $($format:tt)+) => {{
        // Writing to a string does not fail.
        let _ = writeln!($text, $($format)+);
    }};
}

fn heading(planned: &Planned) -> String {
    let mut text = String::new();
    let Planned { model_name, model, cluster_name, cluster, plan } = planned;
    let (counts, workload) = (model.parameter_counts(), &plan.workload);
    let Workload { axes, schedule, seq_len, micro_batch, global_batch, precision, recompute, .. } = workload;
    line!(
        text,
        "{model_name}: {} parameters, {} active a token; MTP modules {}",
        rounded_count(counts.total),
        rounded_count(counts.active),
        rounded_count(counts.mtp)
    );
    line!(
        text,
        "{cluster_name}: {} nodes of {} x {}; {} GB/s inside a node{}",
        cluster.node.count,
        cluster.node.gpus,
        cluster.gpu.name,
        cluster.link.fast.gb_per_s,
        cluster.link.slow.as_ref().map_or_else(String::new, |slow| format!(", {} GB/s between nodes", slow.gb_per_s))
    );
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
        "a step: {} tokens in {global_batch} sequences of {seq_len}; {} micro-batches of {micro_batch} in each pipeline",
        rounded_count(workload.step_tokens() as u64),
        workload.chunks()
    );
    text
}

fn memory(text: &mut String, planned: &Planned) {
    let plan = &planned.plan;
    let room = planned.cluster.gpu.memory_gib;
    for (title, ranks) in [("as the report keeps things", &plan.report), ("as this program keeps them", &plan.program)] {
        line!(text);
        line!(text, "memory of a GPU in GiB, of {room}, {title}");
        line!(
            text,
            "{:<9} {:>8} {:>8} {:>6} {:>9} {:>7} {:>8} {:>7} {:>11} {:>12} {:>6} {:>7}",
            "rank",
            "params",
            "weights",
            "FP8",
            "gradients",
            "master",
            "moments",
            "chunks",
            "activations",
            "(other way)",
            "head",
            "total"
        );
        for (names, rank) in alike(ranks) {
            let gib = |bytes: f64| bytes / GIB;
            let other = if plan.workload.recompute { rank.without_recompute_bytes } else { rank.with_recompute_bytes };
            line!(
                text,
                "{:<9} {:>8} {:>8.2} {:>6.2} {:>9.2} {:>7.2} {:>8.2} {:>7} {:>11.2} {:>12.2} {:>6.2} {:>7.2}{}",
                names,
                rounded_count(rank.parameters.replicated + rank.parameters.experts).replace("00B", "B"),
                gib(rank.weights_bytes),
                gib(rank.fp8_weights_bytes),
                gib(rank.gradients_bytes),
                gib(rank.master_bytes),
                gib(rank.moments_bytes),
                rank.chunks,
                gib(rank.activations_bytes),
                gib(other),
                gib(rank.head_bytes),
                gib(rank.total_bytes),
                if gib(rank.total_bytes) > room { "  does not fit" } else { "" }
            );
        }
    }
    let other = if plan.workload.recompute { "without" } else { "with" };
    line!(text, "(the other way: activations {other} recomputation; buffers of messages and of the allocator are not counted)");
}

/// Ranks that keep the same, together: `0, 15`.
fn alike(ranks: &[RankMemory]) -> Vec<(String, &RankMemory)> {
    let mut rows: Vec<(Vec<usize>, &RankMemory)> = Vec::new();
    for memory in ranks {
        let same = |other: &RankMemory| RankMemory { rank: memory.rank, ..*other } == *memory;
        match rows.iter_mut().find(|(_, first)| same(first)) {
            Some((names, _)) => names.push(memory.rank),
            None => rows.push((vec![memory.rank], memory)),
        }
    }
    let name = |names: Vec<usize>| match names.as_slice() {
        [first, .., last] if names.len() > 2 => format!("{first}..{last}"),
        _ => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    rows.into_iter().map(|(names, memory)| (name(names), memory)).collect()
}

fn traffic(text: &mut String, planned: &Planned) {
    let ClusterPlan { traffic, .. } = &planned.plan;
    line!(text);
    if let Some(reach) = &traffic.reach {
        let model = &planned.model;
        line!(
            text,
            "experts of a layer are on {} ranks of {} nodes; expected places of a token's {}",
            reach.ranks,
            reach.nodes,
            model.num_experts_per_tok
        );
        line!(text, "{:<44} {:>7} {:>7}", "", "nodes", "ranks");
        for (name, spread) in [
            ("any experts, exactly".to_string(), reach.unlimited),
            (format!("in {} of {} groups at random, exactly", model.topk_group, model.n_group), reach.random_groups),
            (format!("in the groups that the router takes, at most {}", reach.limit), reach.router),
        ] {
            line!(text, "{name:<44} {:>7.3} {:>7.3}", spread.nodes, spread.ranks);
        }
        line!(text);
        let (dispatch, combine) = traffic.row_bytes;
        line!(text, "MB that a GPU sends for a MoE layer and micro-batch, one way ({} bytes a row to experts, {} back)", dispatch, combine);
        line!(text, "{:<44} {:>14} {:>14} {:>13} {:>13}", "", "dispatch, fast", "dispatch, slow", "combine, fast", "combine, slow");
        for (index, route) in traffic.routes.iter().enumerate() {
            let limit = if route.limited { "the router's groups" } else { "any experts" };
            let hops = if route.two_hops { "once to each node" } else { "once to each rank" };
            let mark = if index == 0 { ", as planned" } else { "" };
            line!(
                text,
                "{:<44} {:>14.1} {:>14.1} {:>13.1} {:>13.1}",
                format!("{limit}, {hops}{mark}"),
                route.dispatch.fast / MEGA,
                route.dispatch.slow / MEGA,
                route.combine.fast / MEGA,
                route.combine.slow / MEGA
            );
        }
        line!(
            text,
            "in a step, both passes: {:.1} GB over the fast link, {:.1} GB over the slow one",
            traffic.step.fast / GIGA,
            traffic.step.slow / GIGA
        );
    } else {
        line!(text, "every rank has all experts of its layers: no rows travel");
    }
    let link = |slow: bool| if slow { "slow" } else { "fast" };
    line!(
        text,
        "between stages {:.1} MB a micro-batch, each way, over the {} link; between copies {:.2} GB of gradients and {:.2} GB of weights a step, over the {} link",
        traffic.message_bytes / MEGA,
        link(traffic.message_is_slow),
        traffic.gradients_bytes / GIGA,
        traffic.weights_bytes / GIGA,
        link(traffic.copies_are_slow)
    );
}

fn time(text: &mut String, planned: &Planned) {
    let ClusterPlan { step, workload, .. } = &planned.plan;
    let slowest = &step.ranks[step.slowest];
    line!(text);
    line!(text, "a micro-batch on rank {}, the slowest, in ms", step.slowest);
    line!(text, "{:<22} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "linears", "experts", "attention", "head", "memory", "sum", "rows");
    let ms = |seconds: f64| seconds * 1e3;
    for (name, part, rows) in [
        ("F", slowest.forward, slowest.all_to_all_forward),
        ("B, of the input", slowest.backward_input, slowest.all_to_all_backward),
        ("W, of the weights", slowest.weights, 0.0),
    ] {
        line!(
            text,
            "{name:<22} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
            ms(part.linear),
            ms(part.experts),
            ms(part.attention),
            ms(part.router_and_head),
            ms(part.memory),
            ms(part.total()),
            ms(rows)
        );
    }
    let overlaps = workload.schedule.parameter_copies() == 2 || workload.schedule.name() == "dualpipev";
    if overlaps {
        line!(text, "{:<22} {:>69.2}", "F&B overlapped", ms(step.costs.overlapped));
    }
    line!(text, "{:<22} {:>69.2}", "a message", ms(step.costs.communication));
    line!(text);
    line!(
        text,
        "step {:.3} s: pipeline {:.3} s, of it idle {:.3} s (formula {} = {:.3} s)",
        step.total_s,
        step.makespan_s,
        step.bubble_s,
        workload.schedule.bubble_text(),
        step.bubble_formula_s
    );
}

fn account(text: &mut String, planned: &Planned) {
    let ClusterPlan { step, account, .. } = &planned.plan;
    line!(
        text,
        "{} tokens/s a GPU, {:.3} TFLOP/s by {:.3} GFLOP a token in parameters ({:.3} with attention and MTP)",
        number(step.tokens_per_s_per_gpu),
        account.tflops_per_gpu,
        account.parameter_flops_per_token / GIGA,
        account.flops_per_token / GIGA
    );
    line!(text);
    let whole = account.gpu_hours.is_some();
    line!(text, "{:<36} {:>12} {:>8} {:>14}", "where the time goes", "s a step", "share", if whole { "GPU hours" } else { "" });
    let all: f64 = account.hours.iter().map(|part| part.step_s).sum();
    for part in &account.hours {
        let hours = part.gpu_hours.map_or_else(String::new, number);
        line!(text, "{:<36} {:>12.4} {:>7.1}% {:>14}", part.name, part.step_s, 100.0 * part.step_s / all, hours);
    }
    let hours = account.gpu_hours.map_or_else(String::new, number);
    line!(text, "{:<36} {:>12.4} {:>7.1}% {:>14}", "together", all, 100.0, hours);
    line!(text, "GPU hours for 10^12 tokens: {}", number(account.gpu_hours_per_trillion));
    line!(text);
    let known = account.reference_per_trillion;
    let explains = if known.is_some() { "would explain it" } else { "" };
    line!(text, "{:<26} {:>10} {:>22} {:>17}", "assumption", "planned", "step if it were 1", explains);
    for assumption in &account.assumptions {
        let explains = match (known, assumption.explains) {
            (None, _) => String::new(),
            (Some(_), Some(value)) => format!("{value:.3}"),
            (Some(_), None) => "no value does".into(),
        };
        line!(text, "{:<26} {:>10.3} {:>21.1}% {explains:>17}", assumption.key, assumption.value, 100.0 * assumption.ideal);
    }
    verdict(text, planned);
}

/// What is known beside what is planned.
fn verdict(text: &mut String, planned: &Planned) {
    let account = &planned.plan.account;
    let (Some(reference), Some(known)) = (&account.reference, account.reference_per_trillion) else { return };
    let difference = account.gpu_hours_per_trillion / known - 1.0;
    let tokens = reference.tokens.unwrap_or(0);
    let (per_gpu, seconds) = (tokens as f64 / reference.gpu_hours / 3600.0, reference.gpu_hours);
    line!(text);
    line!(
        text,
        "known: {} GPU hours for {} tokens, {} for 10^12, {} tokens/s a GPU, {:.3} TFLOP/s",
        number(seconds),
        rounded_count(tokens),
        number(known),
        number(per_gpu),
        per_gpu * account.parameter_flops_per_token / 1e12
    );
    line!(text, "the plan takes {:.1}% {}", 100.0 * difference.abs(), if difference < 0.0 { "less" } else { "more" });
    match account.assumptions.first() {
        Some(first) if first.explains.is_some() => {
            let value = first.explains.unwrap_or(first.value);
            line!(text, "{} would have to change least to explain that alone: {:.3} instead of {:.3}", first.key, value, first.value);
        }
        _ => line!(text, "no assumption explains that alone"),
    }
}

/// A number of at least 100 as a whole one with its thousands set apart; a smaller one with three digits.
fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.3}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
