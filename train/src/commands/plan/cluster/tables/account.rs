//! What a step takes, where the time goes, and what is assumed.

use std::fmt::Write;

use super::super::Planned;
use super::line;
use super::numbers::{self, number};
use crate::fold::Columns;
use crate::parallel::PipelineScheduleKind;
use crate::plan::Computing;
use crate::schedule::rounded_count;

const GIGA: f64 = 1e9;
const HOUR: f64 = 3600.0;

pub(super) fn write(text: &mut String, planned: &Planned, width: usize) {
    chunks(text, planned, width);
    schedules(text, planned, width);
    shares(text, planned, width);
    assumptions(text, planned, width);
    verdict(text, planned);
}

/// A micro-batch on the rank that sets the pace.
fn chunks(text: &mut String, planned: &Planned, width: usize) {
    let (step, kind) = (&planned.plan.step, planned.plan.workload.schedule);
    let slowest = &step.ranks[step.slowest];
    let ms = |seconds: f64| seconds * 1e3;
    line!(text);
    line!(text, "ms of a micro-batch on rank {}, the slowest", step.slowest);
    let mut table = Columns::new([
        "<",
        "linears",
        "experts",
        "attention",
        "head",
        "memory",
        "overhead",
        "computing",
        "in flight",
    ]);
    let mut row = |name: &str, part: Computing, rows: f64| {
        let parts = [
            part.linear,
            part.experts,
            part.attention,
            part.router_and_head,
            part.memory,
            part.overhead,
            part.total(),
            rows,
        ];
        let cells = parts.map(|seconds| format!("{:.2}", ms(seconds)));
        table.row(std::iter::once(name.to_string()).chain(cells));
    };
    row("F", slowest.forward, slowest.all_to_all_forward);
    row("B, for the input", slowest.backward_input, slowest.all_to_all_backward);
    row("W, for the weights", slowest.weights, 0.0);
    if matches!(kind, PipelineScheduleKind::DualPipe | PipelineScheduleKind::DualPipeV) {
        let rows = slowest.all_to_all_forward + slowest.all_to_all_backward;
        row("F&B, overlapped", slowest.computing(), rows);
    }
    if planned.plan.workload.axes.pipeline > 1 {
        let mut cells = vec![String::new(); 9];
        cells[0] = "a message".into();
        cells[8] = format!("{:.2}", ms(step.costs.communication));
        table.row(cells);
    }
    *text += &table.text(width);
}

/// The schedules side by side.
fn schedules(text: &mut String, planned: &Planned, width: usize) {
    let plan = &planned.plan;
    if plan.schedules.is_empty() {
        return;
    }
    let numbers::Unit(name, unit) =
        numbers::binary(plan.schedules.iter().map(|row| row.memory_bytes).fold(0.0, f64::max));
    line!(text);
    let memory = format!("memory, {name}");
    let mut table = Columns::new([
        "<schedule",
        "bubble, s",
        "its formula",
        "exposed, s",
        "step, s",
        "tokens/s a GPU",
        &memory,
    ]);
    for row in &plan.schedules {
        let mark = if row.kind == plan.workload.schedule { " (plan)" } else { "" };
        table.row([
            format!("{}{mark}", row.kind),
            format!("{:.3}", row.bubble_s),
            format!("{} {:.3}", row.kind.bubble_text(), row.bubble_formula_s),
            format!("{:.3}", row.exposed_s),
            format!("{:.3}", row.step_s),
            number(row.tokens_per_s_per_gpu),
            format!("{:.2}", row.memory_bytes / unit),
        ]);
    }
    *text += &table.text(width);
}

fn shares(text: &mut String, planned: &Planned, width: usize) {
    let (step, account) = (&planned.plan.step, &planned.plan.account);
    line!(text);
    line!(
        text,
        "a step takes {:.4} s: {} tokens/s a GPU, {:.3} TFLOP/s by {:.3} GFLOP a token in \
         parameters ({:.3} with MTP and attention)",
        step.total_s,
        number(step.tokens_per_s_per_gpu),
        account.tflops_per_gpu,
        account.parameter_flops_per_token / GIGA,
        account.flops_per_token / GIGA
    );
    line!(text);
    let whole = if account.gpu_hours.is_some() { "GPU hours" } else { "" };
    let mut table = Columns::new(["<where the time goes", "s a step", "", whole]);
    let all: f64 = account.hours.iter().map(|part| part.step_s).sum();
    let mut row = |name: &str, seconds: f64, hours: Option<f64>| {
        let hours = hours.map_or_else(String::new, number);
        let share = format!("{:.1}%", 100.0 * seconds / all);
        table.row([name.to_string(), format!("{seconds:.4}"), share, hours]);
    };
    for part in account.hours.iter().filter(|part| part.step_s.abs() > 1e-9 * all) {
        row(part.name, part.step_s, part.gpu_hours);
    }
    row("together", all, account.gpu_hours);
    *text += &table.text(width);
    if let Some(tokens) = planned.plan.workload.tokens {
        line!(
            text,
            "{} tokens: {} days; 10^12 tokens: {} GPU hours",
            rounded_count(tokens),
            number(account.gpu_hours.unwrap_or(0.0) / planned.cluster.gpus() as f64 / 24.0),
            number(account.gpu_hours_per_trillion)
        );
    }
}

fn assumptions(text: &mut String, planned: &Planned, width: usize) {
    let account = &planned.plan.account;
    let known = account.reference_per_trillion;
    line!(text);
    let explains = if known.is_some() { "would explain the known run" } else { "" };
    let mut table = Columns::new(["<assumption", "planned", "time at best", explains]);
    for assumption in &account.assumptions {
        let explains = match (known, assumption.explains) {
            (None, _) => String::new(),
            (Some(_), Some(value)) => format!("{value:.3}"),
            (Some(_), None) => "no value".into(),
        };
        let best = format!("{:.1}% at {}", 100.0 * assumption.hours_at_best, assumption.best);
        let planned = format!("{:.3}", assumption.value);
        table.row([assumption.key.to_string(), planned, best, explains]);
    }
    *text += &table.text(width);
}

/// What is known beside what is planned, and what carries the difference.
fn verdict(text: &mut String, planned: &Planned) {
    let account = &planned.plan.account;
    let (Some(reference), Some(known)) = (&account.reference, account.reference_per_trillion)
    else {
        return;
    };
    let tokens = reference.tokens.unwrap_or(0);
    let per_gpu = tokens as f64 / reference.gpu_hours / HOUR;
    line!(text);
    line!(
        text,
        "known: {} tokens in {} GPU hours, {} for 10^12; {} tokens/s a GPU, {:.3} TFLOP/s",
        rounded_count(tokens),
        number(reference.gpu_hours),
        number(known),
        number(per_gpu),
        per_gpu * account.parameter_flops_per_token / 1e12
    );
    let difference = account.gpu_hours_per_trillion / known - 1.0;
    let more = if difference < 0.0 { "less" } else { "more" };
    let carries = match account
        .assumptions
        .iter()
        .find_map(|assumption| Some((assumption, assumption.explains?)))
    {
        Some((first, value)) => format!(
            "{} need change least to explain that: {value:.3} instead of {:.3}",
            first.key, first.value
        ),
        None => "no assumption alone explains that".into(),
    };
    line!(text, "the plan takes {:.1}% {more}; {carries}", 100.0 * difference.abs());
    let most =
        account.assumptions.iter().min_by(|a, b| a.hours_at_best.total_cmp(&b.hours_at_best));
    if let Some(most) = most {
        line!(
            text,
            "most depends on {}: with {} it would take {:.1}% of the time",
            most.key,
            most.best,
            100.0 * most.hours_at_best
        );
    }
}
