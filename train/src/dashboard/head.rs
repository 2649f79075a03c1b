//! What a line of a record is, from its first few keys: a long record is gone through without
//! reading its rows of experts.

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::record::VERSION;

/// The kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Step,
    Evaluation,
    Sample,
    Alert,
    System,
}

/// What a line begins with.
#[derive(Debug, PartialEq)]
pub(super) struct Head<'a> {
    pub kind: Kind,
    pub time: &'a str,
    pub step: u64,
    /// Of a step its loss; no number where it was none.
    pub loss: f64,
}

/// What has been met of a head.
#[derive(Default)]
struct Met<'a> {
    kind: Option<Kind>,
    version: Option<u32>,
    time: Option<&'a str>,
    step: Option<u64>,
    loss: Option<f64>,
}

impl<'a> Head<'a> {
    /// The head of a line; none of what is no line of a record. What comes after the head is not
    /// looked at.
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let mut met = Met::default();
        // A head that is whole ends the reading, which the rest of the line then makes an error.
        let _ = serde_json::Deserializer::from_slice(line).deserialize_map(Meeting(&mut met));
        if met.version != Some(VERSION) || !met.is_whole() {
            return None;
        }
        Some(Self {
            kind: met.kind?,
            time: met.time?,
            step: met.step?,
            loss: met.loss.unwrap_or(f64::NAN),
        })
    }
}

impl Met<'_> {
    fn is_whole(&self) -> bool {
        let stamped = self.version.is_some() && self.time.is_some() && self.step.is_some();
        stamped && self.kind.is_some_and(|kind| kind != Kind::Step || self.loss.is_some())
    }
}

struct Meeting<'m, 'a>(&'m mut Met<'a>);

impl<'a> Visitor<'a> for Meeting<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a line of a record")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let met = self.0;
        while !met.is_whole()
            && let Some(key) = map.next_key::<std::borrow::Cow<'a, str>>()?
        {
            match &*key {
                "kind" => {
                    met.kind = match map.next_value::<&str>()? {
                        "step" => Some(Kind::Step),
                        "evaluation" => Some(Kind::Evaluation),
                        "sample" => Some(Kind::Sample),
                        "alert" => Some(Kind::Alert),
                        "system" => Some(Kind::System),
                        _ => return Ok(()),
                    }
                }
                "version" => met.version = Some(map.next_value()?),
                "time" => met.time = Some(map.next_value()?),
                "step" => met.step = Some(map.next_value()?),
                "loss" => {
                    met.loss = Some(map.next_value::<Option<f64>>()?.unwrap_or(f64::NAN));
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Line, Stamp, StepLine};

    #[test]
    fn a_head_is_that_of_the_line() {
        let stamp = Stamp { version: VERSION, step: 7, time: "t".into(), ..Stamp::default() };
        let written = |loss: f64| {
            let line = StepLine { stamp: stamp.clone(), loss, ..StepLine::default() };
            serde_json::to_string(&Line::Step(line)).unwrap()
        };
        let text = written(2.5);
        let head = Head::of(text.as_bytes()).unwrap();
        assert_eq!(head, Head { kind: Kind::Step, time: "t", step: 7, loss: 2.5 });
        // What follows is not looked at.
        let cut = &text[..text.find("\"loss\":2.5").unwrap() + 11];
        assert_eq!(Head::of(cut.as_bytes()).unwrap(), head);
        assert!(Head::of(written(f64::NAN).as_bytes()).unwrap().loss.is_nan());
    }

    #[test]
    fn what_is_no_line_has_no_head() {
        let of = |text: &str| text.replace("VERSION", &VERSION.to_string());
        let good = of(r#"{"kind":"alert","version":VERSION,"time":"t","step":1}"#);
        assert!(Head::of(good.as_bytes()).is_some());
        for text in [
            "",
            "{",
            "[1]",
            r#"{"kind":"step","version":VERSION,"time":"t","step":1}"#,
            r#"{"kind":"dream","version":VERSION,"time":"t","step":1,"loss":1}"#,
            r#"{"kind":"alert","version":99,"time":"t","step":1}"#,
            r#"{"kind":"alert","time":"t","step":1}"#,
            r#"{"kind":"alert","version":VERSION,"time":"t","step":-1}"#,
            "\u{0}\u{0}",
        ] {
            let text = of(text);
            assert_eq!(Head::of(text.as_bytes()), None, "{text}");
        }
    }
}
