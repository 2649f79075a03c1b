//! The number of sequences of each step, and with it how steps and tokens follow each other.

use super::position::Position;

/// More different batches than this in a run are refused: each is a run of steps to be kept.
pub(super) const MOST_LEVELS: usize = 1 << 16;

/// One part of the course: a batch from `start` on, or a ramp from there to `end`, in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BatchPiece {
    pub start: u64,
    pub end: u64,
    pub from: u64,
    pub to: u64,
}

/// Sequences of a step as a function of the tokens before it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BatchCourse {
    pieces: Vec<BatchPiece>,
    last: u64,
    micro_batch: u64,
    seq_len: u64,
    /// Steps of one batch size, from the start of the run; the last goes on for ever.
    levels: Vec<Level>,
}

/// Steps that follow each other with the same batch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Level {
    start: Position,
    batch: u64,
}

impl BatchCourse {
    /// A course through `pieces`, each beginning where the one before ended, and `last` after them;
    /// a ramp's values are rounded down to multiples of `micro_batch`, of which all others are
    /// multiples already.
    ///
    /// None where it has more than [`MOST_LEVELS`] different batches, or tokens beyond what can be
    /// counted.
    pub fn new(pieces: Vec<BatchPiece>, last: u64, micro_batch: u64, seq_len: u64) -> Option<Self> {
        let mut course = Self { pieces, last, micro_batch, seq_len, levels: Vec::new() };
        let mut levels = Vec::new();
        let mut next = Some(Position::default());
        while let Some(start) = next {
            if levels.len() == MOST_LEVELS {
                return None;
            }
            levels.push(Level { start, batch: course.at(start.tokens) });
            next = match course.next_change(start.tokens) {
                Some(change) => Some(course.after(
                    start,
                    (change - start.tokens).div_ceil(course.tokens_of_step(start.tokens)),
                )?),
                None => None,
            };
        }
        course.levels = levels;
        Some(course)
    }

    /// Sequences of the step that begins after `tokens` tokens.
    pub fn at(&self, tokens: u64) -> u64 {
        let Some(piece) = self.pieces.iter().find(|piece| tokens < piece.end) else {
            return self.last;
        };
        let (from, to) = (i128::from(piece.from), i128::from(piece.to));
        let (done, length) =
            (i128::from(tokens.saturating_sub(piece.start)), i128::from(piece.end - piece.start));
        let batch = from + ((to - from) * done).div_euclid(length);
        let batch = u64::try_from(batch).expect("invariant: a ramp lies between its two ends");
        batch / self.micro_batch * self.micro_batch
    }

    /// The different batches of the first `steps` steps, ascending.
    pub fn batches_until(&self, steps: u64) -> Vec<usize> {
        let levels = self.levels.iter().filter(|level| level.start.step < steps);
        let batches: std::collections::BTreeSet<u64> = levels.map(|level| level.batch).collect();
        batches.into_iter().map(|batch| batch as usize).collect()
    }

    /// Tokens of the step that begins after `tokens` tokens.
    pub fn tokens_of_step(&self, tokens: u64) -> u64 {
        self.at(tokens).saturating_mul(self.seq_len)
    }

    /// The least number of tokens above `tokens` at which the batch is (or may be) another one.
    fn next_change(&self, tokens: u64) -> Option<u64> {
        let piece = self.pieces.iter().find(|piece| tokens < piece.end)?;
        let batch = self.at(tokens);
        // A piece only rises or only falls, so the batch changes once between a place where it is
        // the same and one where it is not.
        let (mut same, mut other) = (tokens, piece.end);
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            if self.at(middle) == batch { same = middle } else { other = middle }
        }
        Some(other)
    }

    /// `steps` steps of one size after `start`; none where that cannot be counted.
    fn after(&self, start: Position, steps: u64) -> Option<Position> {
        let tokens =
            steps.checked_mul(self.tokens_of_step(start.tokens))?.checked_add(start.tokens)?;
        let countable = i64::try_from(tokens).is_ok();
        countable.then(|| Position { step: start.step.saturating_add(steps), tokens })
    }

    /// Where a run stands `steps` steps after its start; none where the tokens cannot be counted.
    pub fn position_after(&self, steps: u64) -> Option<Position> {
        let level = self.levels[self.levels.partition_point(|level| level.start.step <= steps) - 1];
        self.after(level.start, steps - level.start.step)
    }

    /// Where a run stands after its last step with at most `tokens` tokens.
    pub fn position_within(&self, tokens: u64) -> Position {
        let level =
            self.levels[self.levels.partition_point(|level| level.start.tokens <= tokens) - 1];
        let steps = (tokens - level.start.tokens) / (level.batch * self.seq_len);
        Position {
            step: level.start.step + steps,
            tokens: level.start.tokens + steps * level.batch * self.seq_len,
        }
    }

    /// The number of steps at which a run has `tokens` tokens, with the part of a step.
    pub fn steps_at(&self, tokens: f64) -> f64 {
        let whole = self.position_within(tokens as u64);
        whole.step as f64
            + (tokens - whole.tokens as f64) / self.tokens_of_step(whole.tokens) as f64
    }

    /// The ends of the course's parts, in tokens.
    pub fn boundaries(&self) -> impl Iterator<Item = u64> {
        self.pieces.iter().map(|piece| piece.end)
    }

    /// Where a run that stands at `from` ends if it takes steps until there are `steps` in all, or
    /// the next one would lead beyond `tokens` tokens; none where that cannot be counted.
    pub fn walk(&self, from: Position, steps: u64, tokens: u64) -> Option<Position> {
        let mut position = from;
        loop {
            let size = self.tokens_of_step(position.tokens);
            let here = self
                .next_change(position.tokens)
                .map_or(u64::MAX, |change| (change - position.tokens).div_ceil(size));
            let left = steps
                .saturating_sub(position.step)
                .min(tokens.saturating_sub(position.tokens) / size);
            position = self.after(position, left.min(here))?;
            if left <= here {
                return Some(position);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4 sequences, then up to 12 over 1000 tokens in multiples of 4, then 8; sequences of 10
    /// tokens.
    fn course() -> BatchCourse {
        let pieces = vec![
            BatchPiece { start: 0, end: 100, from: 4, to: 4 },
            BatchPiece { start: 100, end: 1100, from: 4, to: 12 },
        ];
        BatchCourse::new(pieces, 8, 4, 10).unwrap()
    }

    /// Positions of every step, taken one by one.
    fn by_hand(course: &BatchCourse, steps: u64) -> Vec<Position> {
        let mut positions = vec![Position::default()];
        for step in 1..=steps {
            let before = positions[step as usize - 1].tokens;
            positions.push(Position { step, tokens: before + course.at(before) * 10 });
        }
        positions
    }

    #[test]
    fn a_ramp_is_rounded_down_to_whole_micro_batches() {
        let course = course();
        let batches = [0, 99, 100, 599, 600, 1099, 1100, 1 << 40].map(|tokens| course.at(tokens));
        assert_eq!(batches, [4, 4, 4, 4, 8, 8, 8, 8]);
        let falling =
            BatchCourse::new(vec![BatchPiece { start: 0, end: 100, from: 12, to: 4 }], 4, 4, 1)
                .unwrap();
        assert_eq!(
            [0, 1, 49, 50, 51, 99, 100].map(|tokens| falling.at(tokens)),
            [12, 8, 8, 8, 4, 4, 4]
        );
    }

    #[test]
    fn steps_and_tokens_are_counted_as_if_one_by_one() {
        let course = course();
        let positions = by_hand(&course, 60);
        for (step, position) in (0..).zip(&positions) {
            assert_eq!(course.position_after(step), Some(*position));
            assert_eq!(course.walk(Position::default(), step, u64::MAX / 2), Some(*position));
            assert_eq!(
                course.walk(positions[7.min(step as usize)], step, u64::MAX / 2),
                Some(*position)
            );
            assert!((course.steps_at(position.tokens as f64) - step as f64).abs() < 1e-9);
        }
        for tokens in 0..1500 {
            let within = *positions.iter().rfind(|position| position.tokens <= tokens).unwrap();
            assert_eq!(course.position_within(tokens), within);
            assert_eq!(course.walk(Position::default(), u64::MAX, tokens), Some(within));
        }
    }

    #[test]
    fn what_cannot_be_counted_is_none() {
        assert_eq!(course().position_after(u64::MAX / 4), None);
        assert_eq!(course().walk(Position::default(), u64::MAX, u64::MAX), None);
        let many = BatchPiece { start: 0, end: 1 << 60, from: 1, to: 1 << 24 };
        assert_eq!(BatchCourse::new(vec![many], 1, 1, 1), None);
    }

    proptest::proptest! {
        #[test]
        fn any_ramp_is_counted_as_if_one_by_one(
            from in 1u64..9,
            to in 1u64..9,
            start in 0u64..300,
            length in 1u64..2000,
            last in 1u64..9,
            micro in 1u64..4,
        ) {
            let pieces = vec![
                BatchPiece { start: 0, end: start + 1, from: from * micro, to: from * micro },
                BatchPiece {
                    start: start + 1,
                    end: start + 1 + length,
                    from: from * micro,
                    to: to * micro,
                },
            ];
            let course = BatchCourse::new(pieces, last * micro, micro, 10).unwrap();
            for (step, position) in (0..).zip(by_hand(&course, 100)) {
                assert_eq!(course.at(position.tokens) % micro, 0);
                assert_eq!(course.position_after(step), Some(position));
                assert_eq!(course.position_within(position.tokens), position);
            }
        }
    }
}
