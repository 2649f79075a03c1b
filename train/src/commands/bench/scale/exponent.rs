//! How one quantity grows with another.

/// The exponent `p` of `y ~ x^p` between two points `(x, y)`: `ln(y2 / y1) / ln(x2 / x1)`. None
/// where one of the numbers is not above 0 and finite, or both points have one `x`.
pub(super) fn exponent(from: (f64, f64), to: (f64, f64)) -> Option<f64> {
    let numbers = [from.0, from.1, to.0, to.1];
    if !numbers.iter().all(|number| number.is_finite() && *number > 0.0) {
        return None;
    }
    let slope = (to.1 / from.1).ln() / (to.0 / from.0).ln();
    slope.is_finite().then_some(slope)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn powers_have_their_exponent() {
        assert_eq!(exponent((2.0, 10.0), (4.0, 10.0)), Some(0.0));
        assert_eq!(exponent((2.0, 10.0), (4.0, 20.0)), Some(1.0));
        assert_eq!(exponent((2.0, 10.0), (8.0, 160.0)), Some(2.0));
        assert_eq!(exponent((8.0, 160.0), (2.0, 10.0)), Some(2.0));
        assert_eq!(exponent((2.0, 20.0), (4.0, 10.0)), Some(-1.0));
    }

    #[test]
    fn what_has_no_exponent_has_none() {
        for (from, to) in [
            ((0.0, 1.0), (2.0, 1.0)),
            ((1.0, 0.0), (2.0, 1.0)),
            ((1.0, 1.0), (2.0, f64::NAN)),
            ((1.0, 1.0), (f64::INFINITY, 1.0)),
            ((1.0, -1.0), (2.0, 1.0)),
            ((2.0, 1.0), (2.0, 3.0)),
            ((2.0, 1.0), (2.0, 1.0)),
        ] {
            assert_eq!(exponent(from, to), None, "{from:?} {to:?}");
        }
    }

    proptest! {
        #[test]
        fn any_power_is_found(
            x in 1e-3f64..1e3, ratio in 1.5f64..64.0, scale in 1e-6f64..1e6, p in -3.0f64..3.0
        ) {
            let y = |x: f64| scale * x.powf(p);
            let found = exponent((x, y(x)), (ratio * x, y(ratio * x))).unwrap();
            prop_assert!((found - p).abs() < 1e-9, "{found} {p}");
        }
    }
}
