//! The axes: which values each has, and what of the configuration a value sets.

use crate::cli::ScaleAxis;
use crate::config::{ConfigRequest, RunConfig};
use crate::failure::{Context, Result, UsageError};
use crate::schedule::Position;

/// Micro-batches of a step over ranks: as many as two ranks of DualPipeV need at least.
const RANKS_MICRO_BATCHES: usize = 4;

/// One point of an axis.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// Its value, in words.
    pub label: String,
    /// Its value.
    pub value: f64,
    /// What it sets over the configuration, as `--set` takes it.
    pub sets: Vec<String>,
    /// The configuration with that.
    pub config: RunConfig,
}

impl Point {
    /// Sequences and tokens of a step.
    pub fn step(&self) -> Result<(usize, usize)> {
        let sequences = self.config.schedule()?.at(Position::default()).global_batch;
        Ok((sequences, sequences.saturating_mul(self.config.train.seq_len)))
    }
}

/// The points of an axis whose values are at most `max`.
///
/// # Errors
/// No value is that small, or the configuration cannot have one of them.
pub(super) fn points(
    axis: ScaleAxis,
    base: &RunConfig,
    request: &ConfigRequest,
    max: Option<usize>,
) -> Result<Vec<Point>> {
    let values = values(axis, max)?;
    let largest = values.last().copied().unwrap_or(1);
    let sequences = base.schedule()?.at(Position::default()).global_batch;
    let mut points = Vec::new();
    for value in values {
        for (label, sets) in settings(axis, value, largest, base, sequences) {
            let mut set = request.set.clone();
            set.extend(sets.iter().cloned());
            let config = ConfigRequest { set, ..request.clone() }
                .resolve()
                .with_context(|| format!("--axis {}: {label}", axis.name()))?;
            points.push(Point { label, value: value as f64, sets, config });
        }
    }
    Ok(points)
}

/// Values from the least to the greatest, each twice the one before.
fn values(axis: ScaleAxis, max: Option<usize>) -> Result<Vec<usize>, UsageError> {
    let (least, greatest) = match axis {
        ScaleAxis::Seq | ScaleAxis::SeqOne => (256, 8192),
        ScaleAxis::Experts => (8, 256),
        ScaleAxis::Depth => (2, 32),
        ScaleAxis::Width => (128, 1024),
        ScaleAxis::MicroBatch => (1, 16),
        ScaleAxis::Ranks => (1, 2),
    };
    let greatest = max.map_or(greatest, |max| greatest.min(max));
    if greatest < least {
        return Err(UsageError(format!(
            "--max {greatest}: the axis {} begins at {least}; take --max {least} or more, or other \
             axes with --axis",
            axis.name()
        )));
    }
    let values = std::iter::successors(Some(least), |value| Some(2 * value));
    Ok(values.take_while(|&value| value <= greatest).collect())
}

/// What a value sets, with its label; of two ranks there are two forms.
fn settings(
    axis: ScaleAxis,
    value: usize,
    largest: usize,
    base: &RunConfig,
    sequences: usize,
) -> Vec<(String, Vec<String>)> {
    let label = value.to_string();
    match axis {
        ScaleAxis::Seq => {
            let tokens = largest.max(sequences.saturating_mul(base.train.seq_len));
            vec![(label, of_length(base, value, (tokens / value).max(1)))]
        }
        ScaleAxis::SeqOne => vec![(label, of_length(base, value, 1))],
        ScaleAxis::Experts => vec![(label, vec![format!("model.n_routed_experts={value}")])],
        ScaleAxis::Depth => vec![(label, vec![format!("model.num_hidden_layers={value}")])],
        ScaleAxis::Width => vec![(label, of_width(base, value))],
        ScaleAxis::MicroBatch => {
            let sequences = largest * sequences.div_ceil(largest).max(1);
            vec![(label, batch(value, sequences))]
        }
        ScaleAxis::Ranks => {
            let micro_batch = base.train.micro_batch;
            let batch = batch(micro_batch, micro_batch.saturating_mul(RANKS_MICRO_BATCHES));
            let forms: &[&str] = match value {
                1 => &["1"],
                _ => &["pipeline=2", "expert=2"],
            };
            let settings = forms.iter().map(|form| {
                let mut sets = batch.clone();
                sets.extend((value > 1).then(|| format!("parallel.{form}")));
                (form.to_string(), sets)
            });
            settings.collect()
        }
    }
}

/// So many sequences of a length at once.
fn of_length(base: &RunConfig, seq_len: usize, sequences: usize) -> Vec<String> {
    let mut sets = vec![format!("train.seq_len={seq_len}")];
    if base.model.max_position_embeddings < seq_len {
        sets.push(format!("model.max_position_embeddings={seq_len}"));
    }
    sets.extend(batch(sequences, sequences));
    sets
}

fn batch(micro_batch: usize, sequences: usize) -> Vec<String> {
    vec![format!("train.micro_batch={micro_batch}"), format!("schedule.global_batch={sequences}")]
}

/// The model in another width: heads, latents and inner layers in proportion.
fn of_width(base: &RunConfig, hidden_size: usize) -> Vec<String> {
    let model = &base.model;
    let scaled = |size: usize| {
        let size = size.saturating_mul(hidden_size) as f64 / model.hidden_size.max(1) as f64;
        (size.round() as usize).max(1)
    };
    let mut sizes = vec![
        ("hidden_size", hidden_size),
        ("intermediate_size", scaled(model.intermediate_size)),
        ("moe_intermediate_size", scaled(model.moe_intermediate_size)),
        ("num_attention_heads", scaled(model.num_attention_heads)),
        ("kv_lora_rank", scaled(model.kv_lora_rank)),
    ];
    sizes.extend(model.q_lora_rank.map(|rank| ("q_lora_rank", scaled(rank))));
    sizes.into_iter().map(|(key, size)| format!("model.{key}={size}")).collect()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn all(axis: ScaleAxis, max: Option<usize>, set: &[&str]) -> Result<Vec<Point>> {
        let request = ConfigRequest {
            config: Some("bench".into()),
            set: set.iter().map(ToString::to_string).collect(),
            ..ConfigRequest::default()
        };
        points(axis, &request.resolve()?, &request, max)
    }

    fn steps(axis: ScaleAxis) -> Vec<(usize, usize)> {
        all(axis, None, &[]).unwrap().iter().map(|point| point.step().unwrap()).collect()
    }

    #[test]
    fn what_an_axis_holds_stays_as_it_is() {
        let tokens = |axis| steps(axis).iter().map(|step| step.1).collect::<Vec<_>>();
        assert_eq!(tokens(ScaleAxis::Seq), [8192; 6]);
        assert_eq!(steps(ScaleAxis::Seq)[0].0, 32);
        assert_eq!(steps(ScaleAxis::SeqOne).iter().map(|step| step.0).sum::<usize>(), 6);
        assert_eq!(tokens(ScaleAxis::SeqOne), [256, 512, 1024, 2048, 4096, 8192]);
        assert_eq!(tokens(ScaleAxis::Experts), [2048; 6]);
        assert_eq!(tokens(ScaleAxis::Depth), [2048; 5]);
        assert_eq!(tokens(ScaleAxis::Width), [2048; 4]);
        assert_eq!(tokens(ScaleAxis::MicroBatch), [4096; 5]);
        assert_eq!(tokens(ScaleAxis::Ranks), [8192; 3]);
    }

    #[test]
    fn a_model_of_another_width_has_its_proportions() {
        let points = all(ScaleAxis::Width, None, &["model.preset=small"]).unwrap();
        let model = &points[3].config.model;
        assert_eq!((model.hidden_size, points[3].value), (1024, 1024.0));
        // Of 384: 1024, 192, 6, 96 and 128.
        assert_eq!(model.intermediate_size, 2731);
        assert_eq!((model.moe_intermediate_size, model.num_attention_heads), (512, 16));
        assert_eq!((model.kv_lora_rank, model.q_lora_rank), (256, Some(341)));
    }

    #[test]
    fn two_ranks_take_two_forms() {
        let points = all(ScaleAxis::Ranks, None, &[]).unwrap();
        let labels: Vec<_> = points.iter().map(|point| point.label.as_str()).collect();
        assert_eq!(labels, ["1", "pipeline=2", "expert=2"]);
        let axes: Vec<_> = points
            .iter()
            .map(|point| (point.config.parallel.pipeline, point.config.parallel.expert))
            .collect();
        assert_eq!(axes, [(1, 1), (2, 1), (1, 2)]);
        assert_eq!(all(ScaleAxis::Ranks, Some(1), &[]).unwrap().len(), 1);
    }

    #[test]
    fn max_is_the_largest_value_and_not_too_small() {
        let seq = all(ScaleAxis::Seq, Some(1000), &[]).unwrap();
        assert_eq!(seq.iter().map(|point| point.value).collect::<Vec<_>>(), [256.0, 512.0]);
        assert_eq!(seq[1].step().unwrap(), (4, 2048));
        for &axis in ScaleAxis::value_variants() {
            let error = all(axis, Some(0), &[]).unwrap_err().to_string();
            assert!(error.starts_with("--max 0: the axis "), "{error}");
            assert!(error.contains("begins at"), "{error}");
        }
    }

    #[test]
    fn a_value_that_the_model_cannot_have_is_told_with_its_axis() {
        let error = all(ScaleAxis::Experts, None, &["model.num_experts_per_tok=9"]);
        // Nine of eight is refused before there is an axis.
        assert!(error.is_err());
        let set = ["model.n_routed_experts=24", "model.n_group=3", "model.topk_group=2"];
        let error = all(ScaleAxis::Experts, None, &set).unwrap_err();
        assert!(error.to_string().starts_with("--axis experts: 8"), "{error}");
    }
}
