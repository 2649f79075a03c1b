//! Where a segment of a course ends: in tokens, steps or percent of the run.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::count::{format_count, parse_count};

/// Where a segment ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    /// After so many trained tokens: `"10T"`.
    Tokens(u64),
    /// After so many steps: `"2000 steps"`.
    Steps(u64),
    /// After so many percent of the run's tokens: `"40%"`.
    Percent(f64),
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(tokens) => f.write_str(&format_count(*tokens)),
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl std::str::FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let wrong = || {
            format!(
                "until = {text:?} must be tokens as in \"10T\", or as in \"2000 steps\", or a \
                 share of the run as in \"40%\""
            )
        };
        if let Some(percent) = trimmed.strip_suffix('%') {
            return percent.trim().parse().map(Self::Percent).map_err(|_| wrong());
        }
        match trimmed.strip_suffix("steps").or_else(|| trimmed.strip_suffix("step")) {
            Some(steps) => parse_count(steps).map(Self::Steps).map_err(|_| wrong()),
            None => parse_count(trimmed).map(Self::Tokens).map_err(|_| wrong()),
        }
    }
}

impl Serialize for Until {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Until;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "tokens as in 1000 or \"10T\", or \"2000 steps\", or a share of the \
                     run as in \"40%\"",
                )
            }

            fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<Until, E> {
                Ok(Until::Tokens(tokens))
            }

            fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<Until, E> {
                let negative = |_| E::custom(format!("until = {tokens} must be at least 0"));
                u64::try_from(tokens).map(Until::Tokens).map_err(negative)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Until, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Written)
    }
}
