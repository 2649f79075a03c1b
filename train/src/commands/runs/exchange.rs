//! What the ranks that share experts sent each other over a run, and how much of the time that this
//! took was hidden, from its record alone.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::record::StepLine;

/// Sums over the steps of a run in which rows of experts travelled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchanged {
    steps: u32,
    /// In a node and between nodes, as they were sent.
    sent: [u64; 2],
    /// The same by a direct route.
    direct: [u64; 2],
    in_flight_seconds: f64,
    hidden_seconds: f64,
}

impl Exchanged {
    /// Adds a step.
    pub fn absorb(&mut self, step: &StepLine) {
        let Some(fast) = step.exchange_fast_bytes else { return };
        self.steps += 1;
        let bytes = |bytes: Option<u64>| bytes.unwrap_or(0);
        for (sum, bytes) in [
            (&mut self.sent, [fast, bytes(step.exchange_slow_bytes)]),
            (
                &mut self.direct,
                [step.exchange_direct_fast_bytes, step.exchange_direct_slow_bytes].map(bytes),
            ),
        ] {
            sum.iter_mut().zip(bytes).for_each(|(sum, bytes)| *sum += bytes);
        }
        self.in_flight_seconds += step.exchange_seconds.unwrap_or(0.0);
        self.hidden_seconds += step.exchange_hidden_seconds.unwrap_or(0.0);
    }

    /// The share of the time in flight that was hidden; none where there was no such time.
    fn hidden_share(&self) -> Option<f64> {
        (self.in_flight_seconds > 0.0).then(|| self.hidden_seconds / self.in_flight_seconds)
    }

    /// A table of bytes by link, and the hidden share; nothing of a run that exchanged nothing.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.steps == 0 {
            return text;
        }
        let steps = f64::from(self.steps);
        let mut row = |label: &str, name: &str, [fast, slow]: [u64; 2]| {
            let [fast, slow] = [fast, slow].map(|bytes| bytes as f64 / 1e6 / steps);
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{label:<12}{name:<23}{fast:>10.3} in a node {slow:>10.3} between nodes"
            );
        };
        row("exchange", "MB a step, sent", self.sent);
        row("", "straight to each expert", self.direct);
        if let Some(share) = self.hidden_share() {
            let _ = writeln!(
                text,
                "hidden      {:.0}% of {:.2} ms a step in flight: another micro-batch was computed",
                100.0 * share,
                1e3 * self.in_flight_seconds / steps
            );
        }
        text
    }

    /// The same for programs: bytes and seconds of a step; null of a run that exchanged nothing.
    pub fn results(&self) -> Value {
        if self.steps == 0 {
            return Value::Null;
        }
        let steps = f64::from(self.steps);
        let bytes = |[fast, slow]: [u64; 2]| {
            let of_step = |bytes: u64| bytes as f64 / steps;
            json!({ "fast_bytes": of_step(fast), "slow_bytes": of_step(slow) })
        };
        json!({
            "steps": self.steps,
            "sent": bytes(self.sent),
            "direct": bytes(self.direct),
            "in_flight_seconds": self.in_flight_seconds / steps,
            "hidden_seconds": self.hidden_seconds / steps,
            "hidden_share": self.hidden_share(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_averaged_and_others_left_out() {
        let mut exchanged = Exchanged::default();
        assert_eq!((exchanged.text().as_str(), exchanged.results()), ("", Value::Null));
        exchanged.absorb(&StepLine::default());
        assert_eq!(exchanged.results(), Value::Null);
        for (fast, hidden) in [(1_000_000, 0.5), (3_000_000, 0.0)] {
            exchanged.absorb(&StepLine {
                exchange_fast_bytes: Some(fast),
                exchange_slow_bytes: Some(500_000),
                exchange_direct_fast_bytes: Some(fast),
                exchange_direct_slow_bytes: Some(1_500_000),
                exchange_seconds: Some(1.0),
                exchange_hidden_seconds: Some(hidden),
                ..StepLine::default()
            });
        }
        let text = exchanged.text();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words[..11].join(" "), "exchange MB a step, sent 2.000 in a node 0.500 between");
        assert!(text.contains("hidden      25% of 1000.00 ms a step"), "{text}");
        let results = exchanged.results();
        assert_eq!(
            (&results["direct"]["slow_bytes"], &results["hidden_share"]),
            (&json!(1.5e6), &json!(0.25))
        );
    }
}
