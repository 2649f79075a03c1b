//! `deepseek compare-precision`: the same run in several precisions, and how far their losses are
//! apart.

mod curves;
mod plot;
mod report;
mod result;
mod runs;
mod tables;
mod trained;

use std::path::{Path, PathBuf};
use std::time::Instant;

use self::report::{Comparison, FILES};
use self::result::{Ended, RunResult};
use self::runs::{NamedRun, Planned, planned};
use self::trained::train;
use super::routing_files::needs_routers;
use super::train::{Start, compute};
use crate::cli::{ComparePrecisionArgs, ConfigArgs, TokenArgs, TrainArgs};
use crate::config::ConfigError;
use crate::exit::Outcome;
use crate::failure::{Context, Result, UsageError};
use crate::fold::{fold, fold_on_terminal, width};
use crate::metrics::duration;
use crate::schedule::Position;
use crate::shell_word::quoted;
use crate::signals::Signals;
use crate::stdout::write_stdout;

/// What every run is trained on without `--config`.
const CONFIG: &str = "tiny-text";
/// Tokens that every run is trained for without `--tokens`.
const TOKENS: u64 = 2_000_000;
/// File of the baseline's routing, in the folder of its run.
const ROUTING_FILE: &str = "saved.routing";
/// Below everything that is set: only the losses are wanted.
const QUIET: [&str; 4] = [
    "train.eval_every=0",
    "train.checkpoint_every=0",
    "train.keep_checkpoints=1",
    "output.sample_tokens=0",
];

/// Trains the same run once a precision, one after another, and writes what came of it after each.
///
/// # Errors
/// A name, configuration, data or device that does not fit, or a folder that has a comparison
/// ([`crate::exit::USAGE`]); files that cannot be written ([`crate::exit::FAILURE`]). A run that
/// diverges is a result.
pub fn run(args: ComparePrecisionArgs, signals: &Signals) -> Result<Outcome> {
    let runs = planned(&runs::named(&args.runs)?, args.fixed_routing);
    let baseline = runs[0].run;
    let out = args.out.as_path();
    if FILES.iter().any(|name| out.join(name).exists()) {
        return Err(UsageError(format!(
            "{} already holds a comparison; give another --out",
            out.display()
        ))
        .into());
    }
    // All that can be wrong with any run is found before the first is trained.
    let selected = args.device.open()?;
    for &run in &runs {
        let config = training(&args, baseline, run, 0)?.config_request().resolve()?;
        compute(config.precision.precision(), &selected.device)?;
        if args.fixed_routing.is_some() {
            needs_routers("--fixed-routing", &config.model)?;
        }
    }

    let began = Instant::now();
    let mut comparison: Option<Comparison> = None;
    for (index, &run) in runs.iter().enumerate() {
        if let Some(comparison) = comparison.as_mut().filter(|_| run.fixed)
            && let Some(first) = comparison.runs.first()
            && first.ended != Ended::Complete
        {
            write_stdout(&fold_on_terminal(format!(
                "{} is not trained: {} {}, so there is no routing of all steps\n\n",
                run.name(),
                first.name,
                first.ended.name()
            )))?;
            comparison.planned -= 1;
            continue;
        }
        let mut start = Start::prepare(&training(&args, baseline, run, 0)?, None)?;
        if index == 0 {
            start.announce()?;
        }
        let left = match index {
            0 => String::new(),
            done => format!(
                ", about {} left in all",
                duration(began.elapsed().as_secs_f64() / done as f64 * (runs.len() - done) as f64)
            ),
        };
        let seeds = if args.seeds > 1 { format!(", {} seeds", args.seeds) } else { String::new() };
        let heading = format!(
            "run {} of {}: {}, {}{seeds}{left}\n",
            index + 1,
            runs.len(),
            run.name(),
            run.what(baseline.name)
        );
        write_stdout(&fold_on_terminal(heading))?;
        let comparison = match &mut comparison {
            Some(comparison) => comparison,
            none => none.insert(opened(&start, &args, runs.len())?),
        };
        let mut result = RunResult::new(run, baseline.name);
        result.absorb(train(&mut start, run, signals)?);
        for seed in 1..args.seeds {
            if result.ended != Ended::Complete {
                break;
            }
            write_stdout(&format!("{}, seed {} of {}\n", run.name(), seed + 1, args.seeds))?;
            let mut start = Start::prepare(&training(&args, baseline, run, seed)?, None)?;
            result.absorb(train(&mut start, run, signals)?);
        }
        result.compare(comparison);
        write_stdout(&fold_on_terminal(format!("{}\n\n", result.line())))?;
        comparison.runs.push(result);
        comparison.write(out)?;
        if signals.stopped() {
            break;
        }
    }
    let comparison = comparison.expect("invariant: there is at least one run");
    report(&comparison, out)
}

/// The arguments of `train` that make one of the runs, with the configuration's seed or one so much
/// after it.
fn training(
    args: &ComparePrecisionArgs,
    baseline: &NamedRun,
    planned: Planned,
    seed: u64,
) -> Result<TrainArgs, ConfigError> {
    let Planned { run, fixed } = planned;
    let folder = |name: &str| match args.seeds {
        0 | 1 => args.out.join(name),
        _ => args.out.join(name).join(format!("seed-{seed}")),
    };
    let saved = args.fixed_routing.map(|_| folder(baseline.name).join(ROUTING_FILE));
    let own_budget =
        args.config.config.is_some() || args.config.set.iter().any(|set| is_budget(set));
    let set = QUIET
        .iter()
        .map(ToString::to_string)
        .chain(args.config.set.clone())
        .chain(run.set.iter().map(ToString::to_string));
    let mut training = TrainArgs {
        config: ConfigArgs {
            config: Some(args.config.config.clone().unwrap_or_else(|| CONFIG.into())),
            set: set.collect(),
        },
        data: args.data.clone(),
        no_cache: args.no_cache,
        device: args.device.clone(),
        devices: Vec::new(),
        cluster: None,
        token: TokenArgs::default(),
        trace: None,
        resume: None,
        allow_changed_data: false,
        allow_oversize: false,
        run_dir: Some(folder(&planned.name())),
        routing: saved.clone().filter(|_| fixed),
        save_routing: saved.filter(|_| run == baseline),
        steps: None,
        tokens: args.tokens.or((!own_budget).then_some(TOKENS)),
        dashboard: None,
        dashboard_token_file: None,
        dashboard_token_env: None,
        json: false,
        plain: true,
    };
    if seed > 0 {
        let config = training.config_request().resolve()?;
        // Of given weights nothing is drawn: the seed that such runs differ by is that of the order
        // of the data.
        let (key, first) = match config.train.init_from {
            None => ("train.seed", config.train.seed),
            Some(_) => ("data.seed", config.data.seed),
        };
        training.config.set.push(format!("{key}={}", first.saturating_add(seed)));
    }
    if run.split {
        // An evaluation counts micro-batches too: it must still be of the same windows.
        let train = training.config_request().resolve()?.train;
        let windows = train.micro_batch * train.eval_batches;
        training
            .config
            .set
            .extend(["train.micro_batch=1".into(), format!("train.eval_batches={windows}")]);
    }
    Ok(training)
}

/// Whether a `--set` says how long to train.
fn is_budget(set: &str) -> bool {
    set.split_once('=').is_some_and(|(key, _)| matches!(key.trim(), "train.steps" | "train.tokens"))
}

/// A comparison without runs yet.
fn opened(start: &Start, args: &ComparePrecisionArgs, planned: usize) -> Result<Comparison> {
    let end = start
        .schedule
        .end_from(Position::default())
        .context("train.steps: the run has more samples than can be counted")?;
    let (steps, tokens_per_step) = (end.step as usize, end.tokens / end.step.max(1));
    let setting = format!(
        "{} parameters, {steps} steps of {tokens_per_step} tokens = {} tokens{}, on \
         {}.\n\n```\n{}\n```\n",
        start.config.model.parameter_counts().total,
        end.tokens,
        if args.seeds > 1 {
            format!(", losses averaged over {} seeds", args.seeds)
        } else {
            String::new()
        },
        start.device_name,
        start.data.summary
    );
    let arguments: Vec<String> = std::env::args().skip(1).map(|word| quoted(&word)).collect();
    Ok(Comparison {
        name: start.config.output.name.clone(),
        setting,
        device: start.device_name.clone(),
        steps,
        tokens_per_step,
        command: format!("deepseek {}", arguments.join(" ")),
        planned,
        runs: Vec::new(),
    })
}

/// Prints the table and where it is.
fn report(comparison: &Comparison, out: &Path) -> Result<Outcome> {
    let mut text = comparison.text(width());
    if let Some(said) = comparison.said_of_routing() {
        text += &format!("\n{said}");
    }
    if comparison.interrupted() {
        text += &format!(
            "\ninterrupted: {} of {} runs, the last perhaps in part\n",
            comparison.runs.len(),
            comparison.planned
        );
    }
    let written: Vec<PathBuf> =
        FILES.iter().map(|name| out.join(name)).filter(|path| path.exists()).collect();
    let written: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    text += &format!("\nwritten     {}\n", written.join(", "));
    write_stdout(&fold(&text, width()))?;
    Ok(Outcome { results: comparison.to_json(out), interrupted: comparison.interrupted() })
}
