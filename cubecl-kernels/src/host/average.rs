//! The running mean of weights that evaluation may prefer to the weights themselves.

use super::parallel::for_each_of;
use super::simd::{madd, multiversion};
use crate::definition::{KernelError, check_length};

/// Elements that one task averages.
const ELEMENTS_A_TASK: usize = 1 << 15;

/// Takes one step of an exponential moving average, in place: `average += rate (value - average)`.
///
/// # Shapes
/// - both of the same length
///
/// # Errors
/// [`KernelError::Length`] naming the argument, [`KernelError::Invalid`] where `rate` is not from 0
/// to 1.
///
/// Source: technical report 3.2.3.
pub fn average_into(average: &mut [f32], value: &[f32], rate: f32) -> Result<(), KernelError> {
    check_length("average_into", "value", value.len(), &[average.len()])?;
    if !(0.0..=1.0).contains(&rate) {
        return Err(KernelError::Invalid {
            op: "average_into",
            argument: "rate",
            requirement: "must be from 0 to 1",
        });
    }
    let work = average.len().saturating_mul(2);
    let parts = average.chunks_mut(ELEMENTS_A_TASK).zip(value.chunks(ELEMENTS_A_TASK)).collect();
    for_each_of(parts, work, |(average, value)| approach(average, value, rate));
    Ok(())
}

multiversion! {
    fn approach(average: &mut [f32], value: &[f32], rate: f32) {
        for (average, &value) in average.iter_mut().zip(value) {
            *average = madd::<S>(rate, value - *average, *average);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::test_inputs::{assert_close, assert_thread_independent, random, widen};

    fn check(len: usize, rate: f32) {
        let mut average = random(1, len);
        let mut exact = widen(&average);
        for step in 0..4 {
            let value = random(2 + step, len);
            average_into(&mut average, &value, rate).unwrap();
            reference::average_into(&mut exact, &widen(&value), f64::from(rate));
        }
        assert_close("average", &average, &exact, 1e-6);
    }

    #[test]
    fn hard_edges() {
        for len in [0, 1, 15, 16, 17, 40_000] {
            for rate in [0.0, 1e-3, 0.5, 1.0] {
                check(len, rate);
            }
        }
        let mut average = [1.0, 2.0, 0.0];
        average_into(&mut average, &[f32::NAN, f32::INFINITY, 4.0], 0.25).unwrap();
        assert!(average[0].is_nan());
        assert_eq!(average[1..], [f32::INFINITY, 1.0]);
    }

    proptest::proptest! {
        #[test]
        fn random_lengths_and_rates(len in 0usize..300, rate in 0f32..1.0) {
            check(len, rate);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (start, value) = (random(1, 300_001), random(2, 300_001));
        assert_thread_independent("average_into", || {
            let mut average = start.clone();
            average_into(&mut average, &value, 1e-3).unwrap();
            vec![average]
        });
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert!(matches!(
            average_into(&mut [0.0; 2], &[0.0; 3], 0.5),
            Err(KernelError::Length { argument: "value", .. })
        ));
        for rate in [-0.1, 1.1, f32::NAN] {
            assert!(matches!(
                average_into(&mut [0.0], &[0.0], rate),
                Err(KernelError::Invalid { argument: "rate", .. })
            ));
        }
    }
}
