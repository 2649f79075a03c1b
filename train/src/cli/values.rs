//! How the values of arguments are read, where their own types do not do it.

use crate::config::Format;
use crate::device::{DeviceChoice, DeviceError};
use crate::microscope::{BiasMove, ExpertOf};
use crate::schedule::parse_count;

pub(super) fn parse_device(text: &str) -> Result<DeviceChoice, DeviceError> {
    text.parse()
}

/// What linears compute in; `fp32` is `f32` too.
pub(super) fn parse_format(text: &str) -> Result<Format, String> {
    match text {
        "f32" | "fp32" => Ok(Format::F32),
        "bf16" => Ok(Format::Bf16),
        "fp8" => Ok(Format::Fp8),
        _ => Err("it must be f32, bf16 or fp8".into()),
    }
}

/// An expert of a layer, as in `3:17`.
pub(super) fn parse_expert(text: &str) -> Result<ExpertOf, String> {
    let parsed = text.split_once(':').and_then(|(layer, expert)| {
        Some(ExpertOf { layer: layer.parse().ok()?, expert: expert.parse().ok()? })
    });
    parsed.ok_or("it must be a layer and an expert, as in 3:17".into())
}

/// What is added to the bias of an expert, as in `3:17:-0.05`.
pub(super) fn parse_bias(text: &str) -> Result<BiasMove, String> {
    let parsed = text.rsplit_once(':').and_then(|(of, delta)| {
        let ExpertOf { layer, expert } = parse_expert(of).ok()?;
        let delta: f32 = delta.parse().ok()?;
        delta.is_finite().then_some(BiasMove { layer, expert, delta })
    });
    parsed.ok_or("it must be a layer, an expert and a number, as in 3:17:-0.05".into())
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

/// A count from 1 on, as in 40K, of what is in memory.
pub(super) fn parse_positive_size(text: &str) -> Result<usize, String> {
    parse_positive(text)?;
    parse_size(text)
}

/// Bytes, with a unit or none: `5GB`, `500MB`, `2GiB`.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let unit = UNITS.iter().find_map(|(unit, bytes)| {
        let split = text.len().checked_sub(unit.len())?;
        let (number, ending) = text.split_at_checked(split)?;
        ending.eq_ignore_ascii_case(unit).then_some((number.trim_end(), *bytes))
    });
    let (number, bytes) = unit.unwrap_or((text, 1));
    let size = number.parse::<f64>().ok().map(|number| number * bytes as f64);
    size.filter(|size| (1.0..1e18).contains(size))
        .map(|size| size as u64)
        .ok_or("it must be a number of bytes, as in 5GB, 500MB or 2GiB".into())
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
