//! What a comparison says: a table for people, Markdown to keep, and an object for programs.

use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::curves::ErrorSummary;
use super::plot;
use super::runs::NamedRun;
use crate::failure::{Context, Result};
use crate::metrics::duration;

/// The report's bar: FP8's relative error stays below (3.3, B.1).
pub(super) const BAR_PERCENT: f64 = 0.25;
/// The three files of a comparison.
pub(super) const FILES: [&str; 3] =
    ["compare-precision.md", "compare-precision.svg", "compare-precision.json"];

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ended {
    /// With its last step.
    Complete,
    /// By a signal.
    Interrupted,
    /// At a loss or a gradient that was no number.
    Diverged,
}

impl Ended {
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Interrupted => "interrupted",
            Self::Diverged => "diverged",
        }
    }
}

/// What one run came to.
#[derive(Debug)]
pub(super) struct RunResult {
    pub name: &'static str,
    pub what: &'static str,
    pub set: &'static [&'static str],
    /// Of the last seed that was trained.
    pub ended: Ended,
    /// Seeds that were trained.
    pub seeds: u64,
    /// Training loss of each step, as far as it was a number; the mean over the seeds.
    pub losses: Vec<f64>,
    /// Mean of the last twentieth of them.
    pub train_loss: Option<f64>,
    /// Of the evaluation at the end.
    pub valid_loss: Option<f64>,
    /// Against the baseline; none for the baseline itself, and for a run that was not half done.
    pub errors: Option<ErrorSummary>,
    /// Milliseconds of each step of each seed.
    pub times: Vec<f64>,
    /// Median milliseconds of a step.
    pub step_ms: f64,
    /// That over the baseline's.
    pub time_ratio: f64,
    /// Of training steps together.
    pub seconds: f64,
}

impl RunResult {
    /// Of a run that no seed has been trained of yet.
    pub fn new(run: &'static NamedRun) -> Self {
        let &NamedRun { name, what, set, .. } = run;
        let (losses, nan) = (Vec::new(), f64::NAN);
        Self {
            name,
            what,
            set,
            ended: Ended::Complete,
            seeds: 0,
            losses,
            train_loss: None,
            valid_loss: None,
            errors: None,
            times: Vec::new(),
            step_ms: nan,
            time_ratio: nan,
            seconds: 0.0,
        }
    }

    /// One line for when the run has ended.
    pub fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let mut line = format!(
            "{}: training loss {}, held-out loss {}",
            self.name,
            number(self.train_loss),
            number(self.valid_loss)
        );
        if let Some(errors) = self.errors {
            line += &format!(
                ", relative error {}% at the end, {:.2}% at most",
                signed(errors.end_percent, 2),
                errors.max_percent
            );
        }
        if self.ended != Ended::Complete {
            line += &format!(", {} after {} steps", self.ended.name(), self.losses.len());
        }
        line + &format!(", {:.1} ms a step, {}", self.step_ms, duration(self.seconds))
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "what": self.what,
            "set": self.set,
            "ended": self.ended,
            "seeds": self.seeds,
            "steps": self.losses.len(),
            "train_loss": self.train_loss,
            "valid_loss": self.valid_loss,
            "relative_error_end_percent": self.errors.map(|errors| errors.end_percent),
            "relative_error_max_percent": self.errors.map(|errors| errors.max_percent),
            "relative_error_mean_percent": self.errors.map(|errors| errors.mean_percent),
            "within_bar": self.errors.map(|errors| errors.max_percent < BAR_PERCENT),
            "step_ms": self.step_ms,
            "time_ratio": self.time_ratio,
            "seconds": self.seconds,
        })
    }
}

/// Everything that was compared so far.
#[derive(Debug)]
pub(super) struct Comparison {
    /// The configuration's name.
    pub name: String,
    /// Model, data and device in a few lines.
    pub setting: String,
    pub device: String,
    /// Steps of each run.
    pub steps: usize,
    pub tokens_per_step: u64,
    /// The command line that made it.
    pub command: String,
    /// Runs asked for.
    pub planned: usize,
    /// The baseline first.
    pub runs: Vec<RunResult>,
}

impl Comparison {
    /// Whether a signal ended it.
    pub fn interrupted(&self) -> bool {
        self.runs.iter().any(|run| run.ended == Ended::Interrupted)
            || self.runs.len() < self.planned
    }

    /// Writes the three files; the plot only where there is something to draw.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let object = serde_json::to_string_pretty(&self.to_json(folder))? + "\n";
        let [markdown, svg, json] = FILES;
        for (name, text) in
            [(svg, plot::draw(self)), (markdown, Some(self.markdown())), (json, Some(object))]
        {
            if let Some(text) = text {
                let path = folder.join(name);
                std::fs::write(&path, text)
                    .with_context(|| format!("{}: cannot write", path.display()))?;
            }
        }
        Ok(())
    }

    /// For programs.
    pub fn to_json(&self, folder: &Path) -> serde_json::Value {
        json!({
            "command": "compare-precision",
            "out": folder,
            "device": self.device,
            "baseline": self.runs.first().map(|run| run.name),
            "steps": self.steps,
            "tokens": self.steps as u64 * self.tokens_per_step,
            "bar_percent": BAR_PERCENT,
            "interrupted": self.interrupted(),
            "runs": self.runs.iter().map(RunResult::to_json).collect::<Vec<_>>(),
        })
    }

    /// For a terminal: columns of equal width.
    pub fn text(&self) -> String {
        let rows = self.rows();
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in rows {
            let cells =
                row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                });
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }

    /// To keep: setting, table, plot, and what each figure is.
    fn markdown(&self) -> String {
        let baseline = self.runs.first().map_or("none", |run| run.name);
        let mut text = format!("# Loss by precision: {}\n\n", self.name);
        if self.interrupted() {
            text += &format!(
                "**Interrupted**: {} of {} runs are here, the last perhaps in part.\n\n",
                self.runs.len(),
                self.planned
            );
        }
        text += &format!("```\n{}\n```\n\n{}\n", self.command, self.setting);
        let mut rows = self.rows().into_iter();
        let header = rows.next().unwrap_or_default();
        text += &format!("| {} |\n|---|{}\n", header.join(" | "), "---:|".repeat(header.len() - 1));
        for row in rows {
            text += &format!("| {} |\n", row.join(" | "));
        }
        text += &format!("\n![Losses and relative errors over tokens]({})\n\n", FILES[1]);
        text += &format!(
            "All runs start from the same weights and see the same sequences in the same order. \
             `training loss` is the mean cross entropy \
             (nats a token) of the last 5% of the steps, `held-out loss` that of the held-out \
             windows after the last step. The relative \
             error is that of the report (B.1): with s and b the training losses of each step of a \
             run and of `{baseline}`, each smoothed as \
             s_t = 0.9 s_(t-1) + 0.1 x_t, it is (s_t - b_t) / b_t; `error` has it at the last \
             step, `largest` its largest magnitude over \
             the second half of the run, `mean` its mean there, in which noise that comes from \
             rounding alone mostly cancels. The report's \
             bar is {BAR_PERCENT}%. `time` is the median time of a step over that of `{baseline}`; \
             the runs were made one after another.\n\n"
        );
        for run in &self.runs {
            text += &format!("- `{}`: {} (`{}`)\n", run.name, run.what, run.set.join("`, `"));
        }
        text += "\nThe losses of every step are in `metrics.jsonl` in the folder of each run.\n";
        text
    }

    /// The header and a row a run.
    fn rows(&self) -> Vec<Vec<String>> {
        let header =
            ["run", "training loss", "held-out loss", "error %", "largest %", "mean %", "time"];
        let mut rows = vec![header.map(str::to_string).to_vec()];
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        for run in &self.runs {
            let percent =
                |pick: fn(&ErrorSummary) -> String| run.errors.as_ref().map_or("-".into(), pick);
            let name = match run.ended {
                Ended::Complete => run.name.to_string(),
                ended => {
                    format!("{} ({} after {} steps)", run.name, ended.name(), run.losses.len())
                }
            };
            rows.push(vec![
                name,
                number(run.train_loss),
                number(run.valid_loss),
                percent(|errors| signed(errors.end_percent, 3)),
                percent(|errors| format!("{:.3}", errors.max_percent)),
                percent(|errors| signed(errors.mean_percent, 3)),
                format!("{:.2}x", run.time_ratio),
            ]);
        }
        rows
    }
}

/// A number with its sign, but 0 without.
pub(super) fn signed(value: f64, decimals: usize) -> String {
    let text = format!("{value:+.decimals$}");
    if text[1..].chars().all(|digit| matches!(digit, '0' | '.')) {
        text[1..].to_string()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::runs::RUNS;
    use super::*;

    fn comparison(losses: &[&[f64]]) -> Comparison {
        let result = |(run, losses): (&'static NamedRun, &&[f64])| {
            let mut result = RunResult::new(run);
            result.ended = if losses.len() == 4 { Ended::Complete } else { Ended::Diverged };
            result.losses = losses.to_vec();
            result.errors = ErrorSummary::of(
                &super::super::curves::relative_errors_percent(losses, &[2.0; 4]),
                4,
            );
            result
        };
        Comparison {
            name: "tiny".into(),
            setting: "a setting".into(),
            device: "flex".into(),
            steps: 4,
            tokens_per_step: 64,
            command: "deepseek compare-precision".into(),
            planned: losses.len(),
            runs: RUNS.iter().zip(losses).map(result).collect(),
        }
    }

    #[test]
    fn signs_are_of_what_is_shown() {
        assert_eq!(
            [signed(0.126, 2), signed(-0.126, 2), signed(-0.001, 2), signed(f64::NAN, 2)],
            ["+0.13", "-0.13", "0.00", "NaN"]
        );
    }

    #[test]
    fn a_diverged_run_is_named_in_every_form() {
        let comparison = comparison(&[&[2.0; 4], &[2.002; 4], &[7.0]]);
        assert!(!comparison.interrupted());
        let text = comparison.text();
        assert!(text.contains("bf16 (diverged after 1 steps)"), "{text}");
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{text}");
        assert!(
            comparison
                .markdown()
                .contains("| f32-split | - | - | +0.100 | 0.100 | +0.100 | NaNx |"),
            "{}",
            comparison.markdown()
        );
        let object = comparison.to_json(Path::new("out"));
        assert_eq!(
            (&object["runs"][2]["ended"], &object["runs"][1]["within_bar"]),
            (&"diverged".into(), &true.into())
        );
        assert_eq!(object["runs"][2]["relative_error_max_percent"], serde_json::Value::Null);
    }

    #[test]
    fn the_plot_has_a_curve_a_run_in_each_panel() {
        let drawn =
            plot::draw(&comparison(&[&[2.0, 1.9, 1.8, 1.7], &[2.1, 1.9, 1.8, 1.6], &[7.0]]))
                .unwrap();
        assert_eq!(
            drawn.matches("<polyline").count() - drawn.matches("stroke=\"#e4e4e4\"").count(),
            2 * 3 + 3,
            "curves and legend"
        );
        for text in [
            "f32-split",
            "diverged",
            "the baseline",
            "training tokens",
            "relative error (%)",
            "0.25%",
        ] {
            assert!(drawn.contains(text), "{text}");
        }
        assert_eq!(drawn.matches("NaN").count(), 0);
        assert!(
            plot::draw(&comparison(&[&[2.0]])).is_none() && plot::draw(&comparison(&[])).is_none()
        );
    }
}
