//! The table of a comparison, for a terminal and as Markdown to keep.

use super::curves::ErrorSummary;
use super::report::{BAR_PERCENT, Comparison, FILES};
use super::result::{Ended, RunResult};
use crate::fold::Columns;

impl Comparison {
    /// For a terminal of so many columns.
    pub fn text(&self, width: usize) -> String {
        let mut rows = self.rows().into_iter();
        let names = rows.next().unwrap_or_default();
        let mut table = Columns::new(names.iter().enumerate().map(|(column, name)| match column {
            0 => "<run",
            _ => name.as_str(),
        }));
        rows.for_each(|row| table.row(row));
        table.text(width)
    }

    /// To keep: setting, table, plot, and what each figure is.
    pub fn markdown(&self) -> String {
        let baseline = self.runs.first().map_or("none", |run| run.name.as_str());
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
        text += &self.said_of_routing().map_or_else(String::new, |said| format!("{said}\n"));
        for run in &self.runs {
            text += &format!("- `{}`: {} (`{}`)\n", run.name, run.what, run.set.join("`, `"));
        }
        text += "\nThe losses of every step are in `metrics.jsonl` in the folder of each run.\n";
        text
    }

    /// How far each run is from the baseline where no token changes its expert, and beside it where
    /// each run chooses for itself; none where no routing was fixed.
    pub fn said_of_routing(&self) -> Option<String> {
        let baseline = self.runs.first()?;
        let mut said = String::new();
        for run in self.runs.iter().filter(|run| run.fixed_routing) {
            let far = |run: &RunResult| {
                run.errors.as_ref().map(|errors| format!("{:.3}%", errors.max_percent))
            };
            let Some(fixed) = far(run) else { continue };
            let chosen = self.runs.iter().find(|free| !free.fixed_routing && free.set == run.set);
            let free = chosen.and_then(|free| Some((&free.name, far(free)?)));
            said += &format!(
                "{} is {fixed} from {} at most, no token with another expert",
                run.name, baseline.name
            );
            said += &free.map_or_else(String::new, |(name, far)| {
                format!("; {name}, which chooses for itself, {far}")
            });
            said += ".\n";
        }
        (!said.is_empty()).then_some(said)
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
    use super::*;

    #[test]
    fn signs_are_of_what_is_shown() {
        assert_eq!(
            [signed(0.126, 2), signed(-0.126, 2), signed(-0.001, 2), signed(f64::NAN, 2)],
            ["+0.13", "-0.13", "0.00", "NaN"]
        );
    }
}
