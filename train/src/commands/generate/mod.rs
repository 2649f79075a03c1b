//! `deepseek generate`: a prompt continued, the text shown as it is decided, and how fast that
//! went.

mod placement;
mod printer;

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Instant;

use burn_deepseek::Precision;
use burn_deepseek::generate::{GenerateOptions, Generation, Sampling};
use burn_deepseek::weights::MtpWeights;
use serde_json::json;

use crate::cli::GenerateArgs;
use crate::exit::Outcome;
use crate::failure::Result;
use crate::model_folder::{Source, named};
use crate::oversize::check_forward;
use crate::signals::Signals;
use placement::Placement;
use printer::Printer;

/// Continues a prompt.
///
/// # Errors
/// A model, tokenizer, prompt or length that does not fit ([`crate::exit::USAGE`]); a checkpoint
/// that cannot be read, or standard output that cannot be written ([`crate::exit::FAILURE`]).
pub fn run(args: GenerateArgs, signals: &Signals) -> Result<Outcome> {
    let placement = args.expert_placement.as_deref().map(Placement::read).transpose()?;
    let opened = args.devices.iter().map(|device| device.open()).collect::<Result<Vec<_>, _>>()?;
    let selected = opened.first().cloned().map_or_else(|| args.device.open(), Ok)?;
    let mtp = if args.speculative { MtpWeights::Load } else { MtpWeights::Drop };
    let source = Source::open(&named(&args.checkpoint, args.best)?, args.weights())?;
    let prompt = source.encode(&args.prompt)?;
    check_forward(&source.at.model, prompt.len(), &selected, "take a shorter --prompt")?;
    let mut model = source.load(&selected.device, mtp, &Precision::F32)?;
    let options = GenerateOptions {
        max_new_tokens: args.max_new_tokens,
        sampling: Sampling { temperature: args.temperature, top_p: args.top_p, seed: args.seed },
        stop: source.at.stop.clone(),
        form: args.attention_form(),
        speculative: args.speculative,
    };

    let placed = match &placement {
        Some(placement) => Some(placement.place(&mut model, &selected, &opened)?),
        None => None,
    };
    let mut printer = Printer::new(&source.tokenizer, &args.prompt);
    let mut failure = None;
    let started = Instant::now();
    let on_token = |token| {
        // There is text now that would be lost.
        if printer.first.is_none() {
            signals.guard("stopping after this token; once more to stop at once");
        }
        match printer.token(token) {
            Ok(()) if signals.stopped() => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let generation = match &placed {
        None => model.generate(&prompt, &options, on_token)?,
        // Their experts compute on threads of their own, which a thread of the pool must not wait
        // for.
        Some(placed) => model.generate_with(&prompt, &options, &placed.compute(), on_token)?,
    };
    let ended = Instant::now();
    if let Some(error) = failure {
        return Err(error);
    }
    let speeds = Speeds::of(&generation, &options, started, &printer, ended);
    let text = printer.finish()?;
    // A closing remark for people: standard output has the text and nothing else.
    let _ = write!(std::io::stderr(), "\n{}", speeds.text(&generation, prompt.len()));
    let gpu_rows = placed.map(|experts| experts.gpu_rows());
    if let Some(gpu_rows) = &gpu_rows {
        let _ = write!(std::io::stderr(), "{}", placement::text(gpu_rows));
    }

    let complete =
        generation.stopped_by.is_some() || generation.tokens.len() == options.max_new_tokens;
    let interrupted = signals.stopped() && !complete;
    let results = json!({
        "command": "generate",
        "device": selected.name,
        "prompt": args.prompt,
        "text": text,
        "prompt_tokens": prompt.len(),
        "tokens": generation.tokens.len(),
        "prompt_token_ids": prompt,
        "token_ids": generation.tokens,
        "stopped_by": generation.stopped_by,
        "prefill_tokens_per_second": speeds.prefill(prompt.len()),
        "decode_tokens_per_second": speeds.decode(&generation),
        "passes": generation.passes,
        "drafted": generation.drafted,
        "accepted": generation.accepted,
        "acceptance_rate": generation.acceptance_rate(),
        "tokens_per_pass": tokens_per_pass(&generation),
        "gpu_rows": gpu_rows.map(|layers| {
            layers
                .iter()
                .map(|(layer, rows)| json!({"layer": layer, "rows": rows}))
                .collect::<Vec<_>>()
        }),
        "interrupted": interrupted,
    });
    Ok(Outcome { results, interrupted })
}

/// Seconds of the two phases: up to the first token, and from there to the last one.
struct Speeds {
    prefill_seconds: Option<f64>,
    decode_seconds: Option<f64>,
}

impl Speeds {
    fn of(
        generation: &Generation,
        options: &GenerateOptions,
        started: Instant,
        printer: &Printer<'_>,
        ended: Instant,
    ) -> Self {
        let first = printer.first.unwrap_or(ended);
        // The token that ends a text is not printed.
        let last = if generation.stopped_by.is_some() { Some(ended) } else { printer.last };
        Self {
            prefill_seconds: (options.max_new_tokens > 0).then(|| (first - started).as_secs_f64()),
            decode_seconds: last
                .filter(|_| generation.tokens.len() > 1)
                .map(|last| (last - first).as_secs_f64()),
        }
    }

    fn prefill(&self, prompt_tokens: usize) -> Option<f64> {
        self.prefill_seconds.map(|seconds| prompt_tokens as f64 / seconds.max(1e-9))
    }

    /// Tokens a second after the first, which is the prefill's.
    fn decode(&self, generation: &Generation) -> Option<f64> {
        self.decode_seconds.map(|seconds| (generation.tokens.len() - 1) as f64 / seconds.max(1e-9))
    }

    fn text(&self, generation: &Generation, prompt_tokens: usize) -> String {
        let mut text = String::new();
        let mut line = |name: &str, tokens: usize, seconds: Option<f64>, speed: Option<f64>| {
            if let (Some(seconds), Some(speed)) = (seconds, speed) {
                text +=
                    &format!("{name:<11} {tokens} tokens in {seconds:.3} s, {speed:.0} tokens/s\n");
            }
        };
        line("prefill", prompt_tokens, self.prefill_seconds, self.prefill(prompt_tokens));
        line(
            "decoding",
            generation.tokens.len().saturating_sub(1),
            self.decode_seconds,
            self.decode(generation),
        );
        if let Some(rate) = generation.acceptance_rate() {
            let Generation { drafted, accepted, .. } = generation;
            text += &format!(
                "speculation {accepted} of {drafted} drafts accepted ({:.1}%)",
                100.0 * rate
            );
            text += &tokens_per_pass(generation)
                .map_or_else(String::new, |tokens| format!(", {tokens:.2} tokens a pass"));
            text.push('\n');
        }
        text
    }
}

/// Tokens that each pass of the main model after the prompt decided.
fn tokens_per_pass(generation: &Generation) -> Option<f64> {
    (generation.passes > 0)
        .then(|| generation.tokens.len().saturating_sub(1) as f64 / generation.passes as f64)
}
