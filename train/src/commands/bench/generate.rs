//! Prefill and greedy decoding of one sequence, in both forms of the attention.

use std::ops::ControlFlow;
use std::time::Instant;

use burn::module::Module;
use burn_deepseek::attention::AttentionForm;
use burn_deepseek::generate::{GenerateOptions, Sampling};
use burn_deepseek::{DeepSeek, EndTokens};

use super::table::{Table, Times};
use super::{REPS, Repetitions, open, random_tokens, resolve, tell};
use crate::cli::BenchModelArgs;
use crate::config::RunConfig;
use crate::device::SelectedDevice;
use crate::exit::Outcome;
use crate::failure::Result;

/// Tokens of the prompt.
const PREFILL_TOKENS: usize = 512;
/// Passes of one token after it.
const DECODE_TOKENS: usize = 64;
/// Seed of the prompt.
const TOKENS_SEED: u64 = 2;
/// What decodes, the usual form first, and what its rows are called.
const FORMS: [(&str, AttentionForm); 3] = [
    ("", AttentionForm::Auto),
    (", absorbed", AttentionForm::Absorbed),
    (", naive", AttentionForm::Expanded),
];

/// Times prefill and decoding.
///
/// # Errors
/// A setting or a device that is not there, or a device that fails.
pub(super) fn run(args: &BenchModelArgs) -> Result<Outcome> {
    let config = resolve(args, &[])?;
    let selected = open(args, &[&config])?;
    tell(time(&config, &selected, Repetitions::new(&args.timing, REPS))?, &selected)
}

/// Prefill (logits of the last token only), then greedy decoding, by the library's `generate`. What
/// is timed ends in a read of the logits, so the device has done its work.
fn time(config: &RunConfig, selected: &SelectedDevice, reps: Repetitions) -> Result<Table> {
    let model = DeepSeek::init(&config.model, config.train.seed, &selected.device)?.no_grad();
    let prompt = random_tokens(config, PREFILL_TOKENS, TOKENS_SEED);
    let setting = format!(
        "{} parameters, prompt of {PREFILL_TOKENS} tokens, {DECODE_TOKENS} decoded, batch 1, \
         median of {} after {}",
        config.model.parameter_counts().total,
        reps.timed,
        reps.warmup
    );
    let mut table = Table::new("generate", setting, &selected.name);
    let mut forms = FORMS.map(|(name, form)| (name, form, Times::new(), Times::new()));
    for rep in 0..reps.warmup.saturating_add(reps.timed) {
        // The forms take turns, so that what else the machine does falls on all of them.
        for (_, form, prefill, decode) in &mut forms {
            let (prefill_ms, decode_ms) = generate(&model, &prompt, *form)?;
            if rep >= reps.warmup {
                prefill.push(prefill_ms);
                decode.push(decode_ms);
            }
        }
    }
    for (name, form, prefill, decode) in &forms {
        // Auto expands the prompt as naive does and decodes as absorbed does: those rows would say
        // the same twice.
        if *form != AttentionForm::Expanded {
            table.time(&format!("prefill{name}"), prefill);
            table.speed(&format!("prefill speed{name}"), PREFILL_TOKENS, prefill);
        }
        if *form != AttentionForm::Absorbed {
            table.time(&format!("decode{name}"), decode);
            table.speed(&format!("decode speed{name}"), DECODE_TOKENS, decode);
        }
    }
    for name in ["prefill", "prefill speed"] {
        table.compare(name, &format!("{name}, absorbed"));
    }
    for name in ["decode", "decode speed"] {
        table.compare(name, &format!("{name}, naive"));
    }
    Ok(table)
}

/// Milliseconds of prefill and of decoding. The prefill decides the first token, so as many passes
/// follow as tokens are decoded.
fn generate(model: &DeepSeek, prompt: &[u32], form: AttentionForm) -> Result<(f64, f64)> {
    let options = GenerateOptions {
        max_new_tokens: DECODE_TOKENS + 1,
        sampling: Sampling::GREEDY,
        stop: EndTokens::NONE,
        form,
        speculative: false,
    };
    let begin = Instant::now();
    let mut first = None;
    model.generate(prompt, &options, |_| {
        first.get_or_insert_with(Instant::now);
        ControlFlow::Continue(())
    })?;
    let (first, end) = (first.unwrap_or(begin), Instant::now());
    Ok(((first - begin).as_secs_f64() * 1e3, (end - first).as_secs_f64() * 1e3))
}
