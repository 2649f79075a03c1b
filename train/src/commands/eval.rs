//! `deepseek eval`: a checkpoint's losses on the run's held-out data, or on all of other files.

use std::io::Write;
use std::time::{Duration, Instant};

use burn::data::dataloader::batcher::Batcher;
use burn::tensor::{Int, Tensor};
use burn_deepseek::generate::NotFinite;
use burn_deepseek::weights::MtpWeights;
use burn_deepseek::{Compute, DeepSeek, LossWeights};
use burn_train::InferenceStep;
use serde_json::json;

use super::new_folder::check_new_files;
use super::preparation::Preparation;
use super::routing_files::check_routing_files;
use super::train::compute;
use crate::checkpoint::Weights;
use crate::cli::EvalArgs;
use crate::data::{EvalData, ScoredBytes, TokenBatcher, Watch, bits_per_byte};
use crate::exit::Outcome;
use crate::failure::{Context, Failure, Result, UsageError};
use crate::fold::fold_on_terminal;
use crate::learner::{LanguageModel, StepReport};
use crate::metrics::{ExpertLoads, duration};
use crate::model_folder::{Source, named};
use crate::oversize::check_forward;
use crate::routing::{MadeBy, Place, RoutingShape, RoutingTap, RoutingWriter, SavedRouting};
use crate::signals::Signals;
use crate::stdout::write_stdout;

/// Tokens a window at most where neither a run nor the user says how many.
const SEQ_LEN: usize = 2048;

/// From one line of progress to the next.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Evaluates a checkpoint.
///
/// # Errors
/// No checkpoint, data that cannot be used or weights that are NaN ([`crate::exit::USAGE`]); a
/// checkpoint that cannot be read, or a loss that overflows ([`crate::exit::FAILURE`]).
pub fn run(args: EvalArgs, signals: &Signals) -> Result<Outcome> {
    let source = Source::open(&named(&args.checkpoint, args.best)?, args.weights())?;
    if args.expert_loads.is_some() && source.at.model.moe_layers() == 0 {
        return Err(UsageError("--expert-loads: this model has no routed experts".into()).into());
    }
    check_new_files([("--expert-loads", args.expert_loads.as_ref())])?;
    let selected = args.device.open()?;
    let (seq_len, micro_batch) = windows(&args, &source)?;
    let tokens = seq_len.saturating_mul(micro_batch);
    check_forward(
        &source.at.model,
        tokens,
        &selected,
        "take a smaller --micro-batch or --seq-len",
    )?;
    let data = open_data(&args, &source, seq_len)?;
    let precision = source.precision(args.format);
    let compute = compute(precision, &selected.device)?;
    let mut routing = routing(&args, &source)?;
    let model = source.load(&selected.device, MtpWeights::Load, &precision)?;
    // The MTP losses are computed where their weight is not 0; the weighted sum is not what is
    // asked for here.
    let weights = LossWeights { mtp: 1.0, sequence_balance: 0.0 };
    let model = LanguageModel::new(model, weights, 1, compute.clone());

    let batches = data.batches(micro_batch);
    let count = args.batches.map_or(batches.len(), |most| {
        batches.len().min(usize::try_from(most).unwrap_or(usize::MAX))
    });
    let mut measured = Measured::default();
    let mut scored = ScoredBytes::new(&data.tokenizer);
    let mut progress = Progress::new(count);
    for batch in batches.take(count) {
        if signals.stopped() {
            break;
        }
        let windows = batch.context("the data cannot be read")?;
        let Some(tokens) = windows.first().map(|window| window.tokens.len() - 1) else { continue };
        let sequences = windows.len();
        for window in &windows {
            scored.add(&window.tokens[1..])?;
        }
        let mut batch = TokenBatcher::new(tokens).batch(windows, &selected.device);
        let inputs = batch.inputs.clone();
        let asked = routing.ask(&mut batch, Place::evaluation(0), model.runs_mtp());
        let asked = asked.context("--routing")?;
        let report = InferenceStep::step(&model, batch);
        asked.map_or(Ok(()), |asked| routing.told(asked)).context("--save-routing")?;
        if !report.loss.is_finite() {
            return Err(not_finite(&model.model, inputs, &compute, measured.batches));
        }
        measured.add(&report, sequences);
        signals.guard("stopping after this batch; once more to stop at once");
        progress.show(&measured);
    }
    measured.seconds = progress.started.elapsed().as_secs_f64();
    measured.bytes = scored.count()?;
    let interrupted = measured.batches < count;
    if interrupted {
        let done = measured.batches;
        let told =
            format!("interrupted after {done} of {count} micro-batches, of which this is:\n");
        write_stdout(&told)?;
    }
    let mut results = report(&source, args.weights(), &data, &measured, &selected.name)?;
    if let Some(path) = &args.expert_loads {
        let loads = ExpertLoads {
            n_group: Some(source.at.model.n_group),
            layer_loads: measured.report.layer_loads.clone(),
        };
        loads.write(path)?;
        write_stdout(&format!("loads       {}\n", path.display()))?;
    }
    if let Some((path, bytes)) = args.save_routing.as_ref().zip(routing.finish()?) {
        write_stdout(&format!("routing     {}, {bytes} bytes\n", path.display()))?;
        results["routing_bytes"] = json!(bytes);
    }
    results["format"] = json!(precision.name());
    results["routing"] = json!(args.routing);
    results["save_routing"] = json!(args.save_routing);
    results["expert_loads"] = json!(args.expert_loads);
    results["ema"] = json!(args.ema);
    results["interrupted"] = json!(interrupted);
    Ok(Outcome { results, interrupted })
}

/// Tokens a window and windows a micro-batch: as asked for, else the run's, else as many tokens as
/// the model has positions for, up to [`SEQ_LEN`], and one window.
fn windows(args: &EvalArgs, source: &Source) -> Result<(usize, usize)> {
    let limit = source.at.model.max_position_embeddings;
    let run = source.at.run.as_ref().map(|(_, config)| &config.train);
    let seq_len = args.seq_len.or(run.map(|train| train.seq_len)).unwrap_or(limit.min(SEQ_LEN));
    if seq_len > limit {
        let problem =
            format!("--seq-len {seq_len} is beyond the model's max_position_embeddings {limit}");
        return Err(UsageError(problem).into());
    }
    Ok((seq_len, args.micro_batch.or(run.map(|train| train.micro_batch)).unwrap_or(1)))
}

/// The saved routing that is replayed, and where the routing is saved.
fn routing(args: &EvalArgs, source: &Source) -> Result<RoutingTap> {
    let model = &source.at.model;
    check_routing_files(
        model,
        args.routing.as_deref(),
        args.save_routing.as_deref().map(|path| ("--save-routing", path)),
    )?;
    let saved = args.save_routing.as_ref();
    check_new_files([("--save-routing", saved)])?;
    let shape = RoutingShape::of(model);
    let replayed = args.routing.as_ref();
    let replayed = replayed.map(|path| SavedRouting::open(path, &shape, MadeBy::Eval));
    let saved = saved.map(|path| RoutingWriter::create(path, &shape, MadeBy::Eval));
    Ok(RoutingTap::new(
        replayed.transpose().context("--routing")?,
        saved.transpose().context("--save-routing")?,
    ))
}

/// Why a loss is not finite: where in the model that begins.
fn not_finite(
    model: &DeepSeek,
    inputs: Tensor<2, Int>,
    compute: &Compute,
    batch: usize,
) -> Failure {
    let what = format!("the loss of micro-batch {} is NaN or infinite", batch + 1);
    match NotFinite::look(model, inputs, compute) {
        Some(place) if place.weight.is_some() => UsageError(format!("{what}: {place}")).into(),
        Some(place) => Failure::new(format!("{what}: {place}")),
        None => Failure::new(what),
    }
}

/// The run's held-out data, or all of the files that were given.
fn open_data(args: &EvalArgs, source: &Source, seq_len: usize) -> Result<EvalData> {
    let (config, vocab_size) = (source.data(), source.at.model.vocab_size);
    let preparation = Preparation::new(&config, args.no_cache);
    let opening = preparation.opening();
    if !args.data.is_empty() {
        return Ok(EvalData::whole(&config, &args.data, seq_len, vocab_size, &opening)?);
    }
    let Some((checkpoint, _)) = &source.at.run else {
        let problem = format!(
            "--checkpoint {}: no run is here whose held-out data could be taken; give --data",
            args.checkpoint.display()
        );
        return Err(UsageError(problem).into());
    };
    let data = EvalData::held_out(&config, seq_len, vocab_size, &opening)?;
    if let (Some(saved), Some(now)) = (checkpoint.data()?, data.fingerprint()) {
        let changes = saved.changes(now);
        if !changes.is_empty() {
            preparation.note(&format!(
                "note: the run's data has changed since the checkpoint ({}): what is held out now \
                 may have been trained on",
                changes.join(", ")
            ));
        }
    }
    Ok(data)
}

/// Prints what was measured and makes the results.
fn report(
    source: &Source,
    weights: Weights,
    data: &EvalData,
    measured: &Measured,
    device: &str,
) -> Result<serde_json::Value> {
    let Measured { report, sequences, seconds, .. } = measured;
    // The end of an empty text is of no byte.
    let bits =
        (measured.bytes > 0).then(|| bits_per_byte(report.loss, report.tokens, measured.bytes));
    let shown_bits = bits.map_or("no".into(), |bits| format!("{bits:.4}"));
    let speed = report.tokens as f64 / seconds;
    let (entropy, floor) = (data.summary.entropy_floor(), data.window_floor(*sequences));
    let above = |floor: f64| 100.0 * (report.loss / floor - 1.0);
    let mtp_losses = measured.mtp_losses();
    let violations: Vec<(usize, f64)> =
        report.layer_loads.iter().map(|load| (load.layer, load.violation())).collect();

    let checkpoint = source.at.run.as_ref().map(|(checkpoint, _)| checkpoint);
    let path = checkpoint.map_or(&source.at.folder, |checkpoint| &checkpoint.path);
    let step = checkpoint.map(|checkpoint| checkpoint.position.step);
    let mut text = format!("checkpoint  {}", path.display());
    text += &step.map_or_else(String::new, |step| format!(", after step {step}"));
    text += if weights == Weights::Average { ", the average of the weights\n" } else { "\n" };
    text += &format!(
        "data        {}: {} tokens predicted in {sequences} windows\n",
        data.description, report.tokens
    );
    text += &format!(
        "loss        {:.4} nats a token (perplexity {:.3}, {shown_bits} bits a byte)\n",
        report.loss,
        report.loss.exp()
    );
    if let (Some(floor), Some(entropy)) = (floor, entropy) {
        text += &format!(
            "floor       {floor:.4} nats a token is what a perfect model loses on these windows: \
             {:.1}% above it\n",
            above(floor)
        );
        text += &format!(
            "entropy     {entropy:.4} nats a token of the documents: {:.1}% above it\n",
            above(entropy)
        );
    }
    for (k, loss) in (1..).zip(&mtp_losses) {
        text += &format!("MTP {k}       {loss:.4} nats for the token {} ahead\n", k + 1);
    }
    if !violations.is_empty() {
        let layers: Vec<String> =
            violations.iter().map(|(layer, value)| format!("layer {layer} {value:.2}")).collect();
        text += &format!("violation   {} (max load / mean load - 1)\n", layers.join(", "));
    }
    text += &format!("speed       {speed:.0} tokens/s on {device}\n");
    write_stdout(&fold_on_terminal(text))?;

    Ok(json!({
        "command": "eval",
        "checkpoint": path,
        "step": step,
        "device": device,
        "data": data.description,
        "batches": measured.batches,
        "windows": sequences,
        "tokens": report.tokens,
        "bytes": measured.bytes,
        "loss": report.loss,
        "perplexity": report.loss.exp(),
        "bits_per_byte": bits,
        "mtp_losses": mtp_losses,
        "max_violation": violations
            .iter()
            .map(|(layer, value)| json!({"layer": layer, "value": value}))
            .collect::<Vec<_>>(),
        "entropy_floor": entropy,
        "above_floor_percent": entropy.map(above),
        "window_floor": floor,
        "above_window_floor_percent": floor.map(above),
        "seconds": seconds,
        "tokens_per_second": speed,
    }))
}

/// Means over all tokens so far.
#[derive(Default)]
struct Measured {
    report: StepReport,
    /// Nats and targets of each MTP depth.
    mtp: Vec<(f64, usize)>,
    batches: usize,
    sequences: usize,
    /// Bytes of the text that was predicted.
    bytes: usize,
    seconds: f64,
}

impl Measured {
    fn add(&mut self, report: &StepReport, sequences: usize) {
        self.report.absorb(report);
        self.mtp.resize(self.mtp.len().max(report.mtp_losses.len()), (0.0, 0));
        for (k, (sum, loss)) in (1..).zip(self.mtp.iter_mut().zip(&report.mtp_losses)) {
            // Depth k has no target for the last k tokens of a sequence.
            let targets = report.tokens - k * sequences;
            *sum = (sum.0 + loss * targets as f64, sum.1 + targets);
        }
        self.batches += 1;
        self.sequences += sequences;
    }

    fn mtp_losses(&self) -> Vec<f64> {
        self.mtp.iter().map(|(nats, targets)| nats / *targets as f64).collect()
    }
}

/// Lines on standard error, for evaluations that take long.
struct Progress {
    batches: usize,
    started: Instant,
    shown: Instant,
}

impl Progress {
    fn new(batches: usize) -> Self {
        let now = Instant::now();
        Self { batches, started: now, shown: now }
    }

    fn show(&mut self, measured: &Measured) {
        if self.shown.elapsed() < PROGRESS_EVERY || measured.batches == self.batches {
            return;
        }
        self.shown = Instant::now();
        let left = self.started.elapsed().as_secs_f64() / measured.batches as f64
            * (self.batches - measured.batches) as f64;
        let loss = measured.report.loss;
        // Progress that nobody can read is no reason to stop.
        let _ = writeln!(
            std::io::stderr(),
            "batch {}/{}  loss so far {loss:.4}  left {}",
            measured.batches,
            self.batches,
            duration(left)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtp_losses_are_weighted_by_their_targets() {
        let report = |tokens, loss| StepReport {
            tokens,
            loss,
            mtp_losses: vec![loss],
            ..StepReport::default()
        };
        let mut measured = Measured::default();
        // Two sequences of four tokens: six targets one further ahead.
        measured.add(&report(8, 1.0), 2);
        measured.add(&report(3, 4.0), 1); // one of three: two
        // One of a single token: too short for any.
        measured.add(&StepReport { tokens: 1, loss: 9.0, ..StepReport::default() }, 1);
        assert_eq!(measured.mtp_losses(), [(6.0 + 8.0) / 8.0]);
        assert!((measured.report.loss - 29.0 / 12.0).abs() < 1e-12);
        assert_eq!((measured.batches, measured.sequences), (3, 4));
    }
}
