//! A comparison of runs, its three files, and the object that programs read.

use std::path::Path;

use serde_json::json;

use super::plot;
use super::result::{Ended, RunResult};
use crate::failure::{Context, Result};

/// The report's bar: FP8's relative error stays below (3.3, B.1).
pub(super) const BAR_PERCENT: f64 = 0.25;
/// The three files of a comparison.
pub(super) const FILES: [&str; 3] =
    ["compare-precision.md", "compare-precision.svg", "compare-precision.json"];

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
            "baseline": self.runs.first().map(|run| &run.name),
            "steps": self.steps,
            "tokens": self.steps as u64 * self.tokens_per_step,
            "bar_percent": BAR_PERCENT,
            "interrupted": self.interrupted(),
            "runs": self.runs.iter().map(RunResult::to_json).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::curves::{ErrorSummary, relative_errors_percent};
    use super::super::runs::{NamedRun, Planned, RUNS};
    use super::*;

    fn comparison(losses: &[&[f64]]) -> Comparison {
        let result = |(run, losses): (&'static NamedRun, &&[f64])| {
            let mut result = RunResult::new(Planned { run, fixed: false }, "f32");
            result.ended = if losses.len() == 4 { Ended::Complete } else { Ended::Diverged };
            result.losses = losses.to_vec();
            result.errors = ErrorSummary::of(&relative_errors_percent(losses, &[2.0; 4]), 4);
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
    fn a_diverged_run_is_named_in_every_form() {
        let comparison = comparison(&[&[2.0; 4], &[2.002; 4], &[7.0]]);
        assert!(!comparison.interrupted());
        let text = comparison.text(120);
        assert!(text.contains("bf16 (diverged after 1 steps)"), "{text}");
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{text}");
        let narrow = comparison.text(80);
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
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
