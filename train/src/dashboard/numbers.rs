//! Numbers as they go to a page: whole ones short, what is not finite as null.

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// The largest whole number that is exact in an f64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A number; what is not finite is null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if !value.is_finite() => serializer.serialize_none(),
            value if value.fract() == 0.0 && value.abs() < EXACT => {
                serializer.serialize_i64(value as i64)
            }
            value => serializer.serialize_f64(value),
        }
    }
}

/// A row or a column of numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(pub Vec<f64>);

/// Alike to the bit: what is no number is like itself.
impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        let bits = |numbers: &Self| numbers.0.iter().map(|number| number.to_bits()).collect();
        let (own, others): (Vec<u64>, Vec<u64>) = (bits(self), bits(other));
        own == others
    }
}

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_seq(Some(self.0.len()))?;
        for &value in &self.0 {
            all.serialize_element(&Number(value))?;
        }
        all.end()
    }
}

/// A number where it is finite.
pub(super) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_short_and_others_exact() {
        let numbers =
            Numbers(vec![1.0, -2.0, 0.1, f64::NAN, f64::INFINITY, 1e300, 8.1e15, 1.0 / 3.0]);
        let text = serde_json::to_string(&numbers).unwrap();
        assert_eq!(text, "[1,-2,0.1,null,null,1e+300,8100000000000000,0.3333333333333333]");
    }
}
