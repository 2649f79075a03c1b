//! `deepseek check`: a configuration resolved, counted and weighed, without allocating any of it.

mod checkpoint;

use std::fmt::Write;

use burn_deepseek::Precision;
use burn_deepseek::config::{DeepSeekConfig, Keeping, ParameterCounts};
use burn_deepseek::precision::{Operation, Rule};
use serde_json::json;

use super::products::products_on_cpu;
use crate::cli::CheckArgs;
use crate::config::{ConfigError, ConfigRequest, MemoryEstimate, RunConfig, resolve_model};
use crate::digits::grouped;
use crate::exit::Outcome;
use crate::failure::Result;
use crate::fold::{fold, width};
use crate::parallel::library;
use crate::schedule::TrainingSchedule;
use crate::signals::Signals;
use crate::stdout::write_stdout;

/// Prints the configuration as TOML, with its counts and its memory as comments; nothing where
/// the results are asked for as JSON.
///
/// # Errors
/// [`ConfigError`] where the configuration cannot be resolved; standard output that cannot be
/// written.
pub fn run(args: CheckArgs, signals: &Signals) -> Result<Outcome> {
    if let Some(path) = &args.checkpoint {
        return checkpoint::run(path, args.deep, args.json, signals);
    }
    let checked = check(&args)?;
    // The configuration is in the object, too.
    if !args.json {
        write_stdout(&checked.text(width()))?;
    }
    Ok(Outcome::done(checked.results()))
}

/// Bytes of one moment of a model alone.
const BF16_BYTES: u64 = 2;

/// What was checked, and what came of it.
struct Checked {
    toml: String,
    run: Option<RunConfig>,
    schedule: Option<TrainingSchedule>,
    model: DeepSeekConfig,
    counts: ParameterCounts,
    memory: MemoryEstimate,
    keeping: Keeping,
}

fn check(args: &CheckArgs) -> Result<Checked, ConfigError> {
    let set = &args.config.set;
    if args.preset.is_some() || args.hugging_face.is_some() {
        let model = resolve_model(args.preset.as_deref(), args.hugging_face.as_deref(), set)?;
        let toml = toml::to_string(&model).map_err(|error| ConfigError::Invalid {
            origin: "resolved model".into(),
            problems: vec![error.to_string()],
        })?;
        // A model alone has no batch: one sequence of a usual length.
        let seq_len = model.max_position_embeddings.min(4096);
        let keeping = Keeping { precision: Precision::F32, recompute: false, tokens: seq_len };
        let memory = MemoryEstimate::of(&model, &keeping, BF16_BYTES, false);
        return Ok(Checked {
            toml,
            run: None,
            schedule: None,
            counts: model.parameter_counts(),
            memory,
            keeping,
            model,
        });
    }
    let request = ConfigRequest {
        config: args.config.config.clone(),
        set: set.clone(),
        ..ConfigRequest::default()
    };
    let run = request.resolve()?;
    // What a device without BF16 would take instead is not known here.
    let moment_bytes = run.optimizer.moment_bytes();
    let keeping = Keeping {
        precision: run.precision.precision(),
        recompute: run.precision.recompute,
        tokens: run.train.micro_batch.saturating_mul(run.train.seq_len),
    };
    let memory = MemoryEstimate::of(&run.model, &keeping, moment_bytes, run.ema.decay.is_some());
    let schedule = Some(run.schedule()?);
    let (toml, counts, model) = (run.to_toml()?, run.model.parameter_counts(), run.model.clone());
    Ok(Checked { toml, schedule, counts, memory, keeping, model, run: Some(run) })
}

impl Checked {
    fn results(&self) -> serde_json::Value {
        let mut results = json!({
            "command": "check",
            "model": self.model,
            "parameters": self.counts,
            "parameters_with_mtp": self.counts.total_with_mtp(),
            "memory": self.memory,
            "mpi": library(),
        });
        if let Some(run) = &self.run {
            results["config"] = json!(run);
            results["precision"] = Operation::ALL
                .iter()
                .map(|&op| (op.name(), self.keeping.precision.rule(op).describe()))
                .collect();
        }
        if let Some(schedule) = &self.schedule {
            results["steps"] = json!(schedule.end().step);
            results["tokens"] = json!(schedule.end().tokens);
            results["schedule"] = json!(schedule.rows());
        }
        results
    }

    fn text(&self, width: usize) -> String {
        let mut text = self.toml.clone();
        let mut comment = |line: String| {
            let line = format!("#{}{line}", if line.is_empty() { "" } else { " " });
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", fold(&line, width));
        };
        let counts = &self.counts;
        comment(String::new());
        comment("parameters".into());
        for (name, count) in [
            ("embedding", counts.embedding),
            ("head", counts.head),
            ("attention", counts.attention),
            ("dense layers", counts.dense),
            ("routed experts", counts.routed),
            ("shared experts", counts.shared),
            ("routers", counts.router),
            ("norms", counts.norms),
            ("total", counts.total),
            ("active a token", counts.active),
            ("MTP modules, beside the total", counts.mtp),
        ] {
            comment(format!("  {name:<30} {:>20}", grouped(count)));
        }
        let memory = &self.memory;
        comment(String::new());
        comment("memory, estimated".into());
        for (name, bytes) in [
            ("weights".to_string(), memory.weights_bytes),
            ("gradients".to_string(), memory.gradients_bytes),
            ("AdamW's moments".to_string(), memory.adamw_bytes),
            ("average of the weights".to_string(), memory.ema_bytes),
            (
                format!("activations of {} tokens", grouped(memory.activation_tokens)),
                memory.activations_bytes,
            ),
            ("training, together".to_string(), memory.total_bytes),
        ] {
            comment(format!("  {name:<30} {:>20}", binary(bytes)));
        }
        comment(format!(
            "  {:<30} {:>20} bytes in F32, {} in BF16",
            "KV cache, each token",
            grouped(memory.kv_cache_bytes_per_token_f32),
            grouped(memory.kv_cache_bytes_per_token_bf16)
        ));
        for line in self.kept_table() {
            comment(line);
        }
        if self.run.is_some() {
            comment(String::new());
            comment(
                "formats: input | weight of each product, and what backward computes again".into(),
            );
            for operation in Operation::ALL {
                let rule = self.keeping.precision.rule(operation);
                let again = match (
                    self.keeping.recompute,
                    operation.recomputed(),
                    operation.takes_swiglu(),
                ) {
                    (true, true, _) => "  computed again",
                    (true, _, true) => "  SwiGLU computed again",
                    (false, _, true) if matches!(rule, Rule::Fp8(_)) => "  SwiGLU computed again",
                    _ => "",
                };
                comment(format!("  {:<30} {}{again}", operation.name(), rule.describe()));
            }
        }
        if let Some(products) = products_on_cpu() {
            comment(String::new());
            comment(format!("products in BF16 and FP8 on this CPU: {products}"));
        }
        if let Some(library) = library() {
            comment(String::new());
            comment(format!("ranks as processes: {library}"));
        }
        if let Some(schedule) = &self.schedule {
            comment(String::new());
            comment("schedule, at the first step and at the last one of each segment".into());
            for line in schedule.table() {
                comment(format!("  {line}"));
            }
            comment(String::new());
            comment(format!(
                "training: {} steps, {} tokens",
                grouped(schedule.end().step),
                grouped(schedule.end().tokens)
            ));
        }
        text
    }

    /// What the first layer of each kind keeps for backward, beside what it would keep with and
    /// without recomputation.
    fn kept_table(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for kind in ["dense", "MoE"] {
            let Some(layer) = (0..self.model.num_hidden_layers)
                .find(|&layer| self.model.is_moe_layer(layer) == (kind == "MoE"))
            else {
                continue;
            };
            let bytes = |recompute| {
                let kept =
                    self.model.kept_activations(layer, &Keeping { recompute, ..self.keeping });
                kept.iter().map(|tensor| tensor.bytes).sum::<u64>()
            };
            lines.push(String::new());
            lines.push(format!(
                "kept for backward by a {kind} layer: {}; {} without recomputation, {} with it",
                binary(bytes(self.keeping.recompute)),
                binary(bytes(false)),
                binary(bytes(true))
            ));
            for tensor in self.model.kept_activations(layer, &self.keeping) {
                lines.push(format!("  {:<36} {:>14}", tensor.name, binary(tensor.bytes)));
            }
        }
        lines
    }
}

/// Bytes in the binary unit that leaves fewest digits.
fn binary(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ConfigArgs;

    fn args(preset: Option<&str>) -> CheckArgs {
        CheckArgs {
            config: ConfigArgs::default(),
            preset: preset.map(str::to_string),
            hugging_face: None,
            checkpoint: None,
            deep: false,
            json: false,
        }
    }

    #[test]
    fn deepseek_v3_is_counted_in_text_and_json() {
        let checked = check(&args(Some("deepseek-v3-671b"))).unwrap();
        let text = checked.text(80);
        for figure in ["671,026,419,200", "37,552,297,472", "11,610,068,224", "70,272"] {
            assert!(text.contains(figure), "{figure} not in\n{text}");
        }
        assert_eq!(checked.results()["parameters"]["total"], 671_026_419_200_u64);
    }

    #[test]
    fn what_is_printed_can_be_fed_back() {
        let checked = check(&args(None)).unwrap();
        let again = RunConfig::from_toml(&checked.text(80), "printed").unwrap();
        assert_eq!(Some(again), checked.run);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(["0", "999", "1,000", "12,345,678"], [0, 999, 1000, 12_345_678].map(grouped));
        assert_eq!(["0.0 B", "1.0 KiB", "1.5 MiB"], [0, 1024, 3 << 19].map(binary));
        assert!(binary(u64::MAX).ends_with("PiB"));
    }
}
