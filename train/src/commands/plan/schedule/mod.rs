//! `deepseek plan schedule`: a pipeline's schedule, proved, timed and drawn.

mod drawing;
mod terminal;

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;

use serde_json::json;

use crate::cli::PlanScheduleArgs;
use crate::commands::new_folder::check_new_files;
use crate::dualpipe::{Costs, PipelineSchedule, Simulation, Trace, Waiting, simulate};
use crate::exit::Outcome;
use crate::failure::{Context, Result, UsageError};
use crate::fold::{fold, width};
use crate::parallel::PipelineScheduleKind;
use crate::stdout::{write_drawing, write_stdout};

/// The largest pipeline that is worked out, in ranks times micro-batches.
const MOST: usize = 1 << 15;
/// The most ranks of one.
const MOST_RANKS: usize = 1 << 10;
/// Microseconds of a trace that stand for a unit of time.
const UNIT_US: f64 = 1e3;

/// A schedule, what its actions cost, and when each is done.
struct Planned {
    schedule: PipelineSchedule,
    costs: Costs,
    simulation: Simulation,
}

/// Makes, proves, times and draws a schedule.
pub(super) fn run(args: &PlanScheduleArgs) -> Result<Outcome> {
    check_new_files([("--svg", args.svg.as_ref()), ("--trace", args.trace.as_ref())])?;
    let planned = Planned::new(args)?;
    let width = args.width.map_or_else(width, usize::from);
    write_drawing(&planned.text(width, colours()))?;
    if let Some(path) = &args.svg {
        write_file(path, &drawing::draw(&planned))?;
    }
    if let Some(path) = &args.trace {
        let mut trace = Trace::default();
        trace.simulated(&planned.title(), &planned.schedule, &planned.simulation, UNIT_US);
        trace.write(path)?;
    }
    let files = [("svg", &args.svg), ("trace", &args.trace)];
    let written: String = files
        .iter()
        .filter_map(|(name, path)| Some(format!("{name:<18}{}\n", path.as_ref()?.display())))
        .collect();
    write_stdout(&written)?;
    let mut results = planned.results();
    for (name, path) in files {
        results[name] = json!(path);
    }
    Ok(Outcome::done(results))
}

/// Only for a terminal, and not where its user wants none.
fn colours() -> bool {
    std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("{}: cannot write", path.display()))
}

impl Planned {
    fn new(args: &PlanScheduleArgs) -> Result<Self> {
        let &PlanScheduleArgs {
            kind,
            ranks,
            chunks,
            forward,
            backward_input,
            weight: weights,
            communication,
            ..
        } = args;
        if ranks > MOST_RANKS {
            let problem = format!("--ranks {ranks} is more than is worked out, {MOST_RANKS}");
            return Err(UsageError(problem).into());
        }
        if ranks.saturating_mul(chunks) > MOST {
            let problem = format!(
                "--ranks {ranks} times --chunks {chunks} is more than is worked out, {MOST} together"
            );
            return Err(UsageError(problem).into());
        }
        let overlapped = args.overlapped.unwrap_or(forward + backward_input + weights);
        let costs = Costs { forward, backward_input, weights, overlapped, communication };
        let schedule = PipelineSchedule::new(kind, ranks, chunks)?;
        let simulation = simulate(&schedule, &costs, Waiting::AtExchanges)
            .context("invariant: a schedule that is made can be proved")?;
        Ok(Self { schedule, costs, simulation })
    }

    fn title(&self) -> String {
        let PipelineSchedule { kind, ranks, chunks, stages, .. } = &self.schedule;
        let entering = if *kind == PipelineScheduleKind::DualPipe {
            ", half of them from either end"
        } else {
            ""
        };
        format!("{kind}: {ranks} ranks, {stages} stages, {chunks} micro-batches{entering}")
    }

    fn costs_text(&self) -> String {
        let Costs { forward, backward_input, weights, overlapped, communication } = self.costs;
        let backward = number(self.costs.backward());
        let [forward, input, weights, overlapped, messages] =
            [forward, backward_input, weights, overlapped, communication].map(number);
        let overlapped =
            if self.overlaps() { format!(", F&B {overlapped}") } else { String::new() };
        format!(
            "F {forward}, B {backward} (input {input}, W {weights}){overlapped}, a message \
             {messages}"
        )
    }

    /// Whether the schedule has overlapped chunks at all.
    fn overlaps(&self) -> bool {
        matches!(
            self.schedule.kind,
            PipelineScheduleKind::DualPipe | PipelineScheduleKind::DualPipeV
        )
    }

    fn formula(&self) -> f64 {
        self.schedule.kind.bubble(self.schedule.ranks, &self.costs)
    }

    fn text(&self, width: usize, colours: bool) -> String {
        let PipelineSchedule { kind, ranks, .. } = self.schedule;
        let (simulation, makespan) = (&self.simulation, self.simulation.makespan());
        let (busy, idle, peaks) =
            (simulation.busy(), simulation.idle(), &simulation.proof.peak_activations);
        let mut text = fold(&format!("{}\n{}\n\n", self.title(), self.costs_text()), width);
        text += &terminal::draw(simulation, width, colours);
        text.push('\n');
        // Writing to a string does not fail.
        let _ = writeln!(text, "rank          busy        idle   of the time   activations");
        for (rank, ((busy, idle), peak)) in busy.iter().zip(&idle).zip(peaks).enumerate() {
            let (busy, share, idle) = (number(*busy), percent(*idle, makespan), number(*idle));
            let _ = writeln!(text, "{rank:<6} {busy:>11} {idle:>11} {share:>13} {peak:>13}");
        }
        let (bubble, formula, of) =
            (number(simulation.bubble()), number(self.formula()), kind.bubble_text());
        let (peak, most) = (peaks.iter().max().copied().unwrap_or(0), kind.activations(ranks));
        let closing = format!(
            "\nmakespan          {}\nbubble            {bubble}, the most idle time of a rank; \
             formula {of} = {formula}\n\
             activations       {peak} chunks at one stage at most; by formula \
             {most}\nparameters        {}x\n",
            number(makespan),
            kind.parameter_copies()
        );
        text + &fold(&closing, width)
    }

    fn results(&self) -> serde_json::Value {
        let PipelineSchedule { kind, ranks, chunks, stages, .. } = &self.schedule;
        let simulation = &self.simulation;
        json!({
            "command": "plan schedule",
            "kind": kind,
            "ranks": ranks,
            "chunks": chunks,
            "stages": stages,
            "costs": self.costs,
            "makespan": simulation.makespan(),
            "busy": simulation.busy(),
            "idle": simulation.idle(),
            "bubble": simulation.bubble(),
            "bubble_formula": self.formula(),
            "peak_activations": simulation.proof.peak_activations,
            "peak_activations_formula": kind.activations(*ranks),
            "parameter_copies": kind.parameter_copies(),
        })
    }
}

/// The time of the shortest action that takes any; infinite where none does.
fn shortest(simulation: &Simulation) -> f64 {
    let lengths = simulation.ranks.iter().flatten().map(|timed| timed.end - timed.start);
    lengths.filter(|&length| length > 0.0).fold(f64::INFINITY, f64::min)
}

/// A time with up to four decimals.
fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.1}%", 100.0 * part / whole) } else { "-".into() }
}
