//! `[schedule]` as it is written: each quantity a number, or a list of segments.

use std::fmt::{self, Write};

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::until::Until;

/// `[schedule]`: what changes in the course of a run (report, 4.2). What has a default follows the
/// report's beginning.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Learning rate.
    pub lr: Course,
    /// Sequences of one optimizer step; multiples of `train.micro_batch`, accumulated.
    pub global_batch: Course,
    /// What the balance bias moves by after a step: gamma (report, 2.1.2).
    #[serde(default = "default_bias_update_speed")]
    pub bias_update_speed: Course,
    /// Weight of the sequence-wise balance loss: alpha (report, 2.1.2).
    #[serde(default = "default_seq_aux_alpha")]
    pub seq_aux_alpha: Course,
    /// Weight of the MTP losses: lambda (report, 2.2).
    #[serde(default = "default_mtp_lambda")]
    pub mtp_lambda: Course,
}

fn default_bias_update_speed() -> Course {
    Course::Constant(1e-3)
}

fn default_seq_aux_alpha() -> Course {
    Course::Constant(1e-4)
}

fn default_mtp_lambda() -> Course {
    Course::Constant(0.3)
}

impl ScheduleConfig {
    /// The section as TOML, a line a segment: `toml` itself would give each segment a section of
    /// its own.
    pub fn to_toml(&self) -> String {
        let mut text = String::from("[schedule]\n");
        for (key, course) in [
            ("lr", &self.lr),
            ("global_batch", &self.global_batch),
            ("bias_update_speed", &self.bias_update_speed),
            ("seq_aux_alpha", &self.seq_aux_alpha),
            ("mtp_lambda", &self.mtp_lambda),
        ] {
            // Writing to a string does not fail.
            let _ = match course {
                Course::Constant(value) => writeln!(text, "{key} = {}", number(*value)),
                Course::Segments(segments) => {
                    let lines: String = segments
                        .iter()
                        .map(|segment| format!("    {},\n", segment.to_toml()))
                        .collect();
                    writeln!(text, "{key} = [\n{lines}]")
                }
            };
        }
        text
    }
}

/// The course of one quantity.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Course {
    /// One value all along.
    Constant(f64),
    /// One segment after the other; what the last one ends with stays.
    Segments(Vec<Segment>),
}

/// One part of a course: `at` a value, or from one value `to` another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Where it ends; the last one may leave it out, and ends with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// The value, where it does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
    /// The value it begins with; by default what the segment before ended with, or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<f64>,
    /// The value it ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<f64>,
    /// How it gets there; linearly by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
}

impl Segment {
    fn to_toml(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.until.map(|until| match until {
            Until::Tokens(tokens) if tokens < 1000 => format!("until = {tokens}"),
            until => format!("until = \"{until}\""),
        }));
        for (key, value) in [("at", self.at), ("from", self.from), ("to", self.to)] {
            parts.extend(value.map(|value| format!("{key} = {}", number(value))));
        }
        parts.extend(self.shape.map(|shape| match shape {
            Shape::Linear => "shape = \"linear\"".to_string(),
            Shape::Cosine => "shape = \"cosine\"".to_string(),
        }));
        format!("{{ {} }}", parts.join(", "))
    }
}

/// How a value gets from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// In equal steps.
    Linear,
    /// Along half a cosine: slowly, fast, slowly.
    Cosine,
}

impl<'de> Deserialize<'de> for Course {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = Course;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a number, or a list of segments as in \
                     [{ until = \"20 steps\", to = 1e-3 }, { at = 1e-3 }]",
                )
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Course, E> {
                Ok(Course::Constant(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Course, E> {
                Ok(Course::Constant(value as f64))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Course, E> {
                Ok(Course::Constant(value as f64))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Course, A::Error> {
                let mut segments = Vec::new();
                while let Some(segment) = list.next_element()? {
                    segments.push(segment);
                }
                Ok(Course::Segments(segments))
            }
        }
        deserializer.deserialize_any(Written)
    }
}

/// A number as TOML: small ones with an exponent, whole ones without a point.
fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        format!("{value:e}")
    } else if value.is_nan() {
        "nan".into()
    } else if value.fract() == 0.0 && value.abs() < 1e15 {
        format!("{value}")
    } else {
        format!("{value:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ScheduleConfig, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.to_string())
    }

    const TABLE: &str = r#"
lr = [
    { until = "2000 steps", to = 2.2e-4 },
    { until = "10T", at = 2.2e-4 },
    { until = 14_300_000_000_000, from = 2.0e-4, to = 2.2e-5, shape = "cosine" },
    { until = "99.5%", at = 1 },
    { at = 0.5 },
]
global_batch = 15360
"#;

    #[test]
    fn a_table_is_read_and_printed_and_read_again() {
        let schedule = read(TABLE).unwrap();
        let Course::Segments(segments) = &schedule.lr else { panic!("{schedule:?}") };
        assert_eq!(
            segments[0],
            Segment { until: Some(Until::Steps(2000)), to: Some(2.2e-4), ..Segment::default() }
        );
        assert_eq!(segments[2].until, Some(Until::Tokens(14_300_000_000_000)));
        assert_eq!((segments[3].until, segments[4].until), (Some(Until::Percent(99.5)), None));
        assert_eq!(schedule.global_batch, Course::Constant(15360.0));
        assert_eq!(schedule.mtp_lambda, Course::Constant(0.3));
        let printed = schedule.to_toml();
        for line in [
            "{ until = \"2000 steps\", to = 2.2e-4 },",
            "{ until = \"14.3T\", from = 2e-4, to = 2.2e-5, shape = \"cosine\" },",
        ] {
            assert!(printed.contains(line), "{line} not in\n{printed}");
        }
        assert!(printed.contains("global_batch = 15360\n"), "{printed}");
        let section: toml::Table = toml::from_str(&printed).unwrap();
        assert_eq!(section["schedule"].clone().try_into::<ScheduleConfig>().unwrap(), schedule);
        let json = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<ScheduleConfig>(&json).unwrap(), schedule);
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        for (lr, part) in [
            ("\"fast\"", "a number, or a list of segments"),
            ("true", "a number, or a list of segments"),
            ("[{ utnil = 3, at = 1 }]", "utnil"),
            ("[{ until = \"soon\", at = 1 }]", "\"40%\""),
            ("[{ until = -3, at = 1 }]", "at least 0"),
            ("[{ until = 1.5, at = 1 }]", "tokens as in 1000"),
            ("[{ until = \"1.5\", at = 1 }]", "\"10T\""),
            ("[{ until = 10, to = 1, shape = \"bumpy\" }]", "bumpy"),
        ] {
            let error = read(&format!("global_batch = 4\nlr = {lr}")).unwrap_err();
            assert!(error.contains(part), "{lr}: {error}");
        }
    }
}
