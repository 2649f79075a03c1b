//! What a report says, ready for its templates.

use serde::Serialize;

use super::figures::{self, Figure};
use super::gathered::Gathered;
use super::table::{self, Table};
use crate::commands::runs::{differences, rows};
use crate::digits::grouped;
use crate::failure::Result;
use crate::metrics::duration;
use crate::record::{SampleLine, VERSION};
use crate::runs::RunSummary;
use crate::shell_word::quoted;

/// Samples that a report has at most.
const SAMPLES: usize = 12;

/// A report.
#[derive(Serialize)]
pub(super) struct Page {
    pub title: String,
    pub figures: Vec<FigureOnPage>,
    /// Of several runs, how far each came and in what they differ.
    comparison: Option<Table>,
    runs: Vec<RunOnPage>,
    program: String,
    lines_version: u32,
}

/// A picture of a report.
#[derive(Serialize)]
pub(super) struct FigureOnPage {
    pub name: &'static str,
    title: String,
    caption: &'static str,
    pub svg: String,
}

impl From<Figure> for FigureOnPage {
    fn from(Figure { name, title, caption, svg }: Figure) -> Self {
        Self { name, title, caption, svg }
    }
}

#[derive(Serialize)]
struct RunOnPage {
    name: String,
    folder: String,
    state: &'static str,
    /// How far it is, in a sentence.
    progress: String,
    tags: Vec<String>,
    note: String,
    unreadable_lines: usize,
    /// What is to be seen first: a name, a value, and what is said beside it.
    facts: Vec<[String; 3]>,
    /// Keys that are no default, as TOML.
    changed: String,
    /// All of it.
    configuration: String,
    evaluations: Table,
    speed: Table,
    experts: Table,
    alerts: Table,
    samples: Vec<SampleOnPage>,
    checkpoints: Table,
    command: String,
}

#[derive(Serialize)]
struct SampleOnPage {
    step: u64,
    /// Where the prompt ends in the text.
    prompt: String,
    continued: String,
    acceptance: Option<String>,
}

impl Page {
    /// The report on some runs, at least one.
    ///
    /// # Errors
    /// A configuration that has no form in TOML.
    pub fn of(runs: &[Gathered]) -> Result<Self> {
        let names = names(runs);
        let (title, figures, comparison) = match runs {
            [run] => (names[0].clone(), figures::of_run(run), None),
            runs => {
                let summaries: Vec<&RunSummary> = runs.iter().map(|run| &run.summary).collect();
                let rows = rows(&summaries, &differences(&summaries)?);
                let title = format!("{} runs", runs.len());
                (title, figures::of_runs(runs, &names), Some(Table::with_header(rows)))
            }
        };
        let runs = runs.iter().zip(&names).map(|(run, name)| RunOnPage::of(run, name));
        Ok(Self {
            title,
            figures: figures.into_iter().map(Into::into).collect(),
            comparison,
            runs: runs.collect::<Result<_>>()?,
            program: format!("deepseek {}", env!("CARGO_PKG_VERSION")),
            lines_version: VERSION,
        })
    }
}

/// A name for each run: that of its folder, or where two have the same its whole path.
fn names(runs: &[Gathered]) -> Vec<String> {
    let short: Vec<String> = runs.iter().map(|run| run.summary.name()).collect();
    let is_alone = |name: &String| short.iter().filter(|other| *other == name).count() == 1;
    short
        .iter()
        .zip(runs)
        .map(|(name, run)| {
            let whole = || run.summary.folder.display().to_string();
            if is_alone(name) { name.clone() } else { whole() }
        })
        .collect()
}

impl RunOnPage {
    fn of(run: &Gathered, name: &str) -> Result<Self> {
        let summary = &run.summary;
        let changed = summary.config.differences()?.into_iter().map(|(section, keys)| {
            let keys: String =
                keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            format!("[{section}]\n{keys}")
        });
        Ok(Self {
            name: name.into(),
            folder: summary.folder.display().to_string(),
            state: summary.state.name(),
            progress: format!(
                "step {} of {}",
                grouped(summary.steps()),
                grouped(summary.planned_steps)
            ),
            tags: summary.labels.tags.iter().cloned().collect(),
            note: summary.labels.note.clone(),
            unreadable_lines: summary.unreadable_lines,
            facts: facts(run),
            changed: changed.collect::<Vec<_>>().join("\n"),
            configuration: summary.config.shown().to_toml()?,
            evaluations: table::evaluations(&run.evaluations),
            speed: table::speed(run),
            experts: table::experts(run),
            alerts: table::alerts(&run.alerts),
            samples: thinned(&run.samples).into_iter().map(SampleOnPage::of).collect(),
            checkpoints: table::checkpoints(&run.checkpoints),
            command: command(summary),
        })
    }
}

impl SampleOnPage {
    fn of(line: &SampleLine) -> Self {
        let continued = line.text.strip_prefix(&line.prompt).unwrap_or(&line.text);
        Self {
            step: line.stamp.step,
            prompt: line.prompt.clone(),
            continued: continued.into(),
            acceptance: line.mtp_acceptance.map(|share| format!("{:.0}%", 100.0 * share)),
        }
    }
}

/// The first, the last, and as many between them as are shown.
fn thinned(samples: &[SampleLine]) -> Vec<&SampleLine> {
    let last = samples.len().saturating_sub(1);
    let shown = samples.len().min(SAMPLES);
    (0..shown).map(|index| &samples[index * last / (shown - 1).max(1)]).collect()
}

/// What is to be seen of a run first.
fn facts(run: &Gathered) -> Vec<[String; 3]> {
    let summary = &run.summary;
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String, beside: String| {
        facts.push([name.to_string(), value, beside]);
    };
    if let (Some(last), Some((step, best))) = (&summary.evaluation, summary.best) {
        fact(
            "validation loss",
            format!("{:.4}", last.valid_loss),
            format!("best {best:.4} after step {step}; perplexity {:.2}", last.valid_perplexity),
        );
    }
    if let Some(step) = &summary.step {
        let bits = format!("{:.4} bits a byte, in the last step", step.bits_per_byte);
        fact("training loss", format!("{:.4}", step.loss), bits);
        let time = duration(step.stamp.elapsed_seconds);
        fact("tokens", grouped(step.stamp.tokens), format!("in {time} of training"));
        let mean = step.stamp.tokens as f64 / step.stamp.elapsed_seconds;
        let last = format!("mean; {:.0} in the last step", step.tokens_per_second);
        fact("tokens/s", format!("{mean:.0}"), last);
    }
    let counts = summary.config.model.parameter_counts();
    let active = format!("{} active a token", grouped(counts.active));
    fact("parameters", grouped(counts.total), active);
    let [infos, warnings, errors] = summary.alerts;
    let beside = format!("{errors} errors, {warnings} warnings, {infos} infos");
    fact("alerts", (infos + warnings + errors).to_string(), beside);
    facts
}

/// What makes the run once more.
fn command(run: &RunSummary) -> String {
    let file = run.folder.join(crate::checkpoint::RUN_FILE).display().to_string();
    let elsewhere = match run.config.output.run_dir {
        Some(_) => " --run-dir again",
        None => "",
    };
    format!("deepseek train --config {}{elsewhere}", quoted(&file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_sample_are_shown() {
        let samples = |count: u64| -> Vec<SampleLine> {
            let mut samples = vec![SampleLine::default(); count as usize];
            samples.iter_mut().zip(1..).for_each(|(sample, step)| sample.stamp.step = step);
            samples
        };
        let steps = |count| -> Vec<u64> {
            thinned(&samples(count)).iter().map(|sample| sample.stamp.step).collect()
        };
        assert!(steps(0).is_empty());
        assert_eq!(steps(1), [1]);
        assert_eq!(steps(3), [1, 2, 3]);
        let many = steps(100);
        assert_eq!((many.len(), many[0], many[11]), (12, 1, 100));
    }
}
