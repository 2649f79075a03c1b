//! The end of a run: its losses beside what they could be, a sample, and where everything lies.

use std::ops::ControlFlow;
use std::path::Path;

use burn::module::Module;
use burn_deepseek::EndTokens;
use burn_deepseek::attention::AttentionForm;
use burn_deepseek::generate::{GenerateOptions, Sampling};
use burn_deepseek::weights::MtpWeights;
use serde_json::json;

use super::start::Start;
use super::timeline;
use crate::checkpoint::{Checkpoint, Purpose, Weights};
use crate::exit::Outcome;
use crate::failure::Result;
use crate::fold::fold_on_terminal;
use crate::metrics::duration;
use crate::signals::Signals;
use crate::stdout::write_stdout;
use crate::training::RunOutcome;

/// Prints the closing lines and makes the results.
///
/// # Errors
///
/// The sample cannot be made; the trace cannot be written.
pub(super) fn report(
    start: &Start,
    outcome: RunOutcome,
    trace: Option<&Path>,
    signals: &Signals,
) -> Result<Outcome> {
    let mut text = String::from("\n");
    let position = &outcome.position;
    let floor = start.data.summary.valid.entropy_floor();
    let bytes_per_token = start.bytes_per_token();
    if outcome.interrupted {
        let (step, end) = (position.step, start.schedule.end().step);
        let during = if step < end { "" } else { ", in the evaluation that closes the run" };
        text += &format!("interrupted after step {step} of {end}{during}\n");
    }
    let mut results = json!({
        "command": "train",
        "run_dir": start.folder.path,
        "checkpoint": outcome.checkpoint,
        "device": start.device_name,
        "steps": position.step,
        "tokens": position.tokens,
        "seconds": position.train_seconds,
        "session_tokens": outcome.session.tokens,
        "session_seconds": outcome.session.seconds,
        "tokens_per_second": outcome.session.tokens_per_second(),
        "interrupted": outcome.interrupted,
        "entropy_floor": floor,
    });
    if let Some(step) = &outcome.last_step {
        results["train_loss"] = json!(step.loss);
        results["grad_norm"] = json!(step.grad_norm);
        results["max_violation"] = json!(step.max_violation());
        if let Some(exchange) = &step.exchange {
            text += &format!("exchange    {}\n", exchange.describe());
            results["exchange"] = json!(exchange);
        }
    }
    let closing = outcome.closing_evaluation();
    if let (None, Some((step, earlier))) = (closing, &outcome.evaluation) {
        text += &format!(
            "validation  not measured at the end; {:.4} nats a token after step {step}\n",
            earlier.loss
        );
    }
    if let Some(evaluation) = closing {
        let (perplexity, bits) =
            (evaluation.perplexity(), evaluation.bits_per_byte(bytes_per_token));
        text += &format!(
            "validation  {:.4} nats a token (perplexity {perplexity:.3}, {bits:.4} bits a byte)\n",
            evaluation.loss
        );
        if let Some(floor) = floor {
            let above = 100.0 * (evaluation.loss / floor - 1.0);
            text += &format!(
                "floor       {floor:.4} nats a token is the entropy of this text: the model is \
                 {above:.1}% above it\n"
            );
            results["above_floor_percent"] = json!(above);
        }
        let windows = start.config.train.eval_batches * start.config.train.micro_batch;
        if let Some(windowed) = start.data.window_floor(windows) {
            text += &format!(
                "            (a perfect model would have {windowed:.4} here: windows begin inside \
                 documents that it has not seen)\n"
            );
            results["window_floor"] = json!(windowed);
        }
        for (k, loss) in (1..).zip(&evaluation.mtp_losses) {
            text += &format!("MTP {k}       {loss:.4} nats for the token {} ahead\n", k + 1);
        }
        results["valid_loss"] = json!(evaluation.loss);
        results["valid_mtp_losses"] = json!(evaluation.mtp_losses);
        results["valid_perplexity"] = json!(perplexity);
        results["valid_bits_per_byte"] = json!(bits);
    }
    text += &speed(&outcome);
    text = fold_on_terminal(text);
    if !outcome.interrupted
        && let Some(sample) = sample(start, &outcome, signals)?
    {
        text += &format!("sample      {}\n", sample.trim_end().replace('\n', "\n            "));
        results["sample"] = json!(sample);
    }
    let mut ending = String::new();
    // A trace that cannot be written must not hide what came of the run.
    let mut written = Ok(());
    if let Some(report) = start.cluster.as_ref().map(timeline::Report::of).transpose()?.flatten() {
        ending += &report.text();
        results["timeline"] = report.results();
        if let Some(path) = trace {
            written = report.write(path);
            if written.is_ok() {
                ending += &format!(
                    "trace       {}  (open it in ui.perfetto.dev or chrome://tracing)\n",
                    path.display()
                );
                results["trace"] = json!(path);
            }
        }
    }
    if let Some(path) = &outcome.checkpoint {
        ending += &format!("checkpoint  {}\n", path.display());
    }
    let run = start.folder.path.display();
    ending += &format!("run         {run}\n");
    if outcome.checkpoint.is_some() {
        ending += &format!(
            "go on       deepseek train --resume {run}\n\
             sample with deepseek generate --checkpoint {run}\n"
        );
    }
    write_stdout(&(text + &fold_on_terminal(ending)))?;
    written?;
    Ok(Outcome { results, interrupted: outcome.interrupted })
}

/// How fast this session was, and what the whole run took where that is more.
fn speed(outcome: &RunOutcome) -> String {
    let (session, position) = (&outcome.session, &outcome.position);
    let mut text = String::new();
    if let Some(speed) = session.tokens_per_second() {
        text += &format!(
            "speed       {speed:.0} tokens/s, {} tokens in {} of training\n",
            session.tokens,
            duration(session.seconds)
        );
    }
    if position.tokens > session.tokens as u64 {
        text += &format!(
            "in all      {} tokens in {} of training\n",
            position.tokens,
            duration(position.train_seconds)
        );
    }
    text
}

/// Text from the checkpoint just saved: what is shown is what was kept. None where a signal comes.
fn sample(start: &Start, outcome: &RunOutcome, signals: &Signals) -> Result<Option<String>> {
    let output = &start.config.output;
    let Some(path) = outcome.checkpoint.as_ref().filter(|_| output.sample_tokens > 0) else {
        return Ok(None);
    };
    let weights = Weights::Trained;
    let checkpoint = Checkpoint::open(path, Purpose::Running(weights))?;
    let model = checkpoint.model(&start.device, MtpWeights::Drop, weights)?.no_grad();
    let tokenizer = &start.data.tokenizer;
    let mut prompt = vec![tokenizer.eod()];
    prompt.extend(tokenizer.encode_prompt(&output.sample_prompt)?);
    let room = model.config().max_position_embeddings.saturating_sub(prompt.len());
    let options = GenerateOptions {
        max_new_tokens: output.sample_tokens.min(room),
        sampling: Sampling {
            temperature: output.sample_temperature,
            top_p: 1.0,
            seed: start.config.train.seed,
        },
        stop: EndTokens::NONE,
        form: AttentionForm::Auto,
        speculative: false,
    };
    let generation = model.generate(&prompt, &options, |_| match signals.stopped() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })?;
    if signals.stopped() {
        return Ok(None);
    }
    // A line a document: the token that ends one has no text of its own.
    let documents = generation.tokens.split(|&token| token == tokenizer.eod());
    let lines =
        documents.map(|document| tokenizer.decode(document)).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(output.sample_prompt.clone() + &lines.join("\n")))
}
