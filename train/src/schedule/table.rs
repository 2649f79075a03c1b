//! The course of a run as a small table: a row wherever a segment ends.

use std::collections::BTreeSet;

use serde::Serialize;

use super::count::rounded_count;
use super::position::Position;
use super::training::{StepSettings, TrainingSchedule};
use super::until::Until;

/// One step of the table and its values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Where the run stands after the step.
    pub position: Position,
    /// What the step did.
    pub settings: StepSettings,
}

impl TrainingSchedule {
    /// The first step, the last one, and the last step of each segment between them.
    pub fn rows(&self) -> Vec<Row> {
        let mut steps = BTreeSet::from([1, self.end.step]);
        let courses = [&self.lr, &self.bias_update_speed, &self.seq_aux_alpha, &self.mtp_lambda];
        let boundaries = courses.iter().flat_map(|course| course.boundaries());
        steps.extend(boundaries.chain(self.batch.boundaries().map(Until::Tokens)).map(|until| {
            match until {
                Until::Steps(step) => step,
                Until::Tokens(tokens) => self.batch.position_within(tokens).step,
                Until::Percent(_) => self.end.step,
            }
        }));
        let rows = steps.range(1..=self.end.step.max(1)).filter_map(|&step| {
            let before = self.batch.position_after(step - 1)?;
            let settings = self.at(before);
            Some(Row { position: self.batch.position_after(step)?, settings })
        });
        rows.collect()
    }

    /// The rows as text, with a heading.
    pub fn table(&self) -> Vec<String> {
        let heading =
            ["tokens", "step", "lr", "batch", "gamma", "alpha", "lambda"].map(String::from);
        let cells = self.rows().into_iter().map(|Row { position, settings }| {
            [
                rounded_count(position.tokens),
                position.step.to_string(),
                format!("{:.3e}", settings.lr),
                settings.global_batch.to_string(),
                settings.bias_update_speed.to_string(),
                settings.seq_aux_alpha.to_string(),
                settings.mtp_lambda.to_string(),
            ]
        });
        let lines: Vec<[String; 7]> = std::iter::once(heading).chain(cells).collect();
        let widths: [usize; 7] = std::array::from_fn(|column| {
            lines.iter().map(|line| line[column].len()).max().unwrap_or(0)
        });
        let aligned = |line: &[String; 7]| {
            let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}"));
            cells.collect::<Vec<_>>().join("  ")
        };
        lines.iter().map(aligned).collect()
    }
}
