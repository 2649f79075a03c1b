//! The training schedule: what each step of a run is to do, as a function of where the run stands.

use burn_deepseek::LossWeights;
use serde::Serialize;

use super::batch::{BatchCourse, BatchPiece, MOST_LEVELS};
use super::course::{Clock, Values, segments};
use super::position::{Length, Position};
use super::until::Until;
use super::written::{Course, ScheduleConfig, Shape};

/// No batch may be larger.
const MOST_SEQUENCES: u64 = 1 << 24;

/// What a step is to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepSettings {
    /// Sequences of the step.
    pub global_batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// gamma: what the balance bias moves by afterwards.
    pub bias_update_speed: f64,
    /// alpha: weight of the sequence-wise balance loss.
    pub seq_aux_alpha: f64,
    /// lambda: weight of the MTP losses.
    pub mtp_lambda: f64,
}

impl StepSettings {
    /// The weights of the loss.
    pub fn loss_weights(&self) -> LossWeights {
        LossWeights { mtp: self.mtp_lambda, sequence_balance: self.seq_aux_alpha }
    }
}

/// The training schedule: the courses of a run, every boundary known.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingSchedule {
    length: Length,
    pub(super) batch: BatchCourse,
    pub(super) end: Position,
    pub(super) lr: Values,
    pub(super) bias_update_speed: Values,
    pub(super) seq_aux_alpha: Values,
    pub(super) mtp_lambda: Values,
}

impl TrainingSchedule {
    /// The schedule of a run of `length` with sequences of `seq_len` tokens, `micro_batch` at once
    /// (both at least 1).
    ///
    /// # Errors
    /// Every problem, each with its key.
    pub fn new(
        config: &ScheduleConfig,
        length: Length,
        micro_batch: usize,
        seq_len: usize,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let batch = batch_course(
            &config.global_batch,
            length,
            micro_batch as u64,
            seq_len as u64,
            &mut problems,
        );
        let others = [
            ("schedule.lr", &config.lr),
            ("schedule.bias_update_speed", &config.bias_update_speed),
            ("schedule.seq_aux_alpha", &config.seq_aux_alpha),
            ("schedule.mtp_lambda", &config.mtp_lambda),
        ];
        let others = others.map(|(key, course)| segments(course, key, &mut problems));
        let Some(batch) = batch.filter(|_| problems.is_empty()) else { return Err(problems) };
        let end = match length {
            Length::Steps(steps) => batch.position_after(steps),
            Length::Tokens(tokens) => {
                Some(batch.position_within(tokens)).filter(|_| i64::try_from(tokens).is_ok())
            }
        };
        let Some(end) = end else {
            let what = if let Length::Steps(steps) = length {
                format!("train.steps = {steps}")
            } else {
                "train.tokens".into()
            };
            return Err(vec![format!(
                "{what} of {} tokens and more are more than can be counted",
                batch.tokens_of_step(0)
            )]);
        };
        match length {
            Length::Steps(0) => problems.push("train.steps = 0 must be at least 1".into()),
            Length::Tokens(tokens) if end.step == 0 => problems.push(format!(
                "train.tokens = {tokens} is less than one step of {} tokens (global_batch * \
                 seq_len)",
                batch.tokens_of_step(0)
            )),
            _ => {}
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let clock = Clock { batch: &batch, end };
        let [lr, bias_update_speed, seq_aux_alpha, mtp_lambda] =
            others.map(|segments| Values::new(&segments, &clock));
        Ok(Self { length, batch, end, lr, bias_update_speed, seq_aux_alpha, mtp_lambda })
    }

    /// Where a run that takes all of its steps from the start ends.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Where a run that now stands at `position` will end. That is [`end`](Self::end), unless the
    /// position was reached with other batches than this schedule's; none where it cannot be
    /// counted.
    pub fn end_from(&self, position: Position) -> Option<Position> {
        match self.length {
            Length::Steps(steps) => self.batch.walk(position, steps, u64::MAX),
            Length::Tokens(tokens) => self.batch.walk(position, u64::MAX, tokens),
        }
    }

    /// What the step after `position` is to do.
    pub fn at(&self, position: Position) -> StepSettings {
        let global_batch = self.batch.at(position.tokens);
        let after = Position {
            step: position.step + 1,
            tokens: position.tokens.saturating_add(self.batch.tokens_of_step(position.tokens)),
        };
        StepSettings {
            global_batch: global_batch as usize,
            lr: self.lr.at(after),
            bias_update_speed: self.bias_update_speed.at(after),
            seq_aux_alpha: self.seq_aux_alpha.at(after),
            mtp_lambda: self.mtp_lambda.at(after),
        }
    }

    /// The weights of the loss in the step that ended at `position`, which an evaluation there has,
    /// too.
    pub fn loss_weights_at(&self, position: Position) -> LossWeights {
        LossWeights {
            mtp: self.mtp_lambda.at(position),
            sequence_balance: self.seq_aux_alpha.at(position),
        }
    }

    /// The different batches of the run, ascending, in sequences.
    pub fn global_batches(&self) -> Vec<usize> {
        self.batch.batches_until(self.end.step)
    }

    /// Whether the MTP losses count anywhere in the run.
    pub fn has_mtp(&self) -> bool {
        self.mtp_lambda.is_ever_positive()
    }
}

/// The course of the batch, in whole multiples of `micro_batch`; none with problems.
fn batch_course(
    course: &Course,
    length: Length,
    micro_batch: u64,
    seq_len: u64,
    problems: &mut Vec<String>,
) -> Option<BatchCourse> {
    const KEY: &str = "schedule.global_batch";
    let before = problems.len();
    let segments = segments(course, KEY, problems);
    let (mut pieces, mut start) = (Vec::new(), 0);
    for (index, segment) in segments.iter().enumerate() {
        let key = if matches!(course, Course::Constant(_)) {
            KEY.to_string()
        } else {
            format!("{KEY}[{index}]")
        };
        if segment.shape == Shape::Cosine {
            problems.push(format!(
                "{key}.shape = \"cosine\" is for other quantities; a batch is \
                 constant or grows linearly"
            ));
        }
        for value in [segment.from, segment.to] {
            let whole = value.fract() == 0.0 && (1.0..=MOST_SEQUENCES as f64).contains(&value);
            if !whole {
                problems.push(format!(
                    "{key} = {value} must be a whole number from 1 to {MOST_SEQUENCES}"
                ));
                break;
            } else if !(value as u64).is_multiple_of(micro_batch) {
                problems.push(format!(
                    "{key} = {value} must be a multiple of train.micro_batch = {micro_batch}"
                ));
                break;
            }
        }
        let end = match (segment.until, length) {
            (Some(Until::Tokens(tokens)), _) => tokens,
            (Some(Until::Percent(percent)), Length::Tokens(tokens)) => {
                (percent / 100.0 * tokens as f64) as u64
            }
            (None, _) if segment.from == segment.to => break, // the last one, and what stays
            (None, Length::Tokens(tokens)) => tokens,
            (Some(Until::Steps(_)), _) => {
                problems.push(format!(
                    "{key}.until must be in tokens or percent: how many tokens a \
                     step has is what is asked for here"
                ));
                return None;
            }
            (Some(Until::Percent(_)) | None, Length::Steps(_)) => {
                problems.push(format!(
                    "{key}.until needs a number of tokens: how many train.steps will have depends \
                     on it; or give train.tokens"
                ));
                return None;
            }
        };
        if end > start {
            pieces.push(BatchPiece {
                start,
                end,
                from: segment.from as u64,
                to: segment.to as u64,
            });
            start = end;
        }
    }
    if problems.len() > before {
        return None;
    }
    let last = segments.last().map_or(1, |segment| segment.to as u64);
    let counted = BatchCourse::new(pieces, last, micro_batch, seq_len);
    if counted.is_none() {
        problems.push(format!(
            "{KEY} takes more than {MOST_LEVELS} different values, or more tokens than can be \
             counted; take a larger train.micro_batch"
        ));
    }
    counted
}
