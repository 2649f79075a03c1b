//! `deepseek compare-precision`: the same run in several precisions, and how far their losses are
//! apart.

mod curves;
mod plot;
mod report;
mod runs;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn_train::Interrupter;

use self::curves::{ErrorSummary, closing_loss, relative_errors_percent};
use self::report::{Comparison, Ended, FILES, RunResult};
use self::runs::NamedRun;
use super::bench::median;
use super::stop_on_signals;
use super::train::{Start, compute, learn};
use crate::cli::{ComparePrecisionArgs, ConfigArgs, TokenArgs, TrainArgs};
use crate::config::ConfigError;
use crate::exit::Outcome;
use crate::failure::{Context, Result, UsageError};
use crate::metrics::duration;
use crate::schedule::Position;
use crate::stdout::write_stdout;
use crate::training::Diverged;

/// What every run is trained on without `--config`.
const CONFIG: &str = "tiny-text";
/// And for how long.
const TOKENS: u64 = 2_000_000;
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
pub fn run(args: ComparePrecisionArgs) -> Result<Outcome> {
    let interrupter = Interrupter::new();
    stop_on_signals(
        &interrupter,
        "stopping after this step and writing what there is; once more to stop at once",
    )?;
    let runs = runs::named(&args.runs)?;
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
    for run in &runs {
        compute(&training(&args, run, 0)?.config_request().resolve()?, &selected.device)?;
    }

    let began = Instant::now();
    let mut comparison: Option<Comparison> = None;
    for (index, run) in runs.iter().enumerate() {
        let mut start = Start::prepare(&training(&args, run, 0)?)?;
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
        write_stdout(&format!(
            "run {} of {}: {}, {}{seeds}{left}\n",
            index + 1,
            runs.len(),
            run.name,
            run.what
        ))?;
        let comparison = match &mut comparison {
            Some(comparison) => comparison,
            none => none.insert(opened(&start, &args, runs.len())?),
        };
        let mut result = RunResult::new(run);
        result.absorb(train(&mut start, run, &interrupter)?);
        for seed in 1..args.seeds {
            if result.ended != Ended::Complete {
                break;
            }
            write_stdout(&format!("{}, seed {} of {}\n", run.name, seed + 1, args.seeds))?;
            result.absorb(train(
                &mut Start::prepare(&training(&args, run, seed)?)?,
                run,
                &interrupter,
            )?);
        }
        result.compare(comparison);
        write_stdout(&format!("{}\n\n", result.line()))?;
        comparison.runs.push(result);
        comparison.write(out)?;
        if interrupter.should_stop() {
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
    run: &NamedRun,
    seed: u64,
) -> Result<TrainArgs, ConfigError> {
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
        device: args.device.clone(),
        devices: Vec::new(),
        cluster: None,
        token: TokenArgs::default(),
        trace: None,
        resume: None,
        run_dir: Some(if args.seeds > 1 {
            args.out.join(run.name).join(format!("seed-{seed}"))
        } else {
            args.out.join(run.name)
        }),
        steps: None,
        tokens: args.tokens.or((!own_budget).then_some(TOKENS)),
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
    let quoted = |argument: String| {
        if argument.contains(char::is_whitespace) { format!("'{argument}'") } else { argument }
    };
    let arguments: Vec<String> = std::env::args().skip(1).map(quoted).collect();
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

/// What one training came to.
struct Trained {
    ended: Ended,
    losses: Vec<f64>,
    valid_loss: Option<f64>,
    /// Milliseconds of each step.
    times: Vec<f64>,
}

/// Trains one run to its end, a signal or its divergence; its checkpoints are deleted, its metrics
/// stay.
fn train(start: &mut Start, run: &'static NamedRun, interrupter: &Interrupter) -> Result<Trained> {
    let (ended, outcome) = match learn(start, interrupter, false) {
        Ok(outcome) => {
            (if outcome.interrupted { Ended::Interrupted } else { Ended::Complete }, Some(outcome))
        }
        Err(error) if error.is::<Diverged>() => {
            // The learner was stopped for this run's sake; the next one begins afresh.
            interrupter.reset();
            (Ended::Diverged, None)
        }
        Err(error) => return Err(error.context(format!("run {}", run.name))),
    };
    let valid_loss =
        outcome.and_then(|outcome| outcome.evaluation).map(|evaluation| evaluation.loss);
    let mut trained = Trained { ended, losses: Vec::new(), valid_loss, times: Vec::new() };
    trained.read(&start.run_dir.join("metrics.jsonl"))?;
    let checkpoints = start.run_dir.join(crate::checkpoint::FOLDER);
    if checkpoints.exists() {
        std::fs::remove_dir_all(&checkpoints)
            .with_context(|| format!("{}: cannot delete", checkpoints.display()))?;
    }
    Ok(trained)
}

impl Trained {
    /// Takes losses and times of all steps from a run's metrics.
    fn read(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        for line in text.lines() {
            let step: serde_json::Value =
                serde_json::from_str(line).with_context(|| path.display().to_string())?;
            let number = |key: &str| step[key].as_f64();
            // An evaluation has no speed; a loss that is no number is written as null, and no step
            // follows it.
            let (Some(tokens), Some(speed), Some(loss)) =
                (number("tokens"), number("tokens_per_second"), number("loss"))
            else {
                continue;
            };
            self.losses.push(loss);
            self.times.push(1e3 * tokens / speed);
        }
        Ok(())
    }
}

impl RunResult {
    /// Takes the training of one more seed: losses are means over all of them, as far as every one
    /// came.
    fn absorb(&mut self, trained: Trained) {
        let seeds = self.seeds as f64;
        let mean = |all: f64, one: f64| (all * seeds + one) / (seeds + 1.0);
        self.losses = match self.seeds {
            0 => trained.losses,
            _ => self.losses.iter().zip(trained.losses).map(|(&all, one)| mean(all, one)).collect(),
        };
        self.valid_loss = match self.seeds {
            0 => trained.valid_loss,
            _ => self.valid_loss.zip(trained.valid_loss).map(|(all, one)| mean(all, one)),
        };
        self.seeds += 1;
        self.ended = trained.ended;
        self.seconds += trained.times.iter().sum::<f64>() / 1e3;
        self.times.extend(trained.times);
        self.step_ms = median(&self.times);
    }

    /// Works out everything that needs the other runs.
    fn compare(&mut self, comparison: &Comparison) {
        // A loss that blew up just before its end says nothing of where the run had come to.
        self.train_loss = closing_loss(&self.losses).filter(|_| self.ended != Ended::Diverged);
        match comparison.runs.first() {
            None => self.time_ratio = 1.0,
            Some(baseline) => {
                let errors = relative_errors_percent(&self.losses, &baseline.losses);
                self.errors = ErrorSummary::of(&errors, comparison.steps);
                self.time_ratio = self.step_ms / baseline.step_ms;
            }
        }
    }
}

/// Prints the table and where it is.
fn report(comparison: &Comparison, out: &Path) -> Result<Outcome> {
    let mut text = comparison.text();
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
    write_stdout(&text)?;
    Ok(Outcome { results: comparison.to_json(out), interrupted: comparison.interrupted() })
}

#[cfg(test)]
mod tests {
    use super::runs::RUNS;
    use super::*;

    #[test]
    fn losses_are_means_over_the_seeds_as_far_as_all_of_them_came() {
        let trained = |ended, losses: &[f64], valid_loss| Trained {
            ended,
            losses: losses.to_vec(),
            valid_loss,
            times: vec![2.0; losses.len()],
        };
        let mut result = RunResult::new(&RUNS[0]);
        result.absorb(trained(Ended::Complete, &[4.0, 2.0], Some(3.0)));
        result.absorb(trained(Ended::Complete, &[1.0, 5.0], Some(6.0)));
        result.absorb(trained(Ended::Complete, &[1.0, 2.0], Some(0.0)));
        assert_eq!(
            (&result.losses[..], result.valid_loss, result.seeds),
            (&[2.0, 3.0][..], Some(3.0), 3)
        );
        assert_eq!((result.seconds, result.step_ms, result.ended), (0.012, 2.0, Ended::Complete));
        result.absorb(trained(Ended::Diverged, &[6.0], None));
        assert_eq!(
            (&result.losses[..], result.valid_loss, result.ended),
            (&[3.0][..], None, Ended::Diverged)
        );
    }
}
