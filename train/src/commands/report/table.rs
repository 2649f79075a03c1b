//! The tables of a report.

use serde::Serialize;

use super::gathered::{Gathered, PARTS};
use crate::digits::grouped;
use crate::record::{AlertLine, EvaluationLine};

/// Rows that a table has at most.
const ROWS: usize = 60;

/// A table; without rows it is not shown.
#[derive(Default, Serialize)]
pub(super) struct Table {
    header: Vec<Head>,
    rows: Vec<Vec<String>>,
    /// What is not in it, in a sentence.
    left_out: String,
}

#[derive(Serialize)]
struct Head {
    name: String,
    /// Whether what is below is text, not numbers.
    text: bool,
}

impl Table {
    /// A table of rows, with the names of its columns; a name after `<` is over text.
    fn new<const N: usize>(names: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Self {
        let names = vec![names.map(String::from).to_vec()];
        Self::with_header(names.into_iter().chain(rows.map(Vec::from)).collect())
    }

    /// A table whose first row has the names.
    pub fn with_header(mut rows: Vec<Vec<String>>) -> Self {
        let rest = rows.split_off(1.min(rows.len()));
        let head = |name: String| match name.strip_prefix('<') {
            Some(name) => Head { name: name.into(), text: true },
            None => Head { name, text: false },
        };
        let header = rows.pop().unwrap_or_default().into_iter().map(head).collect();
        Self { header, rows: rest, left_out: String::new() }
    }
}

/// Every n-th of what is too long, and the last; what is said of the rest.
fn thinned<'a, T>(items: &'a [T], what: &str) -> (Vec<&'a T>, String) {
    let every = items.len().div_ceil(ROWS).max(1);
    let last = items.len().saturating_sub(1);
    let kept = items.iter().enumerate().filter(|(at, _)| (last - at).is_multiple_of(every));
    let kept: Vec<&T> = kept.map(|(_, item)| item).collect();
    let left_out = match items.len() - kept.len() {
        0 => String::new(),
        _ => format!("{} of {} {what} are shown.", kept.len(), items.len()),
    };
    (kept, left_out)
}

/// A number, or a dash.
fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.decimals$}"))
}

/// What the held-out windows gave.
pub(super) fn evaluations(lines: &[EvaluationLine]) -> Table {
    let (kept, left_out) = thinned(lines, "evaluations");
    let rows = kept.into_iter().map(|line| {
        [
            grouped(line.stamp.step),
            grouped(line.stamp.tokens),
            number(Some(line.valid_loss), 4),
            number(Some(line.valid_perplexity), 3),
            number(Some(line.valid_bits_per_byte), 4),
            number(line.valid_mtp_loss, 4),
            number(line.experts.max_violation, 3),
        ]
    });
    let names = ["step", "tokens", "loss", "perplexity", "bits a byte", "MTP loss", "violation"];
    Table { left_out, ..Table::new(names, rows) }
}

/// Where the time of the steps went.
pub(super) fn speed(run: &Gathered) -> Table {
    let (spent, steps) = (run.spent(), run.steps.len() as f64);
    let all: f64 = spent.iter().map(|(_, sum)| sum).sum();
    let parts = spent.iter().map(|&(part, sum)| {
        let share = format!("{:.1}%", 100.0 * sum / all);
        [PARTS[part].into(), format!("{:.4}", sum / steps), share]
    });
    Table::new(["<part of a step", "mean seconds", "share"], parts)
}

/// How even the experts of each layer are.
pub(super) fn experts(run: &Gathered) -> Table {
    let Some((_, loads)) = &run.loads else { return Table::default() };
    let last = run.steps.last().map_or(&[][..], |step| &step.layer_violation);
    let late = &run.steps[run.steps.len() - run.steps.len().div_ceil(10)..];
    let rows =
        loads.layers.iter().zip(&loads.expert_loads).enumerate().map(|(index, (layer, loads))| {
            let of_late = late.iter().filter_map(|step| step.layer_violation.get(index));
            let (sum, count) = of_late.fold((0.0, 0), |(sum, count), one| (sum + one, count + 1));
            let bias = run.evaluations.last().and_then(|line| {
                Some(format!(
                    "{:.3} to {:.3}",
                    line.bias_min.get(index)?,
                    line.bias_max.get(index)?
                ))
            });
            [
                layer.to_string(),
                loads.len().to_string(),
                number(last.get(index).copied(), 3),
                number((count > 0).then(|| sum / f64::from(count)), 3),
                loads.iter().filter(|&&load| load == 0).count().to_string(),
                bias.unwrap_or_else(|| "-".into()),
            ]
        });
    let names =
        ["layer", "experts", "violation, last step", "mean of the last tenth", "dead", "bias"];
    Table::new(names, rows)
}

/// What was called out, the last of it.
pub(super) fn alerts(lines: &[AlertLine]) -> Table {
    let shown = &lines[lines.len().saturating_sub(ROWS)..];
    let rows = shown.iter().map(|line| {
        [
            grouped(line.stamp.step),
            line.level.name().into(),
            line.rule.clone(),
            line.message.clone(),
        ]
    });
    let left_out = match lines.len() - shown.len() {
        0 => String::new(),
        more => format!("{more} earlier ones are not shown."),
    };
    Table { left_out, ..Table::new(["step", "<level", "<rule", "<what was seen"], rows) }
}

/// What can be gone on from.
pub(super) fn checkpoints(found: &[(u64, u64)]) -> Table {
    let rows = found.iter().map(|&(step, bytes)| {
        let name = format!("checkpoints/step-{step:08}");
        [grouped(step), name, format!("{:.1} MB", bytes as f64 / 1e6)]
    });
    Table::new(["after step", "<folder", "size"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_table_keeps_its_last_row() {
        let items: Vec<usize> = (0..200).collect();
        let (kept, said) = thinned(&items, "rows");
        assert_eq!((kept.len(), kept[0], kept[49]), (50, &3, &199));
        assert_eq!(said, "50 of 200 rows are shown.");
        let (kept, said) = thinned(&items[..60], "rows");
        assert_eq!((kept.len(), said.as_str()), (60, ""));
        assert_eq!(thinned(&items[..0], "rows").0, Vec::<&usize>::new());
    }
}
