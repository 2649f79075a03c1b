//! Whether a run can be made: every problem of every section at once, each with its key.

use super::error::ConfigError;
use super::watch::is_web_address;
use super::{
    AlertsConfig, EmaConfig, MetricsConfig, MomentsConfig, OptimizerConfig, OutputConfig,
    RunConfig, TrainConfig,
};
use crate::schedule::TrainingSchedule;

/// No count of sequences, tokens of a sequence or batches may be larger.
const MAX_SIZE: usize = 1 << 24;

impl RunConfig {
    /// Checks the model, every section, and the rules between them; `origin` names the
    /// configuration in the error.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all problems.
    pub fn validate(&self, origin: &str) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        if let Err(model) = self.model.validate() {
            problems.0.extend(model.0.iter().map(|problem| format!("model.{problem}")));
        }
        self.train.check(&mut problems);
        self.check_schedule(&mut problems);
        self.optimizer.check(&mut problems);
        self.ema.check(&mut problems);
        self.output.check(&mut problems);
        self.metrics.check(&mut problems);
        self.alerts.check(&mut problems);
        problems.0.extend(self.precision.problems());
        self.check_sequence(&mut problems);
        if problems.0.is_empty() {
            return Ok(());
        }
        Err(ConfigError::Invalid { origin: origin.into(), problems: problems.0 })
    }

    fn check_schedule(&self, problems: &mut Problems) {
        let Some(length) = self.train.length() else { return };
        if self.train.micro_batch > 0 && self.train.seq_len > 0 {
            match TrainingSchedule::new(
                &self.schedule,
                length,
                self.train.micro_batch,
                self.train.seq_len,
            ) {
                Err(found) => problems.0.extend(found),
                Ok(schedule) if self.model.validate().is_ok() => {
                    let micro_batches: Vec<usize> = schedule
                        .global_batches()
                        .iter()
                        .map(|batch| batch / self.train.micro_batch)
                        .collect();
                    problems.0.extend(self.parallel.problems(&self.model, &micro_batches));
                }
                Ok(_) => {}
            }
        }
    }

    fn check_sequence(&self, problems: &mut Problems) {
        let (seq_len, positions) = (self.train.seq_len, self.model.max_position_embeddings);
        if seq_len > positions {
            problems.add(format!(
                "train.seq_len = {seq_len} is more than model.max_position_embeddings = {positions}"
            ));
        }
        let depth = self.model.num_nextn_predict_layers;
        if seq_len > 0 && depth >= seq_len {
            problems.add(format!(
                "train.seq_len = {seq_len} is too short for model.num_nextn_predict_layers = \
                 {depth}; it must be longer than that"
            ));
        }
    }
}

impl TrainConfig {
    fn check(&self, problems: &mut Problems) {
        problems.positive("train.seq_len", self.seq_len);
        problems.positive("train.micro_batch", self.micro_batch);
        problems.positive("train.eval_batches", self.eval_batches);
        problems.positive("train.keep_checkpoints", self.keep_checkpoints);
        if self.log_every == 0 {
            problems.add("train.log_every = 0 must be at least 1".into());
        }
        match (self.steps, self.tokens) {
            (None, None) => problems.add(
                "train.steps or train.tokens is missing; one of them says how long to train".into(),
            ),
            (Some(_), Some(_)) => problems.add(
                "train.steps and train.tokens are both there; one of them says how long to train"
                    .into(),
            ),
            _ => {}
        }
        if i64::try_from(self.seed).is_err() {
            problems.add(format!(
                "train.seed = {} is more than a TOML number holds; the most is {}",
                self.seed,
                i64::MAX
            ));
        }
    }
}

impl OptimizerConfig {
    fn check(&self, problems: &mut Problems) {
        for (key, beta) in [("optimizer.beta1", self.beta1), ("optimizer.beta2", self.beta2)] {
            // Below 1 in FP32 too, in which it is computed with.
            if !(0.0..1.0).contains(&(beta as f32)) || beta >= 1.0 {
                problems.add(format!("{key} = {beta} must be at least 0 and below 1 in FP32"));
            }
        }
        if self.moments == MomentsConfig::Bf16 && !self.decays_in_bf16() {
            problems.add(format!(
                "optimizer.moments = \"bf16\" cannot hold decays as slow as optimizer.beta1 = {} \
                 and optimizer.beta2 = {}: its rounding \
                 stops them; take \"f32\", or decays of at most 0.996",
                self.beta1, self.beta2
            ));
        }
        let eps = self.eps as f32;
        if !(eps.is_finite() && eps > 0.0) {
            problems.add(format!("optimizer.eps = {} must be a number above 0 in FP32", self.eps));
        }
        problems.at_least_0("optimizer.weight_decay", self.weight_decay);
        problems.at_least_0("optimizer.clip_grad_norm", self.clip_grad_norm);
    }
}

impl EmaConfig {
    fn check(&self, problems: &mut Problems) {
        if let Some(decay) = self.decay
            && !(0.0..1.0).contains(&decay)
        {
            problems.add(format!(
                "ema.decay = {decay} must be at least 0 and below 1; none keeps no average"
            ));
        }
        if !(1..=MAX_SIZE as u64).contains(&self.every) {
            problems.add(format!("ema.every = {} must be from 1 to {MAX_SIZE}", self.every));
        }
    }
}

impl OutputConfig {
    fn check(&self, problems: &mut Problems) {
        let one_folder = !self.name.is_empty()
            && !self.name.contains(['/', '\\'])
            && self.name != "."
            && self.name != "..";
        if !one_folder {
            problems.add(format!("output.name = {:?} must be the name of one folder", self.name));
        }
        problems.at_least_0("output.sample_temperature", self.sample_temperature);
        if self.sample_tokens > MAX_SIZE {
            problems.add(format!(
                "output.sample_tokens = {} is too large; the most is {MAX_SIZE}",
                self.sample_tokens
            ));
        }
    }
}

/// Steps that are kept in memory for the rules of alerts.
const MOST_STEPS: usize = 10_000;

impl MetricsConfig {
    fn check(&self, problems: &mut Problems) {
        if self.every == 0 {
            problems.add("metrics.every = 0 must be at least 1".into());
        }
    }
}

impl AlertsConfig {
    fn check(&self, problems: &mut Problems) {
        let Self { window, loss_spike, loss_rise, expert_violation, .. } = *self;
        if self.webhook.as_deref().is_some_and(|address| !is_web_address(address)) {
            // Not said back: the most of it may be secret.
            let problem = "alerts.webhook must be an address as in \"https://host/path\", of http or \
                           https";
            problems.add(problem.into());
        }
        if !(2..=MOST_STEPS).contains(&window) {
            problems.add(format!("alerts.window = {window} must be from 2 to {MOST_STEPS}"));
        }
        if self.dead_experts > MOST_STEPS {
            let problem =
                format!("alerts.dead_experts = {} must be at most {MOST_STEPS}", self.dead_experts);
            problems.add(problem);
        }
        let numbers = [
            ("loss_spike", loss_spike, f64::MAX),
            ("loss_rise", loss_rise, f64::MAX),
            ("expert_violation", expert_violation, 1.0),
            ("throughput_drop", self.throughput_drop, 1.0),
            ("fp8_saturation", self.fp8_saturation, 1.0),
            ("lagging_rank", self.lagging_rank, f64::MAX),
            ("disk_free_gb", self.disk_free_gb, f64::MAX),
        ];
        for (key, value, most) in numbers {
            if !(0.0..=most).contains(&value) {
                let at_most = if most == 1.0 { "from 0 to 1" } else { "a number of at least 0" };
                problems.add(format!("alerts.{key} = {value} must be {at_most}"));
            }
        }
    }
}

/// The problems found so far.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: String) {
        self.0.push(problem);
    }

    fn positive(&mut self, key: &str, size: usize) {
        if size == 0 {
            self.add(format!("{key} = 0 must be at least 1"));
        } else if size > MAX_SIZE {
            self.add(format!("{key} = {size} is too large; the most is {MAX_SIZE}"));
        }
    }

    fn at_least_0(&mut self, key: &str, number: f64) {
        if !(number.is_finite() && number >= 0.0) {
            self.add(format!("{key} = {number} must be a number of at least 0"));
        }
    }
}
