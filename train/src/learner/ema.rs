//! An exponential moving average of the weights, in host memory, updated beside the training by a
//! thread of its own (3.2.3).

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use burn_deepseek::{DeepSeek, ops};

use crate::failure::{Context, Result};

/// How weights are averaged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmaSettings {
    /// What a step leaves of the average.
    pub decay: f64,
    /// Steps from one update to the next.
    pub every: u64,
}

impl EmaSettings {
    /// The share of the weights that goes into the average after `steps` steps; none where no
    /// update is due.
    ///
    /// `1 - d(t)^every` with `d(t) = min(decay, (1 + t) / (10 + t))`: over the first steps the
    /// average forgets faster, so that the initial weights are soon gone from it.
    pub fn rate(&self, steps: u64) -> Option<f64> {
        let t = steps as f64;
        let decay = self.decay.min((1.0 + t) / (10.0 + t));
        steps.is_multiple_of(self.every).then(|| 1.0 - decay.powf(self.every as f64))
    }
}

/// The average and the thread that updates it.
///
/// After a step the weights are lent to the thread, which reads them while the next step's forward
/// and backward read them too; nothing is copied where they lie in host memory.
/// [`settle`](Self::settle) waits until the thread has let go of them: called before weights
/// change, it lets the optimizer update them in place, and it is what puts the updates in the order
/// of the steps, so the average is the same whatever the threads' timing.
#[derive(Debug)]
pub struct Ema {
    settings: EmaSettings,
    steps: u64,
    /// None while the thread has it.
    average: Option<DeepSeek>,
    jobs: Option<Sender<Job>>,
    finished: Receiver<DeepSeek>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    average: DeepSeek,
    weights: DeepSeek,
    rate: f64,
}

const STOPPED: &str = "the thread that averages the weights has stopped";

impl Ema {
    /// An average that begins with these weights.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(settings: EmaSettings, weights: &DeepSeek) -> Result<Self> {
        Self::resumed(settings, 0, weights.valid())
    }

    /// The average as it was after `steps` steps.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn resumed(settings: EmaSettings, steps: u64, average: DeepSeek) -> Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (done, finished) = channel();
        let work = move || {
            while let Ok(Job { average, weights, rate }) = queue.recv() {
                let average = updated(average, weights, rate);
                if done.send(average).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("weight average".into())
            .spawn(work)
            .context("the weights cannot be averaged")?;
        let average = Some(average.no_grad().to_device(&Device::flex()));
        Ok(Self { settings, steps, average, jobs: Some(jobs), finished, thread: Some(thread) })
    }

    /// Steps averaged.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Lends the weights after a step to the thread; returns at once unless the step before is
    /// still being averaged.
    ///
    /// # Errors
    /// The thread has stopped.
    pub fn step(&mut self, weights: &DeepSeek) -> Result<()> {
        self.settle()?;
        self.steps += 1;
        let Some(rate) = self.settings.rate(self.steps) else { return Ok(()) };
        let average = self.average.take().context(STOPPED)?;
        let job = Job { average, weights: weights.valid(), rate };
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).context(STOPPED)
    }

    /// Waits until no step is being averaged any more.
    ///
    /// # Errors
    /// The thread has stopped.
    pub fn settle(&mut self) -> Result<()> {
        if self.average.is_none() {
            self.average = Some(self.finished.recv().context(STOPPED)?);
        }
        Ok(())
    }

    /// The average of all steps so far.
    ///
    /// # Errors
    /// The thread has stopped.
    pub fn model(&mut self) -> Result<&DeepSeek> {
        self.settle()?;
        self.average.as_ref().context(STOPPED)
    }
}

impl Drop for Ema {
    fn drop(&mut self) {
        self.jobs = None; // ends the thread's loop
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been told, and there is nobody to pass it to
        }
    }
}

/// `average += rate (weights - average)`, parameter by parameter (balance biases too), and the
/// weights let go.
fn updated(average: DeepSeek, weights: DeepSeek, rate: f64) -> DeepSeek {
    let mut values = Flat::default();
    weights.visit(&mut values);
    drop(weights);
    average.map(&mut Approach { values: values.0.into_iter(), rate })
}

/// The parameters of a model, flat, in its order.
#[derive(Default)]
struct Flat(Vec<Tensor<1>>);

impl ModuleVisitor for Flat {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let count = value.shape().num_elements();
        self.0.push(value.reshape([count]));
    }
}

struct Approach {
    values: std::vec::IntoIter<Tensor<1>>,
    rate: f64,
}

impl ModuleMapper for Approach {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value =
            self.values.next().expect("invariant: the average has the parameters of the model");
        let (id, average, mapper) = param.consume();
        let shape = average.shape();
        let average = ops::average_into(average.reshape([shape.num_elements()]), value, self.rate);
        Param::from_mapped_value(id, average.reshape(shape.dims::<D>()), mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve_model;
    use burn_deepseek::weights::named_parameters;
    use burn_deepseek::{WeightInit, config::DeepSeekConfig};

    fn config() -> DeepSeekConfig {
        let small = [
            "hidden_size=16",
            "intermediate_size=32",
            "moe_intermediate_size=8",
            "vocab_size=260",
            "num_hidden_layers=2",
        ];
        let set: Vec<String> = small.iter().map(|key| format!("model.{key}")).collect();
        resolve_model(Some("tiny"), None, &set).unwrap()
    }

    /// Other weights for each seed.
    fn model(seed: u64) -> DeepSeek {
        DeepSeek::init(&config(), seed, &Device::flex()).unwrap()
    }

    fn values(model: &DeepSeek) -> Vec<f32> {
        named_parameters(model)
            .into_values()
            .flat_map(|data| data.iter::<f32>().collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn the_average_follows_the_formula_in_the_order_of_the_steps() {
        let settings = EmaSettings { decay: 0.3, every: 1 };
        let mut ema = Ema::new(settings, &model(0)).unwrap();
        let mut exact: Vec<f64> = values(&model(0)).into_iter().map(f64::from).collect();
        for step in 1..=4 {
            ema.step(&model(step)).unwrap();
            let decay = (0.3f64).min((1.0 + step as f64) / (10.0 + step as f64));
            for (average, weight) in exact.iter_mut().zip(values(&model(step))) {
                *average = decay * *average + (1.0 - decay) * f64::from(weight);
            }
        }
        assert_eq!(ema.steps(), 4);
        for (average, exact) in values(ema.model().unwrap()).into_iter().zip(exact) {
            assert!((f64::from(average) - exact).abs() < 1e-8, "{average} against {exact}");
        }
    }

    #[test]
    fn timing_and_a_stop_in_between_do_not_change_a_bit() {
        let settings = EmaSettings { decay: 0.9, every: 2 };
        let average = |stop: bool, wait: bool| {
            let mut ema = Ema::new(settings, &model(0)).unwrap();
            for step in 1..=6 {
                if stop && step == 4 {
                    ema =
                        Ema::resumed(settings, ema.steps(), ema.model().unwrap().clone()).unwrap();
                }
                ema.step(&model(step)).unwrap();
                if wait {
                    ema.settle().unwrap();
                }
            }
            values(ema.model().unwrap())
        };
        let straight = average(false, false);
        assert_eq!(straight, average(false, true));
        assert_eq!(straight, average(true, false));
        assert_ne!(straight, values(&model(6)));
    }

    #[test]
    fn early_averages_forget_faster() {
        let settings = EmaSettings { decay: 0.999, every: 1 };
        assert!((settings.rate(1).unwrap() - 9.0 / 11.0).abs() < 1e-12);
        assert!((settings.rate(100_000).unwrap() - 1e-3).abs() < 1e-12);
        let sparse = EmaSettings { decay: 0.9, every: 3 };
        assert_eq!((sparse.rate(301), sparse.rate(302)), (None, None));
        assert!((sparse.rate(303).unwrap() - (1.0 - 0.9f64.powi(3))).abs() < 1e-12);
    }

    #[test]
    fn zeros_are_a_model_too() {
        let zeros = DeepSeek::new(&config(), WeightInit::zeros(&Device::flex())).unwrap();
        let mut ema = Ema::new(EmaSettings { decay: 0.0, every: 1 }, &zeros).unwrap();
        ema.step(&model(3)).unwrap();
        assert_eq!(
            values(ema.model().unwrap()),
            values(&model(3)),
            "a decay of 0 keeps the last weights"
        );
    }
}
