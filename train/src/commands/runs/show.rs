//! `runs show`: one run on a page.

use std::fmt::Write;

use serde_json::json;

use super::exchange::Exchanged;
use super::{alerts, results_of};
use crate::cli::RunArgs;
use crate::exit::Outcome;
use crate::failure::Result;
use crate::fold::{fold_on_terminal, hang, width};
use crate::metrics::duration;
use crate::record::RunState;
use crate::record::{AlertLine, Line, Record, SampleLine};
use crate::runs::RunSummary;
use crate::stdout::write_stdout;

/// Alerts that are shown.
const SHOWN: usize = 5;

/// Shows what is known of a run.
pub(super) fn run(args: &RunArgs) -> Result<Outcome> {
    let run = RunSummary::read(&args.run)?;
    let (mut raised, mut sample) = (Vec::new(), None);
    let mut exchanged = Exchanged::default();
    // What cannot be read is counted in the summary.
    Record::readable(&args.run, |line| match line {
        Line::Alert(alert) => raised.push(alert),
        Line::Sample(line) => sample = Some(line),
        Line::Step(step) => exchanged.absorb(&step),
        Line::Evaluation(_) | Line::System(_) => {}
    })?;
    let differences = run.config.differences()?;
    if !args.json {
        let mut text = page(&run) + &fold_on_terminal(exchanged.text());
        for (index, (section, keys)) in differences.iter().enumerate() {
            let keys: Vec<String> =
                keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            let label = if index == 0 { "config" } else { "" };
            text += &hang(
                &format!("{label:<12}"),
                &format!("[{section}] {}", keys.join(", ")),
                width(),
            );
            text.push('\n');
        }
        text += &fold_on_terminal(ending(&raised, sample.as_ref()));
        write_stdout(&text)?;
    }
    let mut results = results_of(&run);
    results["command"] = json!("runs show");
    let keys = differences.into_iter().flat_map(|(section, keys)| {
        keys.into_iter().map(move |(key, value)| (format!("{section}.{key}"), json!(value)))
    });
    results["config"] = keys.collect::<serde_json::Map<_, _>>().into();
    results["exchange"] = exchanged.results();
    results["alerts"] = json!(raised);
    results["sample"] = json!(sample);
    Ok(Outcome::done(results))
}

fn page(run: &RunSummary) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "run         {}", run.folder.display());
    let left = run.seconds_left().filter(|_| run.state == RunState::Training);
    let _ = writeln!(
        text,
        "state       {}: step {} of {}{}",
        run.state.name(),
        run.steps(),
        run.planned_steps,
        left.map_or_else(String::new, |seconds| format!(", {} left", duration(seconds)))
    );
    if let Some((begun, updated)) = &run.times {
        let _ = writeln!(text, "times       begun {begun}, last line {updated}");
    }
    if let Some(step) = &run.step {
        let _ = writeln!(
            text,
            "trained     {} tokens in {}, the last step at {:.0} tokens/s",
            step.stamp.tokens,
            duration(step.stamp.elapsed_seconds),
            step.tokens_per_second
        );
        let _ = writeln!(text, "loss        {:.4} nats a token in the last step", step.loss);
    }
    if let (Some(last), Some((best_step, best))) = (&run.evaluation, run.best) {
        let _ = writeln!(
            text,
            "validation  {:.4} nats a token after step {} (perplexity {:.3}, {:.4} bits a byte); \
             best {best:.4} after step {best_step}",
            last.valid_loss, last.stamp.step, last.valid_perplexity, last.valid_bits_per_byte
        );
    }
    let labels = &run.labels;
    if !labels.tags.is_empty() {
        let tags: Vec<&str> = labels.tags.iter().map(String::as_str).collect();
        let _ = writeln!(text, "tags        {}", tags.join(" "));
    }
    if !labels.note.is_empty() {
        let _ = writeln!(text, "note        {}", labels.note.replace('\n', "\n            "));
    }
    if run.unreadable_lines > 0 {
        let _ = writeln!(text, "not read    {} lines of the record", run.unreadable_lines);
    }
    if run.alerts.iter().any(|&count| count > 0) {
        let _ = writeln!(text, "alerts      {}", alerts(run));
    }
    fold_on_terminal(text)
}

fn ending(raised: &[AlertLine], sample: Option<&SampleLine>) -> String {
    let mut text = String::new();
    for alert in raised.iter().rev().take(SHOWN).rev() {
        let (level, step) = (alert.level.name(), alert.stamp.step);
        let _ = writeln!(text, "{level:<12}step {step}: {}", alert.message);
    }
    if let Some(sample) = sample {
        let said = sample.text.trim_end().replace('\n', "\n            ");
        let _ = writeln!(text, "sample      {said}");
    }
    text
}
