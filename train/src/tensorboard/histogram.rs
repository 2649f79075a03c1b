//! Loads of experts as histograms.

use super::messages::Histogram;

/// Intervals of a histogram of values.
const BUCKETS: usize = 30;

/// How the experts of a layer differ: a histogram of their loads over the mean load (1 is even).
/// None where no token chose any.
pub(super) fn of_loads(loads: &[u64]) -> Option<Histogram> {
    let total: u64 = loads.iter().sum();
    let mean = total as f64 / loads.len() as f64;
    let values: Vec<f64> = loads.iter().map(|&load| load as f64 / mean).collect();
    if total > 0 { of_values(&values) } else { None }
}

/// A histogram of finite values; none without any.
pub(super) fn of_values(values: &[f64]) -> Option<Histogram> {
    let low = values.iter().copied().reduce(f64::min)?;
    let high = values.iter().copied().reduce(f64::max)?;
    let (from, width, count) = if low < high {
        (low, (high - low) / BUCKETS as f64, BUCKETS)
    } else {
        (low - 0.5, 1.0, 1)
    };
    let mut bucket = vec![0.0; count];
    for value in values {
        let index = ((value - from) / width) as usize;
        bucket[index.min(count - 1)] += 1.0;
    }
    let right = |index: usize| if index == BUCKETS { high } else { from + width * index as f64 };
    Some(Histogram {
        // Of equal values the ends of the interval that holds them.
        min: from,
        max: right(count),
        num: values.len() as f64,
        sum: values.iter().sum(),
        sum_squares: values.iter().map(|value| value * value).sum(),
        bucket_limit: (1..=count).map(right).collect(),
        bucket,
    })
}

/// Which experts the tokens of a layer chose: a histogram over the experts' indices, expert `e`
/// from `e` to `e + 1`. None where no token chose any.
pub(super) fn of_choices(loads: &[u64]) -> Option<Histogram> {
    let chosen = || loads.iter().enumerate().filter(|&(_, &load)| load > 0);
    let (first, last) = (chosen().next()?.0, chosen().next_back()?.0);
    let sum = |of: fn(f64) -> f64| -> f64 {
        chosen().map(|(expert, &load)| of(expert as f64) * load as f64).sum()
    };
    Some(Histogram {
        // Readers take these for the ends of what is not empty.
        min: first as f64,
        max: (last + 1) as f64,
        num: sum(|_| 1.0),
        sum: sum(|expert| expert),
        sum_squares: sum(|expert| expert * expert),
        bucket_limit: (1..=loads.len()).map(|limit| limit as f64).collect(),
        bucket: loads.iter().map(|&load| load as f64).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_counted_over_their_mean() {
        let histogram = of_loads(&[0, 10, 10, 20]).unwrap();
        assert_eq!((histogram.min, histogram.max, histogram.num), (0.0, 2.0, 4.0));
        assert_eq!((histogram.sum, histogram.sum_squares), (4.0, 6.0));
        assert_eq!(histogram.bucket.iter().sum::<f64>(), 4.0);
        assert_eq!((histogram.bucket[0], histogram.bucket[15], histogram.bucket[29]), (1., 2., 1.));
        assert_eq!(histogram.bucket_limit.last(), Some(&2.0));
        let even = of_loads(&[7, 7]).unwrap();
        assert_eq!((even.bucket, even.bucket_limit), (vec![2.0], vec![1.5]));
        assert_eq!((even.min, even.max), (0.5, 1.5));
        assert_eq!(of_loads(&[0, 0]), None);
        assert_eq!(of_loads(&[]), None);
    }

    #[test]
    fn choices_are_counted_by_expert() {
        let histogram = of_choices(&[0, 3, 0, 5, 0]).unwrap();
        assert_eq!((histogram.min, histogram.max, histogram.num), (1.0, 4.0, 8.0));
        assert_eq!((histogram.sum, histogram.sum_squares), (18.0, 48.0));
        assert_eq!(histogram.bucket, [0.0, 3.0, 0.0, 5.0, 0.0]);
        assert_eq!(histogram.bucket_limit, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(of_choices(&[0]), None);
    }
}
