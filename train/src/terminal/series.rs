//! A curve over all of a run in bounded room: means of as many neighbours as it takes.

use std::collections::VecDeque;

/// Buckets of a curve at most; a terminal has fewer dots in a row.
const MOST: usize = 2048;
/// Last values that are kept one by one.
const RECENT: usize = 256;

/// Neighbouring values as one.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Where its last value lies.
    x: f64,
    sum: f64,
    count: usize,
}

/// Values in the order of their steps.
#[derive(Clone, Debug)]
pub(super) struct Series {
    buckets: Vec<Bucket>,
    /// Values of a bucket.
    width: usize,
    recent: VecDeque<f64>,
}

impl Default for Series {
    fn default() -> Self {
        Self { buckets: Vec::new(), width: 1, recent: VecDeque::new() }
    }
}

impl Series {
    /// Adds a value; one that is no finite number leaves a gap.
    pub fn push(&mut self, x: f64, y: f64) {
        if !y.is_finite() {
            return;
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(y);
        match self.buckets.last_mut().filter(|bucket| bucket.count < self.width) {
            Some(bucket) => {
                *bucket = Bucket { x, sum: bucket.sum + y, count: bucket.count + 1 };
            }
            None => self.buckets.push(Bucket { x, sum: y, count: 1 }),
        }
        if self.buckets.len() > MOST {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.width *= 2;
        self.buckets = self
            .buckets
            .chunks(2)
            .map(|pair| Bucket {
                x: pair[pair.len() - 1].x,
                sum: pair.iter().map(|bucket| bucket.sum).sum(),
                count: pair.iter().map(|bucket| bucket.count).sum(),
            })
            .collect();
    }

    /// The value that was added last.
    pub fn last(&self) -> Option<f64> {
        self.recent.back().copied()
    }

    /// The last values one by one, at most so many.
    pub fn recent(&self, most: usize) -> impl Iterator<Item = f64> {
        self.recent.iter().skip(self.recent.len().saturating_sub(most)).copied()
    }

    /// The curve from `from` on.
    pub fn points(&self, from: f64) -> Vec<(f64, f64)> {
        self.buckets
            .iter()
            .filter(|bucket| bucket.x >= from)
            .map(|bucket| (bucket.x, bucket.sum / bucket.count as f64))
            .collect()
    }
}

/// A running mean over a share of the points, weighed exponentially and without the pull of the
/// beginning towards zero.
pub(super) fn smoothed(points: &[(f64, f64)], share: f64) -> Vec<(f64, f64)> {
    let window = (points.len() as f64 * share).max(1.0);
    let keep = 1.0 - 1.0 / window;
    let (mut mean, mut weight) = (0.0, 0.0);
    points
        .iter()
        .map(|&(x, y)| {
            mean = keep * mean + (1.0 - keep) * y;
            weight = keep * weight + (1.0 - keep);
            (x, mean / weight)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_stays_in_its_room_and_keeps_its_means() {
        let mut series = Series::default();
        for step in 1..=100_000 {
            series.push(f64::from(step), f64::from(step % 10));
        }
        series.push(1e9, f64::NAN);
        let points = series.points(0.0);
        assert!((1000..=MOST).contains(&points.len()), "{}", points.len());
        assert!(points.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(points.last().unwrap().0, 100_000.0);
        let mean = points.iter().map(|(_, y)| y).sum::<f64>() / points.len() as f64;
        assert!((mean - 4.5).abs() < 0.05, "{mean}");
        assert_eq!(series.last(), Some(0.0));
        assert_eq!(series.recent(3).collect::<Vec<_>>(), [8.0, 9.0, 0.0]);
        assert!(series.points(50_000.0).iter().all(|&(x, _)| x >= 50_000.0));
    }

    #[test]
    fn smoothing_keeps_a_constant_and_follows_a_step() {
        let flat: Vec<_> = (0..50).map(|x| (f64::from(x), 3.0)).collect();
        assert!(smoothed(&flat, 0.1).iter().all(|(_, y)| (y - 3.0).abs() < 1e-12));
        let step: Vec<_> = (0..100).map(|x| (f64::from(x), f64::from(x / 50))).collect();
        let after = smoothed(&step, 0.05);
        assert!(after[49].1 == 0.0 && (0.1..0.5).contains(&after[50].1) && after[99].1 > 0.99);
        assert_eq!(smoothed(&step, 0.0), step);
        assert_eq!(smoothed(&[], 0.1), []);
    }
}
