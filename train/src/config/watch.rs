//! `[metrics]` and `[alerts]`: what a run records of itself, and what it calls out.

use serde::{Deserialize, Serialize};
use ureq::http::Uri;

/// `[metrics]`: how much is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Steps from one line with the loads of every expert and with what the machine has to give to
    /// the next; at least 1.
    pub every: u64,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { every: 10 }
    }
}

/// `[alerts]`: rules that are looked at after every step and evaluation. An alert is raised when
/// its rule begins to hold, and again only after it has not held in between. 0 turns a rule off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Where alerts are posted to, besides the record: an address of `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Steps that the rules look back over; at least 2.
    pub window: usize,
    /// Standard deviations that a step's loss may be above the mean of the window (warning).
    pub loss_spike: f64,
    /// Nats that the mean loss of the window may be above its least so far (error).
    pub loss_rise: f64,
    /// Evaluations in a row that may be above the best one (warning).
    pub valid_rise: u64,
    /// Share of the largest violation there can be that a layer may have over the window (warning).
    pub expert_violation: f64,
    /// Recorded loads in a row in which an expert may have no token (warning).
    pub dead_experts: usize,
    /// Share of its median speed over the window that a run may lose (warning).
    pub throughput_drop: f64,
    /// Share of the values of a kind that casts to FP8 may clip in a recorded step (warning).
    pub fp8_saturation: f64,
    /// How many times as long as the median of the others a rank may compute, in the recorded steps
    /// of a row (warning).
    pub lagging_rank: f64,
    /// Gigabytes (10^9 bytes) that are to be left on the disk of the run (error).
    pub disk_free_gb: f64,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            webhook: None,
            window: 50,
            loss_spike: 6.0,
            loss_rise: 0.5,
            valid_rise: 3,
            expert_violation: 0.8,
            dead_experts: 10,
            throughput_drop: 0.5,
            fp8_saturation: 1e-4,
            lagging_rank: 2.0,
            disk_free_gb: 1.0,
        }
    }
}

impl AlertsConfig {
    /// The same as it may be shown to others: the address of the webhook ends with its host.
    pub fn shown(&self) -> Self {
        let webhook = self.webhook.as_ref().map(|address| match address.parse() {
            Ok(uri) => told_address(&uri) + "/...",
            Err(_) => "...".into(),
        });
        Self { webhook, ..self.clone() }
    }
}

/// Whether a text is an address of http or https.
pub(super) fn is_web_address(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    })
}

/// An address as it may be told. The rest of it often is what lets one post.
pub fn told_address(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let port = uri.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{host}{port}", uri.scheme_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let shown = |address: &str| {
            let config = AlertsConfig { webhook: Some(address.into()), ..Default::default() };
            config.shown().webhook.unwrap()
        };
        assert_eq!(
            shown("https://user:word@hooks.example.com/a/b?c=d"),
            "https://hooks.example.com/..."
        );
        assert_eq!(shown("http://[::1]:8080/x"), "http://[::1]:8080/...");
        assert_eq!(shown("no address"), "...");
    }

    #[test]
    fn only_web_addresses_are_taken() {
        for (address, taken) in [
            ("http://127.0.0.1:9/x", true),
            ("https://hooks.example.com", true),
            ("ftp://example.com/x", false),
            ("example.com/x", false),
            ("https://", false),
            ("", false),
        ] {
            assert_eq!(is_web_address(address), taken, "{address}");
        }
    }
}
