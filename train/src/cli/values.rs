//! How the values of arguments are read, where their own types do not do it.

use crate::device::{DeviceChoice, DeviceError};
use crate::schedule::parse_count;

pub(super) fn parse_device(text: &str) -> Result<DeviceChoice, DeviceError> {
    text.parse()
}

/// A count of at least 1, as in 40K.
pub(super) fn parse_positive(text: &str) -> Result<u64, String> {
    parse_count(text)
        .and_then(|count| if count > 0 { Ok(count) } else { Err("it must be at least 1".into()) })
}

/// A count that may be 0, as in 40K, of what is in memory.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let count = parse_count(text)?;
    usize::try_from(count).map_err(|_| format!("{text:?} is more than can be counted"))
}

pub(super) fn parse_temperature(text: &str) -> Result<f64, String> {
    parse_number(text, |number| number >= 0.0, "a number of at least 0")
}

pub(super) fn parse_top_p(text: &str) -> Result<f64, String> {
    parse_number(text, |number| number > 0.0 && number <= 1.0, "a number above 0 and at most 1")
}

pub(super) fn parse_time(text: &str) -> Result<f64, String> {
    parse_number(text, |number| (0.0..=1e9).contains(&number), "a number from 0 to 1e9")
}

fn parse_number(text: &str, right: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && right(number) => Ok(number),
        _ => Err(format!("it must be {expected}")),
    }
}
