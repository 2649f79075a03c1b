//! The end of a run: its losses beside what they could be, a sample, and where everything lies.

use std::path::Path;

use serde_json::json;

use super::memory;
use super::start::Start;
use super::timeline;
use crate::exit::Outcome;
use crate::failure::Result;
use crate::fold::fold_on_terminal;
use crate::metrics::duration;
use crate::record::AlertLine;
use crate::shell_word::quoted;
use crate::stdout::write_stdout;
use crate::training::RunOutcome;

/// Prints the closing lines and makes the results.
///
/// # Errors
///
/// The sample cannot be made; the trace cannot be written.
pub(super) fn report(start: &Start, outcome: RunOutcome, trace: Option<&Path>) -> Result<Outcome> {
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
        "save_routing": start.saved_routing,
        "routing_bytes": outcome.routing_bytes,
    });
    if let Some(step) = &outcome.last_step {
        results["train_loss"] = json!(step.loss);
        results["grad_norm"] = json!(step.grad_norm);
        results["max_violation"] = json!(step.max_violation());
        if let Some(exchange) = &step.exchange {
            text += &format!("exchange    {}\n", exchange.describe());
            results["exchange"] = json!(exchange);
            if let Some(share) = step.passes.hidden_share() {
                text += &format!(
                    "hidden      {:.0}% of the time in which rows were in flight in the last step: \
                     another micro-batch was computed\n",
                    100.0 * share
                );
                results["exchange_hidden_share"] = json!(share);
            }
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
    if let Some(sample) = outcome.sample.as_ref().filter(|_| !outcome.interrupted) {
        let said = sample.text.trim_end().replace('\n', "\n            ");
        text += &format!("sample      {said}\n");
        results["sample"] = json!(sample.text);
        if let Some(acceptance) = sample.mtp_acceptance {
            text +=
                &format!("drafts      {:.0}% of the MTP modules' are taken\n", 100.0 * acceptance);
            results["mtp_acceptance"] = json!(acceptance);
        }
    }
    if let Some(memory) = memory::Report::of(&start.config, &outcome.peak_memory) {
        text += &memory.text();
        results["memory"] = memory.results();
    }
    text += &fold_on_terminal(alerts(&outcome.alerts));
    results["alerts"] = json!(outcome.alerts);
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
    if let (Some(path), Some(bytes)) = (&start.saved_routing, outcome.routing_bytes) {
        ending += &format!("routing     {}, {bytes} bytes\n", path.display());
    }
    if let Some(path) = &outcome.checkpoint {
        ending += &format!("checkpoint  {}\n", path.display());
    }
    let run = start.folder.path.display();
    ending += &format!("run         {run}\n");
    if outcome.checkpoint.is_some() {
        let run = quoted(&run.to_string());
        ending += &format!("go on       deepseek train --resume {run}");
        if position.step >= start.schedule.end().step && !outcome.interrupted {
            ending += " --steps N";
        }
        ending += &format!("\nsample with deepseek generate --checkpoint {run}\n");
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

/// How many alerts there were, and the last of them.
fn alerts(alerts: &[AlertLine]) -> String {
    let Some(last) = alerts.last() else { return String::new() };
    let told = format!("step {}: {}: {}", last.stamp.step, last.level.name(), last.message);
    match alerts.len() {
        1 => format!("alert       {told}\n"),
        count => format!("alerts      {count}, the last after {told}\n"),
    }
}
