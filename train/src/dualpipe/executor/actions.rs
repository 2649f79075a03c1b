//! How a rank carries out its actions of a schedule.

use std::time::{Duration, Instant};

use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn_deepseek::backend::fp8::CastCounter;

use super::chunk::Differentiated;
use super::flat::flat_gradients;
use super::rank::{Rank, THREAD};
use super::report::{StageReport, Unread};
use super::step::{Progress, RankReport, StepJob};
use super::timeline::Span;
use crate::dualpipe::action::{Action, Chunk};
use crate::failure::{Context, Result};
use crate::parallel::ComputeToken;

impl Rank {
    /// Carries out the rank's actions of one step. Gradients are left in `gradients`.
    pub fn run(&mut self, job: &StepJob) -> Result<RankReport> {
        let counter = job.detailed.then(CastCounter::default);
        if let Some(counter) = &counter {
            self.compute = self.compute.detailed(counter.clone());
        }
        let mut progress = Progress::new(job);
        let mut spans = Vec::new();
        for planned in &job.schedule.actions[self.place.pipeline] {
            let start = job.started.elapsed();
            let before = self.post.mail(self.place.rank);
            progress.waited = Duration::ZERO;
            match &planned.action {
                Action::Forward(chunk) => {
                    let input = self.input(&mut progress, *chunk)?;
                    let ((measured, in_flight), took) = self.timed(&mut progress, || {
                        self.settled(job, || self.forward(job, *chunk, input))
                    });
                    progress.times.forward += took;
                    progress.keep(*chunk, measured, in_flight);
                }
                Action::Backward { chunk, defer_weights } => {
                    let gradient = self.gradient(&mut progress, *chunk)?;
                    let in_flight = progress.take(*chunk)?;
                    let (done, took) = self.timed(&mut progress, || {
                        self.settled(job, || self.backward(job, *chunk, in_flight, gradient))
                    });
                    progress.times.backward += took;
                    match defer_weights {
                        true => progress.deferred.push_back((*chunk, done)),
                        false => self.accumulate(&mut progress, *chunk, done),
                    }
                }
                Action::Weights(chunk) => {
                    let (deferred, done) = progress
                        .deferred
                        .pop_front()
                        .context("invariant: weight gradients that wait")?;
                    debug_assert_eq!(deferred, *chunk);
                    self.accumulate(&mut progress, deferred, done);
                }
                Action::Overlapped { forward, backward } => {
                    self.overlapped(&mut progress, *forward, *backward)?
                }
                // Messages are sent as soon as there is something to send and waited for where they
                // are needed, which can only be earlier and later than the schedule's points of
                // exchange.
                Action::Exchange(_) => continue,
            }
            self.post.sign_of_life();
            let mail = self.post.mail(self.place.rank);
            spans.push(Span {
                action: planned.action.clone(),
                start,
                end: job.started.elapsed(),
                waited: progress.waited,
                in_flight: mail.waited_for_experts - before.waited_for_experts,
                hidden: mail.hidden - before.hidden,
            });
        }
        let Progress { measured, gradients, mut times, .. } = progress;
        self.gradients = flat_gradients(&self.part, gradients.finish());
        let batches = self.batches(job);
        let unread = |(chunk, measured)| {
            let micro_batch = job.schedule.micro_batch(chunk);
            Unread { micro_batch, tokens: batches[micro_batch].tokens, measured }
        };
        // One read for all of them: each read waits for the device.
        let started = Instant::now();
        let stages = StageReport::read(measured.into_iter().map(unread).collect());
        times.backward += started.elapsed();
        let (casts, mail) =
            (counter.map(|counter| counter.take()), self.post.take_mail(self.place.rank));
        let exchange = self.own_traffic.as_ref().map(|traffic| traffic.take()).unwrap_or_default();
        let chosen = self.chosen(batches);
        Ok(RankReport { stages, spans, times, casts, mail, chosen, exchange })
    }

    /// Does a pass, and in a step that is to be seen in detail waits until the device is through with
    /// it: what it takes is the pass's then, and not its asking's.
    fn settled<T>(&self, job: &StepJob, pass: impl FnOnce() -> T) -> T {
        let done = pass();
        if job.detailed {
            // A device that has failed says so to whoever asks it for a value.
            let _ = self.device.sync();
        }
        done
    }

    /// Does a pass that overlaps with no other; how long it took. What it waited for was for nothing
    /// else to be used.
    fn timed<T>(&self, progress: &mut Progress, pass: impl FnOnce() -> T) -> (T, Duration) {
        let waited = || self.post.mail(self.place.rank).waited_for_experts;
        let (start, before) = (Instant::now(), waited());
        let done = pass();
        progress.times.idle += waited() - before;
        (done, start.elapsed())
    }

    /// A forward pass and a backward pass together: where experts are shared one computes while the
    /// other's rows are in flight.
    fn overlapped(&self, progress: &mut Progress, forward: Chunk, backward: Chunk) -> Result<()> {
        let job = progress.job;
        let input = self.input(progress, forward)?;
        let gradient = self.gradient(progress, backward)?;
        let in_flight = progress.take(backward)?;
        let run_forward = || self.settled(job, || self.forward(job, forward, input));
        let run_backward =
            || self.settled(job, || self.backward(job, backward, in_flight, gradient));
        let (((measured, kept), forward_took), (done, backward_took)) = match &self.experts {
            Some(group) => self.side_by_side(progress, &group.token, run_forward, run_backward)?,
            None => (self.timed(progress, run_forward), self.timed(progress, run_backward)),
        };
        progress.times.forward += forward_took;
        progress.times.backward += backward_took;
        progress.keep(forward, measured, kept);
        self.accumulate(progress, backward, done);
        Ok(())
    }

    /// Does two passes on a thread each, of which one computes at a time; how long each took, with
    /// what it waited for the other.
    fn side_by_side<F: Send, B>(
        &self,
        progress: &mut Progress,
        token: &ComputeToken,
        forward: impl FnOnce() -> F + Send,
        backward: impl FnOnce() -> B,
    ) -> Result<((F, Duration), (B, Duration))> {
        let (start, held_before) = (Instant::now(), token.held());
        let both = std::thread::scope(|scope| {
            let thread =
                std::thread::Builder::new().name(format!("{THREAD}{}, forward", self.place.rank));
            let forward = thread
                .spawn_scoped(scope, || (token.holding(forward), start.elapsed()))
                .context("the thread of a forward pass cannot be started")?;
            let backward = (token.holding(backward), start.elapsed());
            let forward = forward.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Result::<_>::Ok((forward, backward))
        })?;
        let computed = token.held() - held_before;
        progress.times.idle += start.elapsed().saturating_sub(computed);
        Ok(both)
    }

    /// Adds a micro-batch's gradients to those of the step.
    fn accumulate(&self, progress: &mut Progress, chunk: Chunk, done: Differentiated) {
        let start = Instant::now();
        let (module, mut grads) = done.weight_gradients(&mut progress.gradients);
        let (first, last) = (chunk.stage == 0, self.stages[chunk.stage].ends);
        let embedding = module.embed_tokens.as_ref().and_then(|table| table.weight.parameter());
        if let Some(id) = embedding.map(|parameter| parameter.id)
            && first != last
        {
            let micro_batch = progress.job.schedule.micro_batch(chunk);
            if first {
                join(&mut grads, id, progress.embedding.remove(&micro_batch));
            } else if self.begins_too(progress.job, chunk)
                && let Some(gradient) = grads.remove::<2>(id)
            {
                progress.embedding.insert(micro_batch, gradient);
            }
        }
        progress.gradients.add(&module, grads);
        progress.times.backward += start.elapsed();
    }

    /// Whether this rank also has the first stage of the micro-batch that it has the last of.
    fn begins_too(&self, job: &StepJob, chunk: Chunk) -> bool {
        self.rank_of(job, chunk, 0) == self.place.rank
    }
}

/// Adds a gradient that was held back to that of a parameter.
fn join(grads: &mut GradientsParams, id: ParamId, held: Option<Tensor<2>>) {
    let Some(held) = held else { return };
    let sum = match grads.remove::<2>(id) {
        Some(gradient) => held + gradient,
        None => held,
    };
    grads.register::<2>(id, sum);
}
