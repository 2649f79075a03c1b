//! Which of many steps are shown: a curve of some thousand points has the spikes of all of them.

/// The indices of at most about `points` of `values`, in order: of each bucket of equal size the
/// lowest and the highest, and the first and the last of all. What is no number counts as highest.
pub(super) fn extremes(count: usize, points: usize, value: impl Fn(usize) -> f32) -> Vec<usize> {
    if count <= points.max(2) {
        return (0..count).collect();
    }
    let buckets = (points / 2).max(1);
    let key = |index: usize| {
        let value = value(index);
        if value.is_nan() { f32::INFINITY } else { value }
    };
    let mut picked = vec![0];
    for bucket in 0..buckets {
        let (begin, end) = (bucket * count / buckets, (bucket + 1) * count / buckets);
        let low = (begin..end).min_by(|&a, &b| key(a).total_cmp(&key(b)));
        let high = (begin..end).max_by(|&a, &b| key(a).total_cmp(&key(b)));
        let (Some(low), Some(high)) = (low, high) else { continue };
        picked.extend([low.min(high), low.max(high)]);
    }
    picked.push(count - 1);
    picked.dedup();
    picked
}

/// The indices of at most `points` of `count` things, the first and the last among them, evenly
/// spread.
pub(super) fn evenly(count: usize, points: usize) -> Vec<usize> {
    if count <= points {
        return (0..count).collect();
    }
    match points {
        0 => Vec::new(),
        1 => vec![count - 1],
        _ => (0..points).map(|point| point * (count - 1) / (points - 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes_and_ends_stay() {
        let mut values = vec![1.0_f32; 10_000];
        (values[1234], values[7777], values[5000]) = (9.0, -3.0, f32::NAN);
        let picked = extremes(values.len(), 100, |index| values[index]);
        for index in [0, 1234, 5000, 7777, 9999] {
            assert!(picked.contains(&index), "{index}: {picked:?}");
        }
        assert!(picked.len() <= 102 && picked.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(extremes(3, 100, |_| 0.0), [0, 1, 2]);
        assert_eq!(extremes(0, 100, |_| 0.0), [0; 0]);
        assert!(extremes(10, 0, |index| index as f32).len() >= 2);
    }

    #[test]
    fn even_picks_have_both_ends() {
        assert_eq!(evenly(10, 4), [0, 3, 6, 9]);
        assert_eq!(evenly(3, 4), [0, 1, 2]);
        assert_eq!((evenly(9, 1), evenly(9, 0)), (vec![8], vec![]));
    }
}
