//! Points of a curve, and how many of them, in which range, are drawn.

use crate::commands::smoothing::smoothed;

/// Pieces that a long curve is cut into; of each its lowest and its highest point are drawn.
const PIECES: usize = 300;
/// Share of the points that may lie above the range of a panel, and the same below: spikes.
const OUTSIDE: f64 = 0.005;

/// Points of a curve, from left to right; their values are finite.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// Those of the points whose values are finite.
    pub fn new(points: impl Iterator<Item = (f64, f64)>) -> Self {
        Self { points: points.filter(|(_, value)| value.is_finite()).collect() }
    }

    /// The same smoothed, the more the longer it is.
    pub fn smoothed(&self) -> Self {
        let window = (self.points.len() as f64 / 60.0).clamp(1.0, 200.0);
        let values: Vec<f64> = self.points.iter().map(|&(_, value)| value).collect();
        let values = smoothed(&values, 1.0 - 1.0 / window);
        let at = self.points.iter().map(|&(at, _)| at);
        Self { points: at.zip(values).collect() }
    }

    /// No more points than can be seen, with every spike among them.
    pub fn thinned(&self) -> Vec<(f64, f64)> {
        let points = &self.points;
        if points.len() <= 2 * PIECES {
            return points.clone();
        }
        let mut kept = vec![points[0]];
        for piece in points[1..points.len() - 1].chunks(points.len().div_ceil(PIECES)) {
            let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let (low, high) = (piece.iter().min_by(by_value), piece.iter().max_by(by_value));
            let mut both: Vec<(f64, f64)> = low.into_iter().chain(high).copied().collect();
            both.sort_by(|a, b| a.0.total_cmp(&b.0));
            both.dedup();
            kept.extend(both);
        }
        kept.push(points[points.len() - 1]);
        kept
    }
}

/// The range that several curves are shown in: of all their values but for the spikes, with some
/// room; from 0 where they are not far from it.
pub(super) fn range<'a>(series: impl Iterator<Item = &'a Series>) -> Option<(f64, f64)> {
    let mut values: Vec<f64> =
        series.flat_map(|series| series.points.iter().map(|&(_, value)| value)).collect();
    values.sort_unstable_by(f64::total_cmp);
    let cut = (values.len() as f64 * OUTSIDE) as usize;
    let (low, high) = (*values.get(cut)?, *values.get(values.len().checked_sub(1 + cut)?)?);
    let room = match high - low {
        0.0 => 0.1 * high.abs().max(1e-9),
        width => 0.06 * width,
    };
    let near = low >= 0.0 && low < 0.5 * high;
    Some((if near { 0.0 } else { low - room }, high + room))
}

/// The range of losses: from the lowest to where the highest of the curves is after a thirtieth of
/// its steps, since the first steps would leave no room for the rest.
pub(super) fn loss_range(curves: &[&Series]) -> Option<(f64, f64)> {
    let settled = curves.iter().filter_map(|curve| curve.points.get(curve.points.len() / 30));
    let mut high = settled.map(|&(_, value)| value).reduce(f64::max)?;
    let values = curves.iter().flat_map(|series| series.points.iter().map(|&(_, value)| value));
    let mut low = values.fold(high, f64::min);
    if high - low < 1e-3 {
        (low, high) = (low - 5e-4, high + 5e-4);
    }
    let room = 0.06 * (high - low);
    Some((low - room, high + room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_ends_and_its_spikes() {
        let value = |at: usize| if at == 7777 { 99.0 } else { (at % 10) as f64 };
        let series = Series::new((0..20_000).map(|at| (at as f64, value(at))));
        let thin = series.thinned();
        assert!(thin.len() <= 2 * PIECES + 2, "{}", thin.len());
        assert_eq!((thin[0], *thin.last().unwrap()), ((0.0, 0.0), (19_999.0, 9.0)));
        assert!(thin.contains(&(7777.0, 99.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_short_curve_is_drawn_as_it_is() {
        let series = Series::new([(1.0, 2.0), (2.0, f64::NAN), (3.0, 4.0)].into_iter());
        assert_eq!(series.points, [(1.0, 2.0), (3.0, 4.0)]);
        assert_eq!(series.thinned(), series.points);
        assert_eq!(series.smoothed().points, series.points);
    }

    #[test]
    fn ranges_leave_spikes_and_first_steps_out() {
        let mut points: Vec<(f64, f64)> = (0..1000).map(|at| (at as f64, 5.0)).collect();
        points[500].1 = 1e9;
        points[0].1 = 4.0;
        assert_eq!(range([Series { points: points.clone() }].iter()).unwrap(), (4.5, 5.5));
        let falls = Series::new((0..300).map(|at| (at as f64, 10.0 / (1.0 + at as f64))));
        let (low, high) = loss_range(&[&falls]).unwrap();
        assert!(low < 10.0 / 300.0 && high < 1.0, "{low} {high}");
        assert_eq!(range([].iter()), None);
        assert!(loss_range(&[&Series::default()]).is_none());
    }
}
