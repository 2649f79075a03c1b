//! Rules over a run's record, and the alerts that they raise.
//!
//! **Invariant.** What is raised by a line is a function of the lines up to it. So a run that was
//! stopped and goes on raises what it would have raised, once.

use std::collections::{BTreeSet, VecDeque};

use crate::config::AlertsConfig;
use crate::record::{
    AlertLevel, AlertLine, EvaluationLine, Fp8Casts, Line, Stamp, StepLine, SystemLine,
};

/// Steps whose median speed is compared with the window's.
const RECENT: usize = 8;
/// Recorded steps in a row in which a rank lags before that is told.
const LAGGING: usize = 5;
/// What a rule needs besides its number: the loss of a run that goes well moves by about this share.
const LEAST_DEVIATION: f64 = 0.01;

/// The experts of a model, as far as rules know them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertCounts {
    /// Routed experts of a layer.
    pub experts: usize,
    /// Experts that a token chooses.
    pub chosen: usize,
}

/// The rules, and what they know of the run so far.
#[derive(Debug)]
pub(super) struct Alerts {
    config: AlertsConfig,
    experts: ExpertCounts,
    losses: VecDeque<f64>,
    speeds: VecDeque<f64>,
    violations: VecDeque<Vec<f64>>,
    /// For the last recorded loads, layer by layer and expert by expert, whether a token came.
    chosen: VecDeque<Vec<Vec<bool>>>,
    /// For the last recorded steps the rank that computed longest of all, and how many times as long
    /// as the median of the others.
    lags: VecDeque<(usize, f64)>,
    least_mean: f64,
    best_valid: f64,
    worse_in_a_row: u64,
    /// Rules that hold.
    holding: BTreeSet<&'static str>,
}

/// What a rule saw.
struct Seen {
    level: AlertLevel,
    message: String,
    value: f64,
    threshold: f64,
}

impl Alerts {
    pub fn new(config: AlertsConfig, experts: ExpertCounts) -> Self {
        Self {
            config,
            experts,
            losses: VecDeque::new(),
            speeds: VecDeque::new(),
            violations: VecDeque::new(),
            chosen: VecDeque::new(),
            lags: VecDeque::new(),
            least_mean: f64::INFINITY,
            best_valid: f64::INFINITY,
            worse_in_a_row: 0,
            holding: BTreeSet::new(),
        }
    }

    /// Forgets how fast earlier sessions were: this one may be on another machine.
    pub fn begin_session(&mut self) {
        self.speeds.clear();
        self.lags.clear();
    }

    /// Takes the next line of the record; what it raises.
    pub fn observe(&mut self, line: &Line) -> Vec<AlertLine> {
        let found = match line {
            Line::Step(step) => self.of_step(step),
            Line::Evaluation(evaluation) => vec![("valid_rise", self.valid_rise(evaluation))],
            Line::System(system) => vec![("disk_free_gb", self.disk_free(system))],
            Line::Sample(_) | Line::Alert(_) => Vec::new(),
        };
        found.into_iter().filter_map(|(rule, seen)| self.raised(rule, seen, line.stamp())).collect()
    }

    /// An alert, where its rule did not hold before.
    fn raised(
        &mut self,
        rule: &'static str,
        seen: Option<Seen>,
        stamp: &Stamp,
    ) -> Option<AlertLine> {
        let Some(Seen { level, message, value, threshold }) = seen else {
            self.holding.remove(rule);
            return None;
        };
        self.holding.insert(rule).then(|| AlertLine {
            stamp: stamp.clone(),
            level,
            rule: rule.into(),
            message,
            value,
            threshold,
        })
    }

    fn of_step(&mut self, step: &StepLine) -> Vec<(&'static str, Option<Seen>)> {
        let mut found =
            vec![("diverged", diverged(step)), ("loss_spike", self.loss_spike(step.loss))];
        let window = self.config.window;
        if step.loss.is_finite() {
            push(&mut self.losses, step.loss, window);
            found.push(("loss_rise", self.loss_rise()));
        }
        push(&mut self.speeds, step.tokens_per_second, window);
        found.push(("throughput_drop", self.throughput_drop()));
        push(&mut self.violations, step.experts.layer_violation.clone(), window);
        found.push(("expert_violation", self.expert_violation(&step.experts.layers)));
        if !step.experts.expert_loads.is_empty() && self.config.dead_experts > 0 {
            let loads = step.experts.expert_loads.iter();
            let chosen = loads.map(|loads| loads.iter().map(|&load| load > 0).collect()).collect();
            push(&mut self.chosen, chosen, self.config.dead_experts);
            found.push(("dead_experts", self.dead_experts(&step.experts.layers)));
        }
        if let Some((kind, share)) = most_saturated(&step.fp8) {
            found.push(("fp8_saturation", self.fp8_saturation(kind, share)));
        }
        if let Some(lag) = longest(&step.rank_busy_seconds) {
            push(&mut self.lags, lag, LAGGING);
            found.push(("lagging_rank", self.lagging_rank()));
        }
        found
    }

    /// Of a loss, before it is one of the window's.
    fn loss_spike(&self, loss: f64) -> Option<Seen> {
        let (rule, count) = (self.config.loss_spike, self.losses.len());
        if rule == 0.0 || count < self.config.window / 2 || count < 2 {
            return None;
        }
        let mean = self.losses.iter().sum::<f64>() / count as f64;
        let variance = self.losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>();
        let deviation = (variance / count as f64).sqrt().max(LEAST_DEVIATION * mean.abs());
        let threshold = mean + rule * deviation;
        (loss > threshold).then(|| Seen {
            level: AlertLevel::Warning,
            message: format!(
                "the loss is {loss:.3}; the mean of the last {count} steps is {mean:.3}, with a \
                 standard deviation of {deviation:.3}"
            ),
            value: loss,
            threshold,
        })
    }

    fn loss_rise(&mut self) -> Option<Seen> {
        let window = self.config.window;
        if self.losses.len() < window {
            return None;
        }
        let mean = self.losses.iter().sum::<f64>() / window as f64;
        self.least_mean = self.least_mean.min(mean);
        let threshold = self.least_mean + self.config.loss_rise;
        (self.config.loss_rise > 0.0 && mean > threshold).then(|| Seen {
            level: AlertLevel::Error,
            message: format!(
                "the loss is rising: a mean of {mean:.3} over the last {window} steps, after {:.3}",
                self.least_mean
            ),
            value: mean,
            threshold,
        })
    }

    fn throughput_drop(&self) -> Option<Seen> {
        let (window, drop) = (self.config.window, self.config.throughput_drop);
        if drop == 0.0 || self.speeds.len() < window.max(2 * RECENT) {
            return None;
        }
        let usual = median(self.speeds.iter().copied());
        let value = median(self.speeds.iter().rev().take(RECENT).copied());
        let threshold = (1.0 - drop) * usual;
        (value < threshold).then(|| Seen {
            level: AlertLevel::Warning,
            message: format!(
                "{value:.0} tokens/s over the last {RECENT} steps; over the last {window} it was \
                 {usual:.0}"
            ),
            value,
            threshold,
        })
    }

    fn expert_violation(&self, layers: &[usize]) -> Option<Seen> {
        let ExpertCounts { experts, chosen } = self.experts;
        let (window, share) = (self.config.window, self.config.expert_violation);
        if share == 0.0 || self.violations.len() < window || experts <= chosen {
            return None;
        }
        let mean = |place: usize| {
            let sum: f64 = self.violations.iter().filter_map(|layers| layers.get(place)).sum();
            sum / window as f64
        };
        let means = layers.iter().enumerate().map(|(place, &layer)| (layer, mean(place)));
        let (layer, value) = means.max_by(|a, b| a.1.total_cmp(&b.1))?;
        let most = experts as f64 / chosen as f64 - 1.0;
        let threshold = share * most;
        (value > threshold).then(|| Seen {
            level: AlertLevel::Warning,
            message: format!(
                "layer {layer}: tokens collapse onto few experts: a violation of {value:.2} over \
                 the last {window} steps, of {most:.2} at most"
            ),
            value,
            threshold,
        })
    }

    fn dead_experts(&self, layers: &[usize]) -> Option<Seen> {
        let wanted = self.config.dead_experts;
        if self.chosen.len() < wanted {
            return None;
        }
        let last = self.chosen.back()?;
        let mut dead = Vec::new();
        for (place, (layer, experts)) in layers.iter().zip(last).enumerate() {
            for expert in 0..experts.len() {
                let came = |loads: &Vec<Vec<bool>>| {
                    loads.get(place).and_then(|layer| layer.get(expert)).is_some_and(|&came| came)
                };
                if !self.chosen.iter().any(came) {
                    dead.push((layer, expert));
                }
            }
        }
        let (layer, expert) = dead.first()?;
        let more = match dead.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some(Seen {
            level: AlertLevel::Warning,
            message: format!(
                "layer {layer}: expert {expert}{more} had no token in the last {wanted} recorded loads"
            ),
            value: dead.len() as f64,
            threshold: 0.0,
        })
    }

    fn fp8_saturation(&self, kind: &str, share: f64) -> Option<Seen> {
        let threshold = self.config.fp8_saturation;
        (threshold > 0.0 && share > threshold).then(|| Seen {
            level: AlertLevel::Warning,
            message: format!("casts to FP8 clipped {:.3}% of the {kind}", 100.0 * share),
            value: share,
            threshold,
        })
    }

    /// The same rank all the time: one that computed long once had something else to do.
    fn lagging_rank(&self) -> Option<Seen> {
        let threshold = self.config.lagging_rank;
        let (rank, _) = *self.lags.back()?;
        let lags = |&(which, times): &(usize, f64)| which == rank && times > threshold;
        if threshold == 0.0 || self.lags.len() < LAGGING || !self.lags.iter().all(lags) {
            return None;
        }
        let value = median(self.lags.iter().map(|(_, times)| *times));
        Some(Seen {
            level: AlertLevel::Warning,
            message: format!(
                "rank {rank} computed {value:.1} times as long as the others in the last {LAGGING} \
                 recorded steps"
            ),
            value,
            threshold,
        })
    }

    fn valid_rise(&mut self, evaluation: &EvaluationLine) -> Option<Seen> {
        let loss = evaluation.valid_loss;
        if loss < self.best_valid {
            (self.best_valid, self.worse_in_a_row) = (loss, 0);
        } else {
            self.worse_in_a_row += 1;
        }
        let (rule, times) = (self.config.valid_rise, self.worse_in_a_row);
        (rule > 0 && times >= rule).then(|| Seen {
            level: AlertLevel::Warning,
            message: format!(
                "the validation loss is {loss:.3}: {times} evaluations without one below {:.3}",
                self.best_valid
            ),
            value: loss,
            threshold: self.best_valid,
        })
    }

    fn disk_free(&self, system: &SystemLine) -> Option<Seen> {
        let (value, threshold) = (system.disk_free_bytes? as f64, 1e9 * self.config.disk_free_gb);
        (value < threshold).then(|| Seen {
            level: AlertLevel::Error,
            message: format!("{:.2} GB are left on the disk of the run", value / 1e9),
            value,
            threshold,
        })
    }
}

/// Always on: such a run ends.
fn diverged(step: &StepLine) -> Option<Seen> {
    let numbers = [("loss", step.loss), ("gradient norm", step.grad_norm)];
    let (what, value) = numbers.into_iter().find(|(_, value)| !value.is_finite())?;
    Some(Seen {
        level: AlertLevel::Error,
        message: format!("the {what} is no finite number"),
        value,
        threshold: f64::NAN,
    })
}

/// The kind of values of which most were clipped, and their share; none where none was counted.
fn most_saturated(fp8: &Fp8Casts) -> Option<(&'static str, f64)> {
    let kinds = [
        ("activations", fp8.fp8_activations_saturated),
        ("weights", fp8.fp8_weights_saturated),
        ("gradients", fp8.fp8_gradients_saturated),
    ];
    let counted = kinds.into_iter().filter_map(|(kind, share)| Some((kind, share?)));
    counted.reduce(|most, next| if next.1 > most.1 { next } else { most })
}

/// The rank that computed longest, and how many times as long as the median of the others.
fn longest(busy_seconds: &[f64]) -> Option<(usize, f64)> {
    let (rank, longest) =
        busy_seconds.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let others = busy_seconds.iter().copied().enumerate().filter(|(other, _)| *other != rank);
    let usual = median(others.map(|(_, seconds)| seconds));
    (usual > 0.0).then(|| (rank, longest / usual))
}

fn push<T>(window: &mut VecDeque<T>, value: T, most: usize) {
    window.push_back(value);
    while window.len() > most {
        window.pop_front();
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Experts;

    fn alerts() -> Alerts {
        let config = AlertsConfig { window: 20, dead_experts: 3, ..AlertsConfig::default() };
        Alerts::new(config, ExpertCounts { experts: 8, chosen: 2 })
    }

    fn step(loss: f64) -> StepLine {
        StepLine { loss, grad_norm: 1.0, tokens_per_second: 100.0, ..StepLine::default() }
    }

    /// The rules that lines raise, with the number of the line.
    fn raised(alerts: &mut Alerts, lines: impl IntoIterator<Item = Line>) -> Vec<(usize, String)> {
        let each = lines.into_iter().enumerate();
        each.flat_map(|(n, line)| {
            let raised = alerts.observe(&line);
            raised.into_iter().map(move |alert| (n, alert.rule)).collect::<Vec<_>>()
        })
        .collect()
    }

    fn losses(loss: impl Fn(usize) -> f64, count: usize) -> Vec<Line> {
        (0..count).map(|n| Line::Step(step(loss(n)))).collect()
    }

    fn rules(expected: &[(usize, &str)]) -> Vec<(usize, String)> {
        expected.iter().map(|(n, rule)| (*n, rule.to_string())).collect()
    }

    #[test]
    fn a_run_that_goes_well_raises_nothing() {
        let falling = |n: usize| 4.0 * (-0.01 * n as f64).exp() + 0.05 * (n as f64 * 1.7).sin();
        assert_eq!(raised(&mut alerts(), losses(falling, 400)), []);
    }

    #[test]
    fn a_spike_is_raised_once_and_again_after_it_has_gone() {
        let loss = |n: usize| match n {
            40..43 | 100 => 5.0,
            n => 2.0 + 0.01 * (n % 3) as f64,
        };
        let found = raised(&mut alerts(), losses(loss, 120));
        assert_eq!(found, rules(&[(40, "loss_spike"), (100, "loss_spike")]));
    }

    #[test]
    fn a_rising_loss_and_one_that_is_no_number_are_errors() {
        let rising = |n: usize| if n < 60 { 2.0 } else { 2.0 + 0.02 * (n - 60) as f64 };
        let found = raised(&mut alerts(), losses(rising, 120));
        // The mean of 20 steps is 0.5 above 2 when the step in their middle is.
        assert_eq!(found.iter().filter(|(_, rule)| rule == "loss_rise").count(), 1);
        let at = found.iter().find(|(_, rule)| rule == "loss_rise").unwrap().0;
        assert!((94..=96).contains(&at), "{at}");
        let line = Line::Step(step(f64::NAN));
        let diverged = &alerts().observe(&line)[0];
        assert_eq!((diverged.level, diverged.rule.as_str()), (AlertLevel::Error, "diverged"));
    }

    #[test]
    fn evaluations_that_get_worse_are_counted() {
        let losses = [2.0, 1.0, 1.1, 1.2, 1.3, 1.4, 0.9, 1.0];
        let lines = losses.map(|valid_loss| {
            Line::Evaluation(EvaluationLine { valid_loss, ..EvaluationLine::default() })
        });
        assert_eq!(raised(&mut alerts(), lines), rules(&[(4, "valid_rise")]));
    }

    #[test]
    fn collapsed_and_dead_experts_are_named() {
        // 8 experts of which a token chooses 2: the largest violation is 3.
        let line = |violation: f64, loads: Vec<u64>| {
            let experts = Experts {
                layers: vec![4],
                layer_violation: vec![violation],
                expert_loads: vec![loads],
                ..Experts::default()
            };
            Line::Step(StepLine { experts, ..step(2.0) })
        };
        let even = || line(0.1, vec![5; 8]);
        assert_eq!(raised(&mut alerts(), (0..50).map(|_| even())), []);
        let collapsed = (0..30).map(|_| line(2.9, vec![50, 50, 1, 1, 1, 1, 1, 1]));
        assert_eq!(raised(&mut alerts(), collapsed), rules(&[(19, "expert_violation")]));
        let mut rules = alerts();
        let dead = |n: u64| line(0.5, vec![9, 9, 9, 9, n, 9, 9, 0]);
        let found: Vec<AlertLine> =
            [0, 1, 0, 0, 0].into_iter().flat_map(|n| rules.observe(&dead(n))).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].message, "layer 4: expert 7 had no token in the last 3 recorded loads");
    }

    #[test]
    fn a_slow_run_and_a_full_disk_are_told() {
        let speed = |n: usize| if (60..80).contains(&n) { 30.0 } else { 100.0 };
        let lines =
            (0..100).map(|n| Line::Step(StepLine { tokens_per_second: speed(n), ..step(2.0) }));
        // The fifth slow step of eight makes their median slow.
        assert_eq!(raised(&mut alerts(), lines), rules(&[(64, "throughput_drop")]));
        let disk = |bytes| {
            Line::System(SystemLine { disk_free_bytes: Some(bytes), ..SystemLine::default() })
        };
        let found = raised(&mut alerts(), [disk(2_000_000_000), disk(999_999_999), disk(5)]);
        assert_eq!(found, rules(&[(1, "disk_free_gb")]));
    }

    #[test]
    fn clipped_values_are_told_by_their_kind() {
        let line = |activations: Option<f64>, gradients: Option<f64>| {
            let fp8 = Fp8Casts {
                fp8_activations_saturated: activations,
                fp8_weights_saturated: activations,
                fp8_gradients_saturated: gradients,
                ..Fp8Casts::default()
            };
            Line::Step(StepLine { fp8, ..step(2.0) })
        };
        let mut rules = alerts();
        assert_eq!(rules.observe(&line(None, None)), []);
        assert_eq!(rules.observe(&line(Some(0.0), Some(0.0))), []);
        let found = &rules.observe(&line(Some(0.0), Some(0.01)))[0];
        assert_eq!(found.rule, "fp8_saturation");
        assert_eq!(found.message, "casts to FP8 clipped 1.000% of the gradients");
        // A step in which nothing was counted says nothing of whether it still holds.
        let rest = [line(None, None), line(Some(0.0), Some(0.02)), line(Some(0.5), None)];
        assert_eq!(raised(&mut rules, rest), []);
        let again = [line(Some(0.0), Some(0.0)), line(Some(0.5), None)];
        assert_eq!(raised(&mut rules, again).len(), 1);
    }

    #[test]
    fn a_rank_that_lags_all_the_time_is_told() {
        let line =
            |busy: &[f64]| Line::Step(StepLine { rank_busy_seconds: busy.to_vec(), ..step(2.0) });
        let lagging = || line(&[1.0, 1.2, 3.0, 0.9]);
        let mut rules = alerts();
        let lines = [line(&[1.0, 1.1, 1.9, 1.0]), line(&[3.0, 1.0, 1.0, 1.0])];
        let lines = lines.into_iter().chain((0..6).map(|_| lagging()));
        assert_eq!(raised(&mut rules, lines), self::rules(&[(6, "lagging_rank")]));
        let two = (0..9).map(|_| line(&[1.0, 2.5]));
        assert_eq!(raised(&mut alerts(), two), self::rules(&[(4, "lagging_rank")]));
        let none = (0..9).map(|n| line(if n % 2 == 0 { &[] } else { &[4.0] }));
        assert_eq!(raised(&mut alerts(), none), []);
    }

    /// What a run raises after a stop is what it would have raised without one.
    #[test]
    fn the_same_lines_raise_the_same_alerts_wherever_a_run_was_stopped() {
        let lines = losses(|n| if n % 37 == 36 { 9.0 } else { 2.0 + 0.1 * (n % 5) as f64 }, 150);
        let straight = raised(&mut alerts(), lines.clone());
        assert!(straight.len() > 1);
        for stop in [1, 36, 37, 38, 75, 149] {
            let mut again = alerts();
            raised(&mut again, lines[..stop].to_vec());
            let rest = raised(&mut again, lines[stop..].to_vec());
            let expected: Vec<_> = straight.iter().filter(|(n, _)| *n >= stop).collect();
            assert_eq!(rest.len(), expected.len(), "{stop}");
        }
    }
}
