//! The scale of a curve: bounds that end in round numbers, and what stands beside them.

/// The share of the steps that the scale is not made for, unless it is to have all of them: a run
/// falls from where it began in no time.
const BEGINNING: f64 = 0.1;
/// Fewer points than that are all in the scale.
const FEW: usize = 20;

/// A scale from below to above, of values or of their logarithms.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    /// Intervals between labels.
    intervals: usize,
    log: bool,
}

impl Scale {
    /// A scale for curves that are drawn in so many rows.
    pub fn of(curves: &[&[(f64, f64)]], log: bool, whole: bool, rows: u16) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let last = curves.iter().filter_map(|points| points.last()).map(|p| p.0);
        let last = last.fold(0.0, f64::max);
        for points in curves {
            let first = points.first().map_or(0.0, |point| point.0);
            let from = match points.len() {
                n if whole || n < FEW => first,
                _ => first + BEGINNING * (last - first),
            };
            for &(_, y) in points.iter().filter(|&&(x, y)| x >= from && (!log || y > 0.0)) {
                low = low.min(y);
                high = high.max(y);
            }
        }
        if low > high {
            (low, high) = (0.1, 1.0);
        }
        if low == high {
            let margin = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
            (low, high) = (low - margin, high + margin);
        }
        let most = usize::from(rows.saturating_sub(2) / 3).clamp(2, 6);
        if log {
            let (low, high) = (low.ln(), high.ln());
            let margin = 0.03 * (high - low);
            return Self { low: low - margin, high: high + margin, intervals: most.min(4), log };
        }
        let step = round_step((high - low) / most as f64);
        let (low, high) = ((low / step).floor(), (high / step).ceil());
        let intervals = (high - low).round().max(1.0) as usize;
        Self { low: low * step, high: high * step, intervals, log }
    }

    /// Where a value lies on the scale.
    pub fn place(&self, value: f64) -> f64 {
        if self.log { value.max(f64::MIN_POSITIVE).ln() } else { value }
    }

    /// The lowest and the highest place.
    pub fn bounds(&self) -> [f64; 2] {
        [self.low, self.high]
    }

    /// Values beside places that are evenly spread, from below.
    pub fn labels(&self) -> Vec<String> {
        let step = (self.high - self.low) / self.intervals as f64;
        let value = |index: usize| {
            let place = self.low + step * index as f64;
            if self.log { place.exp() } else { place }
        };
        let values: Vec<f64> = (0..=self.intervals).map(value).collect();
        let finest = values.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
        let digits = (-finest.log10().floor()).clamp(0.0, 6.0) as usize + usize::from(self.log);
        // The finest step may have one digit more, as in 2.5.
        let digits = if self.log || is_round(finest, digits) { digits } else { digits + 1 };
        values.iter().map(|value| format!("{value:.digits$}")).collect()
    }
}

fn is_round(value: f64, digits: usize) -> bool {
    let scaled = value * 10f64.powi(digits as i32);
    (scaled - scaled.round()).abs() < 1e-6
}

/// The least of 1, 2, 2.5 and 5 times a power of ten that is not below.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let times = [1.0, 2.0, 2.5, 5.0].into_iter().find(|times| times * power >= step * 0.999_999);
    times.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn falling(points: usize) -> Vec<(f64, f64)> {
        (0..points).map(|x| (x as f64, 2.0 + 8.0 * (-(x as f64) / 10.0).exp())).collect()
    }

    #[test]
    fn the_first_steps_do_not_pin_the_scale() {
        let curve = falling(1000);
        let [low, high] = Scale::of(&[&curve], false, false, 20).bounds();
        assert!((1.9..=2.0).contains(&low) && high < 3.0, "{low} {high}");
        let [_, high] = Scale::of(&[&curve], false, true, 20).bounds();
        assert!(high >= 10.0);
        let [_, high] = Scale::of(&[&curve[..10]], false, false, 20).bounds();
        assert!(high >= 10.0, "a short run has all of its steps");
    }

    #[test]
    fn labels_are_round_and_as_many_as_fit() {
        let scale = Scale::of(&[&[(0.0, 1.92), (1.0, 4.1)]], false, false, 20);
        assert_eq!(scale.labels(), ["1.5", "2.0", "2.5", "3.0", "3.5", "4.0", "4.5"]);
        let scale = Scale::of(&[&[(0.0, 1.92), (1.0, 4.1)]], false, false, 5);
        assert_eq!(scale.labels(), ["0", "2", "4", "6"]);
        let scale = Scale::of(&[&[(0.0, 0.001), (1.0, 0.0018)]], false, false, 12);
        assert_eq!(scale.labels(), ["0.0010", "0.0015", "0.0020"]);
    }

    #[test]
    fn any_values_have_a_scale() {
        for log in [false, true] {
            for values in [vec![], vec![0.0], vec![-3.0], vec![5.0, 5.0], vec![1e300, 1e-300]] {
                let points: Vec<_> = values.iter().map(|&y| (0.0, y)).collect();
                let scale = Scale::of(&[&points, &[]], log, false, 0);
                let [low, high] = scale.bounds();
                assert!(low < high && low.is_finite() && high.is_finite(), "{values:?} {scale:?}");
                assert!(scale.labels().len() >= 2);
                assert!(values.iter().all(|&value| scale.place(value).is_finite()));
            }
        }
    }
}
